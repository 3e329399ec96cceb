"""The queue of instants at which calls in memory want to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

COMPACT_MIN: Final = 8_192
"""Below so many entries it is not worth the work."""


class TimerQueue:
    """A heap of (instant, partition, call id, command); what no longer matters is ignored when due."""

    __slots__ = ("_compact_at", "_count", "_heap", "left")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, str, int]] = []
        self._count = 0
        self._compact_at = COMPACT_MIN
        self.left = 0
        """Calls that have left memory since it was last compacted: they may have entries here."""

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, when: float, partition: int, id: str, command: int) -> None:  # noqa: A002
        self._count += 1
        heappush(self._heap, (when, self._count, partition, id, command))

    def compact(self, matters: Callable[[int, str], bool]) -> None:
        """Forget what no longer matters if there may be much of it: at most half of the heap is waste.

        `matters` tells by partition and call id. Waste costs more than its size: made amid all that the calls
        had, it keeps the allocator from giving that back.
        """
        size = len(self._heap)
        if size >= self._compact_at or max(size, COMPACT_MIN) <= 2 * self.left:
            self._heap = [each for each in self._heap if matters(each[2], each[3])]
            heapify(self._heap)
            self._compact_at = max(COMPACT_MIN, 2 * len(self._heap))
            self.left = 0

    def next(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> tuple[int, str, int] | None:
        """The earliest entry that is due, in order of (instant, arming)."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, partition, id_, command = heappop(self._heap)
        return partition, id_, command
