"""Reading streams: chunks after cursors, and what becomes of their calls, in one statement."""

from __future__ import annotations

from collections.abc import Sequence

from fenbu._core.model import Chunk, Status
from fenbu._storage.postgres.rows import chunk_row
from fenbu._storage.postgres.session import Pool
from fenbu._storage.rows import status_of
from fenbu._storage.stream import StreamCursor, StreamInfo, StreamPage


async def pages(pool: Pool, cursors: Sequence[StreamCursor], limit: int) -> list[StreamPage]:
    """See `Storage.load_chunks`."""
    calls: dict[int, tuple[Status, int]] = {}
    found: dict[int, list[Chunk]] = {}
    for row in await pool.fetch(
        "chunk.load",
        [each.id for each in cursors],
        [each.stream for each in cursors],
        [each.after for each in cursors],
        limit,
    ):
        if row[1] is not None:
            calls[row[0]] = (status_of(row[1]), row[2])
        else:
            found.setdefault(row[0], []).append(chunk_row(row[3:]))
    made: list[StreamPage] = []
    for place in range(1, len(cursors) + 1):
        status, partition = calls.get(place, (None, -1))
        chunks = sorted(found.get(place, ()), key=_number)
        made.append(StreamPage(chunks, status, partition, len(chunks) < limit))
    return made


async def last(pool: Pool, id_: str, stream: str, before: float | None) -> int:
    """See `Storage.last_chunk`."""
    rows = await pool.fetch("chunk.last", id_, stream, before)
    return rows[0][0] if rows else 0


def _number(chunk: Chunk) -> int:
    return chunk.number


async def scan(pool: Pool, after: int, limit: int) -> list[Chunk]:
    """See `Observer.scan_chunks`."""
    return [chunk_row(row) for row in await pool.fetch("chunk.scan", after, limit)]


async def infos(pool: Pool, id_: str) -> list[StreamInfo]:
    """See `Observer.list_streams`."""
    rows = await pool.fetch("chunk.streams", id_)
    return [StreamInfo(name, count, closed, at) for name, count, closed, at in rows]
