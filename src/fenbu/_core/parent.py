"""A workflow or operation in memory, as far as others end with it that it has started: see `tie.py`."""

from __future__ import annotations

from fenbu._core import tie
from fenbu._core.model import Loaded, Status
from fenbu._core.serving import Serving


class Parent(Serving):
    """See the module."""

    __slots__ = ("_tied",)

    _tied: list[tie.Tied] | None
    """Those that end with it, if it was parked while its code ran."""

    def park(self, status: Status, error: BaseException) -> None:
        engine, activation = self.partition.engine, self.activation
        if activation is not None and self._entries is None:
            self._tied = tie.in_code(engine, activation)
        super().park(status, error)

    def _end_children(self, reason: str, *, at_once: bool) -> None:
        engine, activation = self.partition.engine, self.activation
        if activation is not None:
            tied = tie.in_code(engine, activation)
            activation.bound.clear()
        elif self._tied is not None:
            tied = self._tied
        else:
            tied = tie.in_journal(engine, Loaded(self.invocation, self._entries or []))
        for message in tie.ends(tied, reason, at_once=at_once):
            engine.send(message)
