"""Calls that were running when their process went down, and may be the reason.

It counts the times that a call was loaded while its row said that it ran, without progress between. The
second time in a row it becomes a suspect, and suspects run one at a time. One that is alone when the process
goes down, and alone again when that happens the next time, is quarantined; the innocent prove themselves
between. Once alone is not enough: a machine that is switched off takes whoever runs just then.
"""

from __future__ import annotations

from collections import deque

from fenbu._core import limit
from fenbu._core.model import Status
from fenbu._core.resident import Resident
from fenbu.errors import UsageError

SUSPECT = limit.CRASHES_MAX - 2


def _quarantine(resident: Resident) -> None:
    """It took its process down again and again: leave it alone until an operator says otherwise."""
    error = UsageError(
        f"{resident.spec.name} {resident.invocation.id} was running each time when its process went down, "
        "the last two times alone among the suspects; let it try again with `fenbu retry`"
    )
    resident.park(Status.QUARANTINED, error)
    # Its state is as before the operation, so those behind it need not wait.
    resident.partition.forget(resident)


class Suspects:
    """See the module."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        """After running alone for so long, another may run beside it."""
        self._waiting: deque[Resident] = deque()
        self._alone: Resident | None = None
        self._since = 0.0

    def admit(self, resident: Resident, now: float) -> None:
        """Let a loaded call begin, now or when it is its turn to be alone."""
        invocation = resident.invocation
        if invocation.status is Status.RUNNING:
            if invocation.crashes >= limit.CRASHES_MAX:
                _quarantine(resident)
                return
            if invocation.crashes < SUSPECT:
                invocation.crashes += 1
        if invocation.crashes < SUSPECT:
            resident.mark()
            return
        resident.marked = False
        self._waiting.append(resident)
        self._next(now)

    def survived(self, resident: Resident, now: float) -> None:
        """It got further, or ended."""
        if self._alone is resident:
            self._alone = None
            self._next(now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        resident = self._alone
        if resident is not None and self._since + self._seconds <= now:
            resident.invocation.crashes = SUSPECT
            resident.save()
            self._alone = None
            self._next(now)

    def next_due(self) -> float | None:
        """When `tick` wants to look again."""
        return self._since + self._seconds if self._alone is not None else None

    def _next(self, now: float) -> None:
        while self._alone is None and self._waiting:
            resident = self._waiting.popleft()
            # It may have left memory meanwhile, and come again.
            if resident.partition.residents.get(resident.invocation.id) is resident:
                self._alone = resident
                self._since = now
                resident.invocation.crashes += 1
                resident.mark()
