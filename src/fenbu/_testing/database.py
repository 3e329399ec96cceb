"""The database of a simulation: the one in memory, with an auditor who looks at what is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fenbu._core.model import Invocation, Status
from fenbu._storage.memory.database import Listener, MemoryDatabase


class Calls(dict[str, Invocation]):
    """The calls by id. Guarantee: one-outcome: what has been completed never changes again."""

    def __init__(self, violation: Callable[[str], None]) -> None:
        super().__init__()
        self._violation = violation

    def __setitem__(self, id_: str, call: Invocation) -> None:
        before = self.get(id_)
        if before is not None and before.status is Status.COMPLETED:
            old, new = (before.status, before.result), (call.status, call.result)
            if old != new:
                self._violation(f"call {id_} has two outcomes: {old} and {new}")
        super().__setitem__(id_, call)


class SimulatedDatabase(MemoryDatabase):
    """See the module. `violation` is told what must never happen."""

    def __init__(self, partition_count: int, violation: Callable[[str], None]) -> None:
        super().__init__(partition_count, "simulation")
        self.invocations = Calls(violation)
        self.heard: Callable[[], None] = lambda: None
        """Called when something has changed."""
        self.table: dict[str, Any] = {}
        """What transactional steps have written."""
        self.violation = violation
        self._steps_done: set[tuple[str, str, int, float]] = set()

    def write_table(self, key: tuple[str, str, int], written: dict[str, Any]) -> None:
        """A transactional step commits. Guarantee: transaction-once."""
        call = self.invocations.get(key[0])
        # Another call may have the same id, once this one is forgotten.
        mark = (*key, call.created_at if call is not None else 0.0)
        if mark in self._steps_done:
            self.violation(f"the transaction of step {key[2]} of {key[0]} is done twice")
        self._steps_done.add(mark)
        self.table.update(written)

    def changed(self, by: Listener) -> None:
        """Processes hear of it by the hints of the network only."""
        del by
        self.heard()
