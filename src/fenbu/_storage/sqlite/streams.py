"""Reading streams: chunks after cursors, and what becomes of their calls, in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence

from fenbu._core.model import Chunk, Status
from fenbu._storage.rows import chunk_of, status_of, text_of
from fenbu._storage.sqlite.rows import CHUNK_SQL, INBOX_SQL, INVOCATION_SQL
from fenbu._storage.sqlite.session import SQL, Session
from fenbu._storage.stream import StreamCursor, StreamInfo, StreamPage


def pages(session: Session, cursors: Sequence[StreamCursor], limit: int) -> list[StreamPage]:
    """See `Storage.load_chunks`."""
    ids = list(dict.fromkeys(each.id for each in cursors))
    wanted = [(each.id, each.stream, each.after) for each in cursors]
    session.execute(SQL["begin_read"])
    parameters = {"cursors": text_of(wanted), "limit": limit}
    found: dict[int, list[Chunk]] = {}
    for row in session.execute(CHUNK_SQL["load"], parameters).fetchall():
        found.setdefault(row[0], []).append(chunk_of(row[1:]))
    calls: dict[str, tuple[Status, int]] = {}
    for id_, text, partition in session.execute(
        INVOCATION_SQL["statuses"], (text_of(ids),)
    ).fetchall():
        calls[id_] = (status_of(text), partition)
    missing = [each for each in ids if each not in calls]
    if missing:
        for id_, partition in session.execute(INBOX_SQL["calls"], (text_of(missing),)).fetchall():
            calls.setdefault(id_, (Status.PENDING, partition))
    session.commit()
    made: list[StreamPage] = []
    for place, each in enumerate(cursors):
        status, partition = calls.get(each.id, (None, -1))
        chunks = found.get(place, [])
        made.append(StreamPage(chunks, status, partition, len(chunks) < limit))
    return made


def last(session: Session, id_: str, stream: str, before: float | None) -> int:
    """See `Storage.last_chunk`."""
    parameters = {"id": id_, "stream": stream, "before": before}
    row = session.execute(CHUNK_SQL["last"], parameters).fetchone()
    return 0 if row is None else row[0]


def scan(session: Session, after: int, limit: int) -> list[Chunk]:
    """See `Observer.scan_chunks`."""
    return [chunk_of(row) for row in session.execute(CHUNK_SQL["scan"], (after, limit)).fetchall()]


def infos(session: Session, id_: str) -> list[StreamInfo]:
    """See `Observer.list_streams`."""
    rows = session.execute(CHUNK_SQL["streams"], (id_,)).fetchall()
    return [StreamInfo(name, count, bool(closed), at) for name, count, closed, at in rows]
