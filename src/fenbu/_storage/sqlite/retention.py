"""Forgetting finished calls, a bounded number at a time."""

from __future__ import annotations

from fenbu._core.limit import CHUNK_DELETE_ROWS_MAX
from fenbu._storage.rows import text_of
from fenbu._storage.sqlite.rows import (
    CHUNK_SQL,
    ENTRY_SQL,
    INVOCATION_SQL,
)
from fenbu._storage.sqlite.session import Session


def delete_finished(session: Session, handler: str, before: float, limit: int) -> int:
    """See `Storage.delete_finished`."""
    session.begin()
    rows = session.execute(INVOCATION_SQL["expired"], (handler, before, limit)).fetchall()
    found = [row[0] for row in rows]
    left: set[str] = set()
    if found:
        ids = text_of(found)
        chunks = session.execute(CHUNK_SQL["delete"], (ids, CHUNK_DELETE_ROWS_MAX)).rowcount
        if chunks == CHUNK_DELETE_ROWS_MAX:
            left = {row[0] for row in session.execute(CHUNK_SQL["owners"], (ids,)).fetchall()}
            ids = text_of([each for each in found if each not in left])
        session.execute(ENTRY_SQL["delete"], (ids,))
        session.execute(INVOCATION_SQL["delete"], (ids,))
    session.commit()
    return limit if left else len(found)


def delete_chunks(session: Session, id_: str, stream: str, before: float, limit: int) -> int:
    """See `Storage.delete_chunks`."""
    return session.write(CHUNK_SQL["delete_oldest"], (id_, stream, before, limit)).rowcount


def revive(session: Session, handlers: list[str], partitions: list[int]) -> int:
    """See `Storage.revive`."""
    parameters = (text_of(handlers), text_of(partitions))
    return session.write(INVOCATION_SQL["revive"], parameters).rowcount
