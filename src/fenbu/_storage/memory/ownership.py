"""The fake's one node at a time."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

import msgspec

from fenbu._storage.memory.observe import Observation
from fenbu._storage.protocol import NodeInfo
from fenbu.errors import OwnershipLost


class Ownership(Observation):
    """The part of the storage that is an Ownership, with the database's `owner` as its lock."""

    def notice(self) -> None:
        """Somebody else has changed the database."""

    async def join(self, name: str, now: float) -> None:
        database = await self._database()
        if database.owner is self:
            return
        if database.owner is not None:
            raise OwnershipLost(
                "this memory database already has a node, in this process: stop it first"
            )
        database.owner = self
        database.node_count += 1
        database.node = NodeInfo(
            database.node_count, name, platform.node(), os.getpid(), now, partitions=()
        )

    async def nodes(self) -> list[NodeInfo]:
        database = await self._database()
        return [] if database.node is None else [database.node]

    async def beat(self) -> list[NodeInfo]:
        await self._node()
        return await self.nodes()

    async def take(self, numbers: Sequence[int]) -> list[int]:
        wanted = set(numbers)
        node = await self._node()
        self._own(node, wanted.union(node.partitions))
        return sorted(wanted)

    async def release(self, numbers: Sequence[int]) -> None:
        unwanted = set(numbers)
        node = await self._node()
        self._own(node, set(node.partitions) - unwanted)

    async def _node(self) -> NodeInfo:
        database = await self._database()
        if database.owner is not self or database.node is None:
            raise OwnershipLost("this is not a node of the memory database: it has to join first")
        return database.node

    def _own(self, node: NodeInfo, partitions: set[int]) -> None:
        self.database.node = msgspec.structs.replace(node, partitions=tuple(sorted(partitions)))

    def _leave(self) -> None:
        if self.database.owner is self:
            self.database.owner = self.database.node = None
