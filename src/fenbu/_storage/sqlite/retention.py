"""Forgetting finished calls, a bounded number at a time."""

from __future__ import annotations

from fenbu._storage.rows import text_of
from fenbu._storage.sqlite.rows import (
    ENTRY_SQL,
    INVOCATION_SQL,
)
from fenbu._storage.sqlite.session import Session


def delete_finished(session: Session, handler: str, before: float, limit: int) -> int:
    """See `Storage.delete_finished`."""
    session.begin()
    rows = session.execute(INVOCATION_SQL["expired"], (handler, before, limit)).fetchall()
    if rows:
        ids = (text_of([row[0] for row in rows]),)
        session.execute(ENTRY_SQL["delete"], ids)
        session.execute(INVOCATION_SQL["delete"], ids)
    session.commit()
    return len(rows)


def revive(session: Session, handlers: list[str], partitions: list[int]) -> int:
    """See `Storage.revive`."""
    parameters = (text_of(handlers), text_of(partitions))
    return session.write(INVOCATION_SQL["revive"], parameters).rowcount
