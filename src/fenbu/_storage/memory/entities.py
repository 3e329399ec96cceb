"""The fake's reads of entities and their lazy fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from fenbu._core.expiry import OPERATION
from fenbu._core.model import EntityField, EntityState
from fenbu._storage.expiry import EntityRange, misdated
from fenbu._storage.memory.database import MemoryDatabase


class EntityReads(ABC):
    """The part of the storage that reads them."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    @abstractmethod
    async def _database(self) -> MemoryDatabase: ...

    async def load_fields(self, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
        wanted = sorted(set(places))
        database = await self._database()
        return [database.fields[each] for each in wanted if each in database.fields]

    async def expired_entities(
        self, entity: str, partitions: Sequence[int], now: float, *, limit: int
    ) -> list[tuple[str, int]]:
        places = set(partitions)
        database = await self._database()
        found = [
            (key, partition)
            for at, key, partition in database.expiring(entity)
            if at <= now and partition in places
        ]
        return found[:limit]

    async def misdated_entities(
        self, where: EntityRange
    ) -> tuple[list[tuple[str, int]], str | None]:
        places = set(where.partitions)
        database = await self._database()
        asked = {
            each.key
            for each in database.open_calls()
            if each.handler == f"{where.entity}.{OPERATION}"
        }
        states = sorted(
            (each for each in database.entities.values() if each.entity == where.entity),
            key=lambda each: each.key,
        )
        page = [each for each in states if each.key >= where.start][: where.limit]
        rows = [
            (
                each.key,
                each.partition
                if each.alarms is None
                and each.partition in places
                and (
                    each.expires_at is None or each.expires_at > each.changed_at + where.ttl_seconds
                )
                and each.key not in asked
                else None,
            )
            for each in page
        ]
        return misdated(rows, where.limit)

    async def list_entities(self, entity: str | None, *, limit: int) -> list[EntityState]:
        database = await self._database()
        found = [
            each for each in database.entities.values() if entity is None or each.entity == entity
        ]
        found.sort(key=lambda each: (-each.changed_at, each.entity, each.key))
        return found[:limit]

    async def scan_entities(self, after: tuple[str, str], *, limit: int) -> list[EntityState]:
        database = await self._database()
        found = sorted(each for each in database.entities if each > after)
        return [database.entities[each] for each in found[:limit]]

    async def list_fields(self, entity: str, key: str) -> list[tuple[str, int]]:
        database = await self._database()
        return sorted(
            (each.name, len(each.value.encode() if isinstance(each.value, str) else each.value))
            for each in database.fields.values()
            if (each.entity, each.key) == (entity, key)
        )

    async def scan_fields(self, after: tuple[str, str, str], *, limit: int) -> list[EntityField]:
        database = await self._database()
        found = sorted(each for each in database.fields if each > after)
        return [database.fields[each] for each in found[:limit]]
