"""Loads under way, and what changed meanwhile: an answer must not bring back what is no longer so.

A load sees every batch up to the one that asked for it, because it waits for that batch. A call whose row
changed in a later batch may stand in the answer as it was before.
Guarantee: one-outcome.
"""

from __future__ import annotations

from collections import Counter

from fenbu._core.event import OperationsLoaded, ReadyLoaded
from fenbu._core.model import Loaded


class Loads:
    """See the module."""

    def __init__(self) -> None:
        self._under_way: Counter[int] = Counter()
        self._changed: dict[str, int] = {}
        """The last batch that changed a call's row while any load was under way."""

    def begin(self, batch: int) -> int:
        """A load is asked for that sees everything up to this batch."""
        self._under_way[batch] += 1
        return batch

    def end(self, batch: int) -> None:
        """It was answered."""
        self._under_way[batch] -= 1
        if self._under_way[batch] <= 0:
            del self._under_way[batch]
        if not self._under_way:
            self._changed.clear()

    def changed(self, id_: str, batch: int) -> None:
        """The open batch changes the row of a call, or takes it out of memory."""
        if self._under_way:
            self._changed[id_] = batch

    def is_stale(self, id_: str, batch: int) -> bool:
        """Whether a load that sees everything up to this batch may have missed a change of this call."""
        return self._changed.get(id_, -1) > batch

    def fresh(self, found: list[Loaded], batch: int) -> list[Loaded]:
        """What was loaded, up to the first call that has changed since: from there on, ask again."""
        for index, loaded in enumerate(found):
            if self.is_stale(loaded.invocation.id, batch):
                return found[:index]
        return found


def last_sequence(event: ReadyLoaded | OperationsLoaded, taken: list[Loaded]) -> int:
    """The highest sequence that has been dealt with, when these of what was found have been."""
    if len(taken) == len(event.found) and event.complete:
        return event.until
    return taken[-1].invocation.sequence if taken else -1
