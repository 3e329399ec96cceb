"""Is a history of operations on one object linearizable: could they have happened one after the other?

An order is searched in which each operation takes effect between its call and its return, and gives what
it gave. The search is that of Wing and Gong, with Lowe's memory of what has been tried: sets of operations
that were done, with the state they led to (Wing and Gong, "Testing and Verifying Concurrent Objects", 1993;
Lowe, "Testing for linearizability", 2017). An operation whose answer never came may have happened at any
time after its call, or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from msgspec import Struct

UNKNOWN: Final = math.inf
"""When an operation returned whose answer never came."""


class Observed(Struct, frozen=True):
    """One operation as its caller saw it."""

    called: float
    returned: float
    """UNKNOWN if there was no answer."""
    what: Any
    """What was asked for: any value that the model understands."""
    answer: Any = None


Model = Callable[[Hashable, Any], tuple[Any, Hashable]]
"""(state, what) → (answer, next state)."""


def is_linearizable(history: Sequence[Observed], model: Model, initial: Hashable) -> bool:
    """Whether the operations on one object can be put into an order that explains them.

    Args:
        history: What was seen, in any order.
        model: What the object would do if nobody else were there.
        initial: Its first state.

    Example:
        ```python
        def register(state, what):
            return (state, state) if what == "read" else (None, what)

        assert is_linearizable(history, register, initial=0)
        ```
    """
    operations = sorted(history, key=lambda each: each.called)
    certain = sum(1 << index for index, each in enumerate(operations) if each.returned != UNKNOWN)
    tried: set[tuple[int, Hashable]] = set()
    # Depth first: what is done, as a set of bits, and the state that it led to.
    stack: list[tuple[int, Hashable]] = [(0, initial)]
    while stack:
        done, state = stack.pop()
        if done & certain == certain:
            return True
        # Whatever was called after the first return of what is not done cannot be next.
        limit = min(each.returned for index, each in enumerate(operations) if not done >> index & 1)
        for index, each in enumerate(operations):
            if each.called > limit:
                break
            if done >> index & 1:
                continue
            answer, after = model(state, each.what)
            if each.returned != UNKNOWN and answer != each.answer:
                continue
            found = (done | 1 << index, after)
            if found not in tried:
                tried.add(found)
                stack.append(found)
    return False
