"""The queue of instants at which calls in memory want to be looked at."""

from __future__ import annotations

from heapq import heappop, heappush


class TimerQueue:
    """A heap of (instant, partition, call id, command); what no longer matters is ignored when due."""

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, str, int]] = []
        self._count = 0

    def push(self, when: float, partition: int, id: str, command: int) -> None:  # noqa: A002
        self._count += 1
        heappush(self._heap, (when, self._count, partition, id, command))

    def next(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> tuple[int, str, int] | None:
        """The earliest entry that is due, in order of (instant, arming)."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, partition, id_, command = heappop(self._heap)
        return partition, id_, command
