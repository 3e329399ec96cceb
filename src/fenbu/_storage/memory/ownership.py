"""The nodes of the fake, and which of them owns what."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

import msgspec

from fenbu._core.model import Status
from fenbu._storage.memory.database import Listener
from fenbu._storage.memory.observe import Observation
from fenbu._storage.position import number_of
from fenbu._storage.protocol import Beat, InboxPosition, NodeInfo
from fenbu.errors import OwnershipLost


class Ownership(Observation):
    """The part of the storage that is an Ownership: a node's entry in the database is its session."""

    taken: dict[int, int]
    """The epoch at which this session last took each partition."""

    def notice(self) -> None:
        """Somebody else has changed the database."""

    async def join(self, name: str, now: float, code: str = "") -> None:
        database = await self._database()
        if self not in database.nodes:
            for ghost in [each for each, node in database.nodes.items() if node.name == name]:
                self._end_ghost(ghost)
            database.node_count += 1
            database.nodes[self] = NodeInfo(
                database.node_count,
                name,
                platform.node(),
                os.getpid(),
                now,
                partitions=(),
                code=code,
            )
            database.changed(self)

    def _end_ghost(self, ghost: Listener) -> None:
        """End a session that its node has lost."""
        self.database.nodes.pop(ghost, None)

    async def nodes(self) -> list[NodeInfo]:
        database = await self._database()
        return list(database.nodes.values())

    async def beat(self, read: InboxPosition | None = None, load: int = 0) -> Beat:
        node = await self._node()
        database = self.database
        database.nodes[self] = msgspec.structs.replace(node, load=load)
        has_messages = database.has_messages(node.partitions, number_of(read))
        unhandled = any(each.status is Status.UNHANDLED for each in database.open_calls())
        return Beat(node.id, list(database.nodes.values()), has_messages, unhandled)

    async def find_unhandled(
        self, handlers: Sequence[tuple[str, int]], besides: Sequence[int], *, limit: int
    ) -> list[tuple[str, int]]:
        wanted, places = set(handlers), set(besides)
        database = await self._database()
        found = [
            (each.id, each.partition)
            for each in database.open_calls()
            if each.status is Status.UNHANDLED
            and each.entity is None
            and (each.handler, each.version) in wanted
            and each.partition not in places
        ]
        return found[:limit]

    async def retire(self) -> None:
        node = await self._node()
        self.database.nodes[self] = msgspec.structs.replace(node, leaving=True)
        self.database.changed(self)

    async def take(self, numbers: Sequence[int]) -> list[int]:
        wanted = set(numbers)
        node = await self._node()
        wanted = {each for each in wanted if self.database.owner_of(each) in (None, self)}
        for each in wanted.difference(node.partitions):
            self.taken[each] = self.database.epochs[each] = self.database.epochs.get(each, 0) + 1
        self._own(node, wanted.union(node.partitions))
        return sorted(wanted)

    async def release(self, numbers: Sequence[int]) -> None:
        unwanted = set(numbers)
        node = await self._node()
        self._own(node, set(node.partitions) - unwanted)
        self.database.changed(self)

    async def _node(self) -> NodeInfo:
        database = await self._database()
        node = database.nodes.get(self)
        if node is None:
            raise OwnershipLost("this is not a node of the memory database: it has to join first")
        return node

    def _own(self, node: NodeInfo, partitions: set[int]) -> None:
        owned = tuple(sorted(partitions))
        self.database.nodes[self] = msgspec.structs.replace(node, partitions=owned)

    def lose_session(self) -> None:
        """What happens to a node whose connection breaks: all that it owned is free."""
        if self.database.nodes.pop(self, None) is not None:
            self.database.changed(self)
