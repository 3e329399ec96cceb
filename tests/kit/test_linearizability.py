"""The checker itself, against histories of which the answer is known."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu.testing import UNKNOWN, Observed, is_linearizable


def register(state: Any, what: Any) -> tuple[Any, Any]:
    kind, *values = what
    if kind == "write":
        return None, values[0]
    if kind == "swap":
        return (True, values[1]) if state == values[0] else (False, state)
    return state, state


def seen(called: float, returned: float, what: tuple[Any, ...], answer: Any = None) -> Observed:
    return Observed(called, returned, what, answer)


GOOD = {
    "nothing": [],
    "one after the other": [seen(0, 1, ("write", 1)), seen(2, 3, ("read",), 1)],
    "a read beside a write may see the old value": [
        seen(0, 9, ("write", 1)), seen(1, 2, ("read",), 0), seen(3, 4, ("read",), 1),
    ],
    "a read beside a write may see the new value": [
        seen(0, 9, ("write", 1)), seen(1, 2, ("read",), 1), seen(3, 4, ("read",), 1),
    ],
    "writes side by side come in any order": [
        seen(0, 9, ("write", 1)), seen(0, 9, ("write", 2)), seen(10, 11, ("read",), 1),
    ],
    "one without an answer may have happened later": [
        seen(0, UNKNOWN, ("write", 1)), seen(1, 2, ("read",), 0), seen(3, 4, ("read",), 1),
    ],
    "one without an answer may never have happened": [
        seen(0, UNKNOWN, ("write", 1)), seen(1, 2, ("read",), 0), seen(3, 4, ("read",), 0),
    ],
    "of two swaps one wins": [
        seen(0, 5, ("swap", 0, 1), True), seen(0, 5, ("swap", 0, 2), False), seen(6, 7, ("read",), 1),
    ],
}  # fmt: skip

BAD = {
    "a value that nobody wrote": [seen(0, 1, ("write", 1)), seen(2, 3, ("read",), 2)],
    "a lost write": [seen(0, 1, ("write", 1)), seen(2, 3, ("read",), 0)],
    "back in time": [
        seen(0, 9, ("write", 1)), seen(1, 2, ("read",), 1), seen(3, 4, ("read",), 0),
    ],
    "two readers disagree about the order": [
        seen(0, 9, ("write", 1)), seen(0, 9, ("write", 2)),
        seen(10, 11, ("read",), 1), seen(12, 13, ("read",), 2),
    ],
    "both swaps win": [
        seen(0, 5, ("swap", 0, 1), True), seen(0, 5, ("swap", 0, 2), True),
    ],
    "before it was asked for": [
        seen(5, UNKNOWN, ("write", 1)), seen(1, 2, ("read",), 1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_an_order_is_found(name: str) -> None:
    assert is_linearizable(GOOD[name], register, 0)


@pytest.mark.parametrize("name", BAD)
def test_there_is_no_order(name: str) -> None:
    assert not is_linearizable(BAD[name], register, 0)


def test_many_operations_side_by_side_take_no_time() -> None:
    writes = [seen(0, 100, ("write", number)) for number in range(14)]
    reads = [seen(101, 102, ("read",), 7), seen(103, 104, ("read",), 7)]
    assert is_linearizable([*writes, *reads], register, 0)
    assert not is_linearizable([*writes, *reads, seen(105, 106, ("read",), 8)], register, 0)
