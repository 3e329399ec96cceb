"""Calls in memory that only wait: those that have waited for long leave it, and so do the oldest of too many.

A suspended call is rows; what it waits for brings it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fenbu._core.program import Program
    from fenbu._core.resident import Resident


class IdleCalls:
    """See the module."""

    def __init__(self, calls_max: int, seconds: float) -> None:
        self._calls_max = calls_max
        self._seconds = seconds
        self._calls: dict[Resident, tuple[Program, float]] = {}
        """Since when each waits; the one that has waited longest is first."""

    def add(self, call: Program, now: float) -> None:
        """It only waits; an operation stays in memory, because it holds its entity's turn."""
        if call.mailbox is None and not call.invocation.chain:
            self._calls.pop(call, None)
            self._calls[call] = call, now

    def remove(self, call: Resident) -> None:
        """It has something to run, or has left memory."""
        self._calls.pop(call, None)

    def suspend(self, now: float) -> None:
        """Let go of what has waited for long enough, and of what is too much."""
        while self._calls:
            call, since = next(iter(self._calls.values()))
            if since + self._seconds > now and len(self._calls) <= self._calls_max:
                return
            call.suspend(now)

    def next_due(self, now: float) -> float | None:
        """When `suspend` has something to do again."""
        if len(self._calls) > self._calls_max:
            return now
        first = next(iter(self._calls.values()), None)
        return None if first is None else first[1] + self._seconds
