"""Forgetting finished calls, a bounded number at a time, and letting parked ones go on."""

from __future__ import annotations

from collections.abc import Sequence

from fenbu._core.limit import CHUNK_DELETE_ROWS_MAX
from fenbu._storage.postgres.driver import Connection
from fenbu._storage.postgres.error import translated
from fenbu._storage.postgres.session import Pool, Writer


async def delete_finished(pool: Pool, handler: str, before: float, limit: int) -> int:
    """See `Storage.delete_finished`. Beside the node's commits, and several nodes at a time if they like."""

    async def delete(connection: Connection) -> int:
        return await connection.fetchval(
            pool.sql["invocation.delete_finished"], handler, before, limit, CHUNK_DELETE_ROWS_MAX
        )

    return await pool.run(delete)


async def delete_chunks(pool: Pool, id_: str, stream: str, before: float, limit: int) -> int:
    """See `Storage.delete_chunks`."""

    async def delete(connection: Connection) -> str:
        return await connection.execute(pool.sql["chunk.delete_oldest"], id_, stream, before, limit)

    # "DELETE 3"
    return int((await pool.run(delete)).rpartition(" ")[2])


async def revive(writer: Writer, handlers: Sequence[str], partitions: Sequence[int]) -> int:
    """See `Storage.revive`. By the session that owns them, as every change of an open call."""

    async def update(connection: Connection) -> str:
        return await connection.execute(
            writer.sql["invocation.revive"], list(handlers), list(partitions)
        )

    with translated(writer.target):
        # "UPDATE 3"
        return int((await writer.run(update)).rpartition(" ")[2])
