"""A call with its tree, read in one transaction, and calls from elsewhere, written in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fenbu._core.message import Making, Message
from fenbu._core.tree import Look, Seen, Walk
from fenbu._storage.postgres.driver import Connection
from fenbu._storage.postgres.ownership import Ownership
from fenbu._storage.postgres.rows import (
    chunk_row,
    entity_row,
    field_row,
    inbox_columns,
    loaded_rows,
    message_of,
)
from fenbu._storage.postgres.session import Pool
from fenbu._storage.rows import range_of_address

T = TypeVar("T")


class Moves(Ownership):
    """The part of the storage that is Moves."""

    async def enqueue_new(self, messages: Sequence[Message]) -> list[str]:
        messages = list(messages)
        existing = await put_new(self._pool, self._target.schema, messages)
        if not existing:
            self._hints.give({each.partition for each in messages}, ())
            self._hints.busy()
        return existing

    async def snapshot(self, walk: Walk[T]) -> T:
        return await snapshot(self._pool, walk)


async def snapshot(pool: Pool, walk: Walk[T]) -> T:
    """See `Storage.snapshot`."""

    async def work(connection: Connection) -> T:
        try:
            look = next(walk)
            while True:
                look = walk.send(await _look_up(pool, connection, look))
        except StopIteration as end:
            return end.value

    return await pool.run_snapshot(work)


async def _look_up(pool: Pool, connection: Connection, look: Look) -> Seen:
    sql = pool.sql
    calls = loaded_rows(await connection.fetch(sql["invocation.load"], look.ids))
    found = [each.invocation.id for each in calls]
    chunks = await connection.fetch(sql["chunk.of_calls"], found)
    seen = Seen(calls, [chunk_row(row) for row in chunks])
    if look.parents:
        ranges = [range_of_address(*each) for each in look.parents]
        firsts, untils = [each[0] for each in ranges], [each[1] for each in ranges]
        rows = await connection.fetch(sql["invocation.awaited"], firsts, untils)
        seen.children = [row[0] for row in rows]
    if look.entities:
        names, keys = [each[0] for each in look.entities], [each[1] for each in look.entities]
        rows = await connection.fetch(sql["entity.load"], names, keys)
        seen.states = [entity_row(row) for row in rows]
    if look.fields:
        columns = [list(each) for each in zip(*look.fields, strict=True)]
        rows = await connection.fetch(sql["field.load"], *columns)
        seen.fields = [field_row(row) for row in rows]
    if look.messages:
        rows = await connection.fetch(sql["inbox.all"])
        seen.messages = [message_of(*row) for row in rows]
    return seen


async def put_new(pool: Pool, schema: str, messages: Sequence[Message]) -> list[str]:
    """See `Storage.enqueue_new`."""
    made = list({each.invocation.id for each in messages if isinstance(each, Making)})
    columns = inbox_columns(messages)

    async def work(connection: Connection) -> list[str]:
        async with connection.transaction():
            await connection.fetch(pool.sql["inbox.import_lock"], schema)
            rows = await connection.fetch(pool.sql["invocation.places"], made)
            existing = sorted({row[0] for row in rows})
            if not existing:
                await connection.execute(pool.sql["inbox.insert"], *columns)
            return existing

    return await pool.run(work)
