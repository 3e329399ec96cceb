"""Telling many calls something at once: all that fulfil a condition, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, Protocol, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from fenbu._core import ids, limit
from fenbu._core.fork import forked, place_of
from fenbu._core.message import Cancel, Pause, Restore, Retry
from fenbu._core.model import FINISHED, PARKED, Invocation, Loaded, Outcome, Status
from fenbu._core.update import HANDLER
from fenbu._node.clock import Clock
from fenbu._storage.observer import CallFilter, Lister, pages_of
from fenbu._storage.protocol import Open
from fenbu.errors import UsageError

Action: TypeAlias = Literal["cancel", "terminate", "retry", "pause", "resume", "fork"]
Told: TypeAlias = Cancel | Retry | Pause | Restore

OPEN: Final = frozenset(Status) - FINISHED

APPLIES: Final[dict[Action, frozenset[Status]]] = {
    "cancel": OPEN,
    "terminate": OPEN,
    "retry": frozenset(
        {Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.STUCK, Status.QUARANTINED}
    ),
    "pause": frozenset({Status.PENDING, Status.RUNNING, Status.SUSPENDED}),
    "resume": frozenset({Status.PAUSED}),
    "fork": FINISHED | PARKED,
}
"""The calls to which each means something."""

UNASKED: Final[dict[Action, frozenset[Status]]] = {
    "retry": frozenset({Status.CANCELLED}),
    "fork": PARKED | {Status.COMPLETED, Status.CANCELLED},
}
"""Those among them that nobody would want to be told by mistake: only if they are asked for."""


class Calls(Lister, Protocol):
    """What is asked of a database."""

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        """Calls with their journals."""
        ...

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        """Those of the calls that exist, or are on their way."""
        ...


class Forks(Struct, frozen=True):
    """How calls are forked."""

    clock: Clock
    partition_count: int
    step: int | str | None = None


class Steered(Struct):
    """How many calls were told, and how many were left out because they had been forked before."""

    told: int = 0
    forked_before: int = 0


def narrowed(action: Action, where: CallFilter) -> CallFilter:
    """The condition, with the statuses to which the action means something.

    Raises:
        UsageError: There is no such action, or it means nothing to these statuses.
    """
    if action not in get_args(Action):
        raise UsageError(f"action must be one of {', '.join(get_args(Action))}, not {action!r}")
    if where.statuses is None:
        statuses = APPLIES[action] - UNASKED.get(action, frozenset())
    else:
        statuses = APPLIES[action] & frozenset(where.statuses)
    if not statuses:
        words = ", ".join(sorted(APPLIES[action]))
        raise UsageError(f"{action} is for calls that are {words}")
    return replace(where, statuses=tuple(sorted(statuses)), limit=limit.BULK_CALLS)


async def steer(
    action: Action,
    where: CallFilter,
    *,
    reason: str,
    calls: Calls,
    forks: Forks,
    send: Callable[[Sequence[Told]], Awaitable[None]],
    progress: Callable[[int], None] | None = None,
) -> Steered:
    """Tell each call. What has been told is durable, also if this is interrupted, and may be told again.

    A fork's id is made of the run that is forked and the command from which on it goes on: so there is one.

    Raises:
        UsageError: The action means nothing to these calls, or has no use for a step or reason that is given.
    """
    if forks.step is not None and action != "fork":
        raise UsageError(f"step is for fork: {action} is about whole calls")
    if reason and action not in ("cancel", "terminate", "pause"):
        raise UsageError(f"reason is for cancel, terminate and pause: a {action} keeps none")
    done = Steered()
    async for page in pages_of(calls, narrowed(action, where)):
        some = [each for each in page if _can(action, each)]
        if action == "fork":
            loaded = await calls.load_calls([each.id for each in some])
            made = [each for each in (_fork(forks, each) for each in loaded) if each is not None]
            there = await calls.outcomes([each.id for each in made])
            messages: list[Told] = [each for each in made if each.id not in there]
            done.forked_before += len(made) - len(messages)
        else:
            count = forks.partition_count
            messages = [message_for(action, each, reason, count) for each in some]
        if messages:
            await send(messages)
        done.told += len(messages)
        if progress is not None:
            progress(done.told)
    return done


def _can(action: Action, call: Invocation) -> bool:
    """Updates are their workflow's, and operations can be neither paused nor forked."""
    return call.handler != HANDLER and not (action in ("pause", "fork") and call.key is not None)


def _fork(forks: Forks, loaded: Loaded) -> Restore | None:
    """What makes another call of one; None of one that cannot be forked, such as a task."""
    call = loaded.invocation
    try:
        place = place_of(loaded, forks.step)
        id_ = ids.fork_id(ids.run_id(call.id, call.attempt), place)
        made, _ = forked(
            loaded, step=place, results={}, id_=id_, partition_count=forks.partition_count,
            now=forks.clock.now(),
        )  # fmt: skip
    except UsageError:
        return None
    return made


def message_for(action: Action, call: Invocation, reason: str, partition_count: int) -> Told:
    """What a call is told."""
    to = call.home(partition_count)
    match action:
        case "cancel":
            return Cancel(to, call.id, reason or "cancelled")
        case "terminate":
            return Cancel(to, call.id, reason or "terminated", at_once=True)
        case "retry":
            return Retry(to, call.id, parked=call.status in PARKED)
        case "pause":
            return Pause(to, call.id, reason)
        case "resume":
            return Pause(to, call.id, resumes=True)
        case "fork":
            raise AssertionError(call)
