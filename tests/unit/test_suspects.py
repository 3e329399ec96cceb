"""Suspects run one at a time, and only those that are still in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fenbu._core import limit
from fenbu._core.model import Status
from fenbu._core.suspect import Suspects


def resident(partition: Any, id_: str) -> Any:
    """One that was there at two crashes, and is in memory now."""
    begun: list[str] = []
    invocation = SimpleNamespace(id=id_, status=Status.RUNNING, crashes=limit.CRASHES_MAX - 2)
    made = SimpleNamespace(
        invocation=invocation, partition=partition, begun=begun, mark=lambda: begun.append(id_)
    )
    partition.residents[id_] = made
    return made


def test_one_after_the_other() -> None:
    partition = SimpleNamespace(residents={})
    suspects = Suspects(1.0)
    first, second = resident(partition, "a"), resident(partition, "b")
    suspects.admit(first, 0.0)
    suspects.admit(second, 0.0)
    assert (first.begun, second.begun) == (["a"], [])
    suspects.survived(first, 0.5)
    assert second.begun == ["b"]


def test_one_that_has_left_memory_and_come_again_is_begun_once() -> None:
    partition = SimpleNamespace(residents={})
    suspects = Suspects(1.0)
    first, old = resident(partition, "a"), resident(partition, "b")
    suspects.admit(first, 0.0)
    suspects.admit(old, 0.0)
    again = resident(partition, "b")
    suspects.admit(again, 0.0)
    suspects.survived(first, 0.5)
    suspects.survived(again, 0.6)
    assert (old.begun, again.begun) == ([], ["b"])
