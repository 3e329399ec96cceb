"""Whose end hurries whom, among operations that run in the turn of another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fenbu._core.nest import Nest


class Operation:
    """As much of one as a nest looks at."""

    def __init__(self, name: str, *, lent: str | None = None) -> None:
        self.activation = SimpleNamespace(lent=lent)
        self.spec = self.invocation = SimpleNamespace(name=name, id=name)
        self.cancelled: list[str] = []

    def cancel(self, reason: str, now: float) -> None:
        del now
        self.cancelled.append(reason)


def test_the_end_of_one_that_stands_still_hurries_the_innermost_one_and_no_other_does() -> None:
    inner, outer, orphan = Operation("inner"), Operation("outer", lent="inner"), Operation("orphan")
    partition = SimpleNamespace(residents={"inner": inner})
    mailbox: Any = SimpleNamespace(current=outer, partition=partition)
    nest: Any = Nest(mailbox)
    nest.running[inner] = None, ""
    nest.hurry(orphan, 0.0)
    nest.hurry(inner, 0.0)
    assert not inner.cancelled
    nest.hurry(outer, 0.0)
    assert inner.cancelled == ["outer outer is cancelled"]
