"""Reads for people: the command line and the dashboard.

Each is bounded by a limit or reads an index, except `count_calls` and `list_entities`, which look at
everything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from fenbu._core import ids
from fenbu._core.attribute import Condition
from fenbu._core.message import Making
from fenbu._core.model import Chunk, EntityField, EntityState, Invocation, Status
from fenbu._storage.expiry import EntityRange
from fenbu._storage.observer import CallFilter
from fenbu._storage.postgres.check import Check, check
from fenbu._storage.postgres.load import expired_entities, fields, misdated_entities
from fenbu._storage.postgres.retention import delete_chunks
from fenbu._storage.postgres.rows import entity_row, field_row, invocation_row, message_of
from fenbu._storage.postgres.session import Pool
from fenbu._storage.postgres.streams import infos, last, scan
from fenbu._storage.postgres.url import Target
from fenbu._storage.protocol import NodeInfo
from fenbu._storage.rows import range_of_address, status_of, text_of
from fenbu._storage.stream import StreamInfo

LAST_CHARACTER = "\U0010ffff"
"""After every character that an id may have: those are printable."""


def _worded(wanted: Condition) -> dict[str, str]:
    """A number as text has all its digits."""
    value = wanted.value if isinstance(wanted.value, str) else repr(wanted.value)
    return {"name": wanted.name, "operator": wanted.operator, "kind": wanted.kind, "value": value}


def _first(wanted: Condition) -> tuple[str | None, ...]:
    """A condition as a range of its index: name, kind, the least and the most number, and text."""
    value = _worded(wanted)["value"]
    low = None if wanted.operator in {"<", "<="} else value
    high = None if wanted.operator in {">", ">="} else value
    if wanted.kind == "text":
        return (wanted.name, wanted.kind, None, None, low, high)
    return (wanted.name, wanted.kind, low, high, None, None)


class Observation(ABC):
    """The half of the storage that is an Observer."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    @abstractmethod
    def _pool(self) -> Pool: ...

    @abstractmethod
    async def nodes(self) -> list[NodeInfo]: ...

    async def list_calls(self, where: CallFilter) -> list[Invocation]:
        statuses = None if where.statuses is None else list(where.statuses)
        plain = (
            statuses,
            where.handler,
            where.created_after,
            where.created_before,
            *(where.after or (None, None)),
            where.limit,
        )
        if where.where:
            more = (*_first(where.where[0]), text_of([_worded(each) for each in where.where]))
            rows = await self._pool.fetch("invocation.list_where", *plain, *more)
        else:
            rows = await self._pool.fetch("invocation.list", *plain)
        return [invocation_row(row) for row in rows]

    async def find_calls(self, beginning: str, *, limit: int) -> list[Invocation]:
        until = f"{beginning}{LAST_CHARACTER}"
        # The inbox first: a call moves from there to its row, and is seen in one of them at least.
        messages = await self._pool.fetch("inbox.find", beginning, until, limit)
        rows = await self._pool.fetch("invocation.find", beginning, until, limit)
        found = {row[0]: invocation_row(row) for row in rows}
        for text, data in messages:
            message = message_of(text, data)
            if isinstance(message, Making):
                found.setdefault(message.invocation.id, message.invocation)
        return [found[id_] for id_ in sorted(found)][:limit]

    async def count_calls(self) -> dict[tuple[str, Status], int]:
        rows = await self._pool.fetch("invocation.count")
        return {(handler, status_of(status)): count for handler, status, count in rows}

    async def operations_before(self, invocation: Invocation, *, limit: int) -> list[Invocation]:
        if invocation.entity is None:
            return []
        rows = await self._pool.fetch(
            "invocation.operations_before",
            invocation.entity,
            invocation.key,
            invocation.sequence,
            limit,
        )
        return [invocation_row(row) for row in rows]

    async def children(self, id: str, *, limit: int) -> list[Invocation]:  # noqa: A002
        found = await self._pool.fetch("invocation.run_of", id)
        if not found:
            return []
        partition, attempt = found[0]
        prefixes = [ids.child_id(ids.run_id(id, run), 0)[:-1] for run in range(attempt + 1)]
        rows = await self._pool.fetch(
            "invocation.children",
            *range_of_address(partition, id),
            prefixes,
            limit,
        )
        return [invocation_row(row) for row in rows]

    async def last_chunk(self, id: str, stream: str, before: float | None = None) -> int:  # noqa: A002
        return await last(self._pool, id, stream, before)

    async def delete_chunks(self, id: str, stream: str, before: float, *, limit: int) -> int:  # noqa: A002
        return await delete_chunks(self._pool, id, stream, before, limit)

    async def list_streams(self, id: str) -> list[StreamInfo]:  # noqa: A002
        return await infos(self._pool, id)

    async def load_fields(self, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
        return await fields(self._pool, places)

    async def expired_entities(
        self, entity: str, partitions: Sequence[int], now: float, *, limit: int
    ) -> list[tuple[str, int]]:
        return await expired_entities(self._pool, entity, partitions, now, limit)

    async def misdated_entities(
        self, where: EntityRange
    ) -> tuple[list[tuple[str, int]], str | None]:
        return await misdated_entities(self._pool, where)

    async def list_entities(self, entity: str | None, *, limit: int) -> list[EntityState]:
        rows = await self._pool.fetch("entity.list", entity, limit)
        return [entity_row(row) for row in rows]

    async def scan_entities(self, after: tuple[str, str], *, limit: int) -> list[EntityState]:
        rows = await self._pool.fetch("entity.scan", *after, limit)
        return [entity_row(row) for row in rows]

    async def list_fields(self, entity: str, key: str) -> list[tuple[str, int]]:
        return [(name, size) for name, size in await self._pool.fetch("field.sizes", entity, key)]

    async def scan_fields(self, after: tuple[str, str, str], *, limit: int) -> list[EntityField]:
        return [field_row(row) for row in await self._pool.fetch("field.scan", *after, limit)]

    async def scan_chunks(self, after: int, *, limit: int) -> list[Chunk]:
        return await scan(self._pool, after, limit)

    async def inbox_count(self) -> int:
        return await self._pool.fetchval("inbox.count")

    async def owner(self) -> str | None:
        found = [str(each) for each in await self.nodes() if each.partitions]
        return ", ".join(found) or None

    async def check(self) -> list[Check]:
        return await check(self._pool, self._target, await self.nodes())
