"""SQLite's one node at a time: whoever holds the lock on the file owns every partition that it takes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from fenbu._storage.protocol import Meta, NodeInfo
from fenbu._storage.sqlite.connection import Connection
from fenbu._storage.sqlite.observe import Observation
from fenbu._storage.sqlite.ownership import OwnerLock, present_owner_of
from fenbu.errors import OwnershipLost


class Ownership(Observation):
    """The part of the storage that is an Ownership: whoever has the lock is the one node."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._lock = OwnerLock(path)
        self._owned: set[int] = set()

    @property
    @abstractmethod
    def _writer(self) -> Connection: ...

    @abstractmethod
    async def open(self, *, create: bool = True) -> Meta: ...

    async def join(self, name: str, now: float) -> None:
        await self._writer.run(self._lock.take, name, now)

    async def nodes(self) -> list[NodeInfo]:
        meta = await self.open()
        owner = await self._reader.run(present_owner_of, self._path)
        if owner is None:
            return []
        # Only the owner itself knows of what it has given up, which it does for no other node's sake.
        numbers = sorted(self._owned) if self._lock.held else range(meta.partition_count)
        return [
            NodeInfo(1, owner.name, owner.host, owner.process, owner.started_at, tuple(numbers))
        ]

    async def beat(self) -> list[NodeInfo]:
        found = await self.nodes()
        self._check_held()
        return found

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
