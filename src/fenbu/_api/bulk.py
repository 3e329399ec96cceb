"""Telling many calls something at once: all that fulfil a condition, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeAlias, get_args

from msgspec.structs import replace

from fenbu._core import limit
from fenbu._core.message import Cancel, Pause, Retry
from fenbu._core.model import FINISHED, Invocation, Status
from fenbu._core.update import HANDLER
from fenbu._storage.observer import CallFilter, Observer
from fenbu.errors import UsageError

Action: TypeAlias = Literal["cancel", "terminate", "retry", "pause", "resume"]

OPEN: Final = frozenset(Status) - FINISHED

APPLIES: Final[dict[Action, frozenset[Status]]] = {
    "cancel": OPEN,
    "terminate": OPEN,
    "retry": frozenset(
        {Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.STUCK, Status.QUARANTINED}
    ),
    "pause": frozenset({Status.PENDING, Status.RUNNING, Status.SUSPENDED}),
    "resume": frozenset({Status.PAUSED}),
}
"""The calls to which each means something."""

UNASKED: Final = {"retry": frozenset({Status.CANCELLED})}
"""Those among them that somebody has ended on purpose: only if they are asked for."""


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
    observer: Observer,
    send: Callable[[Sequence[Cancel | Retry | Pause]], Awaitable[None]],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Tell each call; how many there were. What has been told is durable, also if this is interrupted."""
    where, told = narrowed(action, where), 0
    while calls := await observer.list_calls(where):
        messages = [message_for(action, each, reason) for each in calls if _can(action, each)]
        if messages:
            await send(messages)
        told += len(messages)
        if progress is not None:
            progress(told)
        where = replace(where, after=(calls[-1].created_at, calls[-1].id))
    return told


def _can(action: Action, call: Invocation) -> bool:
    """Updates are their workflow's, and operations cannot be paused."""
    return call.handler != HANDLER and not (action == "pause" and call.key is not None)


def message_for(action: Action, call: Invocation, reason: str) -> Cancel | Retry | Pause:
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
