"""Calls that an operator has paused.

Nothing may wake such a call, and what it waited for has to be known when it is resumed. So its row keeps the
instant, if there is one, moved to a time that never comes; to every query it is a call that is not due.
"""

from __future__ import annotations

from typing import Final

from fenbu._core.model import FINISHED, PARKED, Invocation, Status

NEVER_SECONDS: Final = 1e11
"""The year 5138."""


def can_pause(invocation: Invocation) -> bool:
    """Whether it may stand still. An operation may not: those behind it on its entity would, too."""
    is_open = invocation.status not in FINISHED and invocation.status not in PARKED
    return is_open and invocation.key is None


def hold(invocation: Invocation, reason: str) -> None:
    """It stands still from now on."""
    invocation.status = Status.PAUSED
    invocation.waiting = f"`fenbu resume`: {reason}" if reason else "`fenbu resume`"
    invocation.wake_at = NEVER_SECONDS + (invocation.wake_at or 0.0)


def release(invocation: Invocation, now: float) -> None:
    """It may go on: now, or when it was due if it has not begun and that is still to come."""
    due = (invocation.wake_at or NEVER_SECONDS) - NEVER_SECONDS
    has_begun = invocation.started_at is not None
    invocation.status = Status.RUNNING if has_begun else Status.PENDING
    invocation.waiting = None
    invocation.wake_at = due if due > now and not has_begun else None
