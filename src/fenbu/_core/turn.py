"""The order of an entity's operations while the rows of some are looked up.

An operation whose id its sender chose may exist already, so that is read before it is accepted. What comes
for the same entity meanwhile is accepted after it. They are looked up side by side, and accepted one by one.
Guarantee: message-once-in-order.
"""

from __future__ import annotations

from fenbu._core.model import Invocation

Name = tuple[str, str]
"""An entity and its key."""


def _name_of(invocation: Invocation) -> Name | None:
    return None if invocation.key is None else (invocation.entity or "", invocation.key)


class Turns:
    """See the module."""

    def __init__(self) -> None:
        self._queues: dict[Name, dict[str, bool]] = {}
        """Ids in the order in which they came, and whether it is known that there is no such call yet."""
        self._names: dict[str, Name] = {}
        """Whose operation each id is."""

    def must_follow(self, invocation: Invocation) -> bool:
        """Whether operations of the same entity came before this one, and are not accepted yet."""
        return _name_of(invocation) in self._queues

    def join(self, invocation: Invocation, *, new: bool) -> None:
        """It has come, if it is an operation: it is `new` if there can be no such call yet."""
        name, id_ = _name_of(invocation), invocation.id
        if name is not None and id_ not in self._names:
            self._names[id_] = name
            self._queues.setdefault(name, {})[id_] = new

    def may_begin(self, id_: str) -> bool:
        """There is no such call yet: whether it can be accepted now. If not, `leave` tells when."""
        name = self._names.get(id_)
        if name is None:
            return True
        queue = self._queues[name]
        queue[id_] = True
        return next(iter(queue)) == id_

    def leave(self, id_: str) -> str | None:
        """It was accepted, or exists: the one that can be accepted now, if another waited for it."""
        name = self._names.pop(id_, None)
        if name is None:
            return None
        queue = self._queues[name]
        del queue[id_]
        for first, new in queue.items():
            return first if new else None
        del self._queues[name]
        return None
