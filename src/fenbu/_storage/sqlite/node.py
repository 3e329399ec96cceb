"""SQLite's one node at a time: whoever holds the lock on the file owns every partition that it takes."""

from __future__ import annotations

import os
import platform
from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from fenbu._storage.protocol import Beat, InboxPosition, Meta, NodeInfo
from fenbu._storage.sqlite.connection import Connection
from fenbu._storage.sqlite.observe import Observation
from fenbu._storage.sqlite.ownership import OwnerLock, present_owner_of
from fenbu.errors import OwnershipLost

THIS: Final = 1
"""The id of the only node."""


class Ownership(Observation):
    """The part of the storage that is an Ownership: whoever has the lock is the one node."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._lock = OwnerLock(path)
        self._owned: set[int] = set()
        self._this: NodeInfo | None = None

    @property
    @abstractmethod
    def _writer(self) -> Connection: ...

    @abstractmethod
    async def open(self, *, create: bool = True) -> Meta: ...

    async def join(self, name: str, now: float, code: str = "") -> None:
        if self._lock.held:
            return
        await self._writer.run(self._lock.take, name, now)
        self._this = NodeInfo(THIS, name, platform.node(), os.getpid(), now, (), code=code)

    async def nodes(self) -> list[NodeInfo]:
        meta = await self.open()
        owner = await self._reader.run(present_owner_of, self._path)
        if owner is None:
            return []
        # Only the owner itself knows of what it has given up, which it does for no other node's sake.
        numbers = self._numbers() if self._lock.held else tuple(range(meta.partition_count))
        return [NodeInfo(THIS, owner.name, owner.host, owner.process, owner.started_at, numbers)]

    async def beat(self, read: InboxPosition | None = None, load: int = 0) -> Beat:
        # The lock that it holds is all the news there can be, and needs no statement.
        del read, load
        self._check_held()
        nodes = [] if self._this is None else [replace(self._this, partitions=self._numbers())]
        return Beat(THIS, nodes)

    def _numbers(self) -> tuple[int, ...]:
        return tuple(sorted(self._owned))

    async def retire(self) -> None:
        # There is nobody to tell.
        self._check_held()

    async def take(self, numbers: Sequence[int]) -> list[int]:
        await self._writer.run(lambda _: self._check_held())
        self._owned.update(numbers)
        return sorted(set(numbers))

    async def release(self, numbers: Sequence[int]) -> None:
        self._check_held()
        self._owned.difference_update(numbers)

    def _check_held(self) -> None:
        if not self._lock.held:
            raise OwnershipLost(f"this is not a node of {self._path}: it has to join first")

    def _leave(self) -> None:
        self._owned.clear()
        self._lock.release()
