"""Rows with other payloads that mean the same, each only if it is as it was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fenbu._core.model import (
    Chunk,
    EntityField,
    EntityState,
    Entry,
    Failure,
    Invocation,
    Payload,
    Stored,
)
from fenbu._storage.postgres.driver import Connection
from fenbu._storage.postgres.session import Pool
from fenbu._storage.rows import text_of


async def rewrite(pool: Pool, changes: Sequence[tuple[Stored, Stored]]) -> int:
    """See `Storage.rewrite`."""
    count = 0
    for before, after in changes:
        name, key = _place(before)
        parameters = [*key, *_cells(after), *_cells(before)]

        async def update(
            connection: Connection, name: str = name, parameters: list[Any] = parameters
        ) -> str:
            return await connection.execute(pool.sql[name], *parameters)

        # "UPDATE 1"
        count += int((await pool.run(update)).rpartition(" ")[2])
    return count


def _place(row: Stored) -> tuple[str, list[Any]]:
    match row:
        case Invocation():
            return "invocation.rewrite", [row.id]
        case Entry():
            return "invocation.rewrite_entry", [row.id, row.position]
        case EntityState():
            return "entity.rewrite", [row.entity, row.key]
        case EntityField():
            return "field.rewrite", [row.entity, row.key, row.name]
        case Chunk():
            return "chunk.rewrite", [row.number]


def _cells(row: Stored) -> list[Any]:
    match row:
        case Invocation():
            beats = text_of(row.heartbeats) if row.heartbeats else None
            texts = [_text(row.failure), row.waiting, row.cancel_reason, beats]
            return [*_payload(row.args), *_payload(row.result), *texts]
        case Entry():
            return [row.name, *_payload(row.value), _text(row.failure)]
        case EntityState():
            return _payload(row.state)
        case EntityField() | Chunk():
            return _payload(row.value)


def _payload(payload: Payload | None) -> list[Any]:
    """The column for text, and that for bytes."""
    return [None, payload] if isinstance(payload, bytes) else [payload, None]


def _text(failure: Failure | None) -> str | None:
    return None if failure is None else text_of(failure)
