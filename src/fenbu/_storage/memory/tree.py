"""Calls that leave the fake and come into it: both in one step, as nobody else runs meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fenbu._core.message import Making, Message, encode
from fenbu._core.tree import Walk, drive
from fenbu._storage.memory.ownership import Ownership

T = TypeVar("T")


class Moves(Ownership):
    """The part of the storage that is Moves."""

    async def enqueue_new(self, messages: Sequence[Message]) -> list[str]:
        messages = list(messages)
        database = await self._database()
        found = {each.invocation.id for each in database.calls.values() if isinstance(each, Making)}
        made = {each.invocation.id for each in messages if isinstance(each, Making)}
        existing = sorted(made & (found | database.invocations.keys()))
        if not existing:
            database.put([encode(each) for each in messages])
            database.changed(self)
        return existing

    async def snapshot(self, walk: Walk[T]) -> T:
        database = await self._database()
        return drive(walk, database.look_up)
