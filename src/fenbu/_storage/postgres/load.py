"""Reads of a node: calls with their journals, entities, and the outcomes that clients ask for.

Each is one statement, so that calls and journals fit each other: they are seen in one snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fenbu._core.expiry import OPERATION
from fenbu._core.model import FINISHED, EntityField, EntityState, Loaded, Outcome, Status
from fenbu._storage.expiry import EntityRange, misdated
from fenbu._storage.postgres.rows import entity_row, field_row, loaded_rows
from fenbu._storage.postgres.session import Pool
from fenbu._storage.protocol import Open
from fenbu._storage.rows import failure_of, status_of


async def ready(pool: Pool, cursors: Mapping[int, int], limit: int) -> list[Loaded]:
    """See `Storage.load_ready`."""
    rows = await pool.fetch("invocation.load_ready", list(cursors), list(cursors.values()), limit)
    return sorted(loaded_rows(rows), key=_place)


def _place(loaded: Loaded) -> tuple[int, int]:
    return loaded.invocation.partition, loaded.invocation.sequence


async def operations(pool: Pool, entity: str, key: str, after: int, limit: int) -> list[Loaded]:
    """See `Storage.load_operations`."""
    rows = await pool.fetch("invocation.load_operations", entity, key, after, limit)
    return sorted(loaded_rows(rows), key=_place)


async def calls(pool: Pool, ids: Sequence[str]) -> list[Loaded]:
    """See `Storage.load_calls`."""
    return loaded_rows(await pool.fetch("invocation.load", list(set(ids))))


async def due(pool: Pool, partitions: Sequence[int], now: float, limit: int) -> list[Loaded]:
    """See `Storage.load_due`."""
    rows = await pool.fetch("invocation.load_due", now, list(partitions), limit)
    return sorted(loaded_rows(rows), key=_instant)


def _instant(loaded: Loaded) -> tuple[float, str]:
    return loaded.invocation.wake_at or 0.0, loaded.invocation.id


async def next_due(pool: Pool, partitions: Sequence[int]) -> float | None:
    """See `Storage.next_due`."""
    return await pool.fetchval("invocation.next_due", list(partitions))


async def last_sequences(pool: Pool, partitions: Sequence[int]) -> dict[int, int]:
    """See `Storage.last_sequences`."""
    rows = await pool.fetch("invocation.last_sequences", list(partitions))
    return {each[0]: each[1] for each in rows}


async def unhandled(
    pool: Pool, handlers: Sequence[tuple[str, int]], besides: Sequence[int], limit: int
) -> list[tuple[str, int]]:
    """See `Storage.find_unhandled`."""
    rows = await pool.fetch(
        "invocation.unhandled",
        [name for name, _ in handlers],
        [version for _, version in handlers],
        list(besides),
        limit,
    )
    return [(id_, partition) for id_, partition in rows]


async def entities(pool: Pool, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
    """See `Storage.load_entities`."""
    wanted = list(dict.fromkeys(keys))
    rows = await pool.fetch(
        "entity.load", [each[0] for each in wanted], [each[1] for each in wanted]
    )
    return [entity_row(row) for row in rows]


async def fields(pool: Pool, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
    """See `Storage.load_fields`."""
    wanted = list(dict.fromkeys(places))
    if not wanted:
        return []
    rows = await pool.fetch("field.load", *(list(each) for each in zip(*wanted, strict=True)))
    return [field_row(row) for row in rows]


async def expired_entities(
    pool: Pool, entity: str, partitions: Sequence[int], now: float, limit: int
) -> list[tuple[str, int]]:
    """See `Storage.expired_entities`."""
    rows = await pool.fetch("entity.expired", entity, now, list(partitions), limit)
    return [(key, partition) for key, partition in rows]


async def misdated_entities(
    pool: Pool, where: EntityRange
) -> tuple[list[tuple[str, int]], str | None]:
    """See `Storage.misdated_entities`."""
    rows = await pool.fetch(
        "entity.misdated", where.entity, list(where.partitions), where.ttl_seconds,
        f"{where.entity}.{OPERATION}", where.start, where.limit,
    )  # fmt: skip
    return misdated([(key, partition) for key, partition in rows], where.limit)


async def outcomes(pool: Pool, ids: Sequence[str]) -> dict[str, Outcome | Open]:
    """See `Storage.outcomes`."""
    found: dict[str, Outcome | Open] = {}
    for id_, text, result, result_bytes, failure, partition in await pool.fetch(
        "invocation.outcomes", "\n".join(ids)
    ):
        if text is None:
            found.setdefault(id_, Open(Status.PENDING, partition))
            continue
        status = status_of(text)
        if status in FINISHED:
            value = result if result_bytes is None else result_bytes
            found[id_] = Outcome(status, value, failure_of(failure))
        else:
            found[id_] = Open(status, partition)
    return found
