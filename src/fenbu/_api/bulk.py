"""Telling many calls something at once: all that fulfil a condition, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, Protocol, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from fenbu._core import limit
from fenbu._core.fork import forked
from fenbu._core.ids import invocation_id
from fenbu._core.message import Cancel, Pause, Restore, Retry
from fenbu._core.model import FINISHED, PARKED, Invocation, Loaded, Status
from fenbu._core.update import HANDLER
from fenbu._node.clock import Clock
from fenbu._storage.observer import CallFilter, Lister, pages_of
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


class Forks(Struct, frozen=True):
    """How calls are forked."""

    clock: Clock
    partition_count: int
    step: int | str | None = None


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
) -> int:
    """Tell each call; how many there were. What has been told is durable, also if this is interrupted."""
    told = 0
    async for page in pages_of(calls, narrowed(action, where)):
        some = [each for each in page if _can(action, each)]
        if action == "fork":
            loaded = await calls.load_calls([each.id for each in some])
            made = [_fork(forks, each) for each in loaded]
            messages: list[Told] = [each for each in made if each is not None]
        else:
            messages = [message_for(action, each, reason) for each in some]
        if messages:
            await send(messages)
        told += len(messages)
        if progress is not None:
            progress(told)
    return told


def _can(action: Action, call: Invocation) -> bool:
    """Updates are their workflow's, and operations can be neither paused nor forked."""
    return call.handler != HANDLER and not (action in ("pause", "fork") and call.key is not None)


def _fork(forks: Forks, loaded: Loaded) -> Restore | None:
    """What makes another call of one; None of one that cannot be forked, such as a task."""
    now = forks.clock.now()
    try:
        made, _ = forked(
            loaded, step=forks.step, results={}, id_=invocation_id(now, forks.clock.entropy()),
            partition_count=forks.partition_count, now=now,
        )  # fmt: skip
    except UsageError:
        return None
    return made


def message_for(action: Action, call: Invocation, reason: str) -> Told:
    """What a call is told."""
    match action:
        case "cancel":
            return Cancel(call.partition, call.id, reason or "cancelled")
        case "terminate":
            return Cancel(call.partition, call.id, reason or "terminated", at_once=True)
        case "retry":
            return Retry(call.partition, call.id)
        case "pause":
            return Pause(call.partition, call.id, reason)
        case "resume":
            return Pause(call.partition, call.id, resumes=True)
        case "fork":
            raise AssertionError(call)
