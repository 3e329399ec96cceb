"""Forgetting finished calls, a bounded number at a time."""

from __future__ import annotations

import sqlite3

from fenbu._storage.sqlite.connection import SQL
from fenbu._storage.sqlite.rows import ENTRY_SQL, INVOCATION_SQL, text_of


def delete_finished(connection: sqlite3.Connection, handler: str, before: float, limit: int) -> int:
    """See `Storage.delete_finished`."""
    connection.execute(SQL["begin"])
    rows = connection.execute(INVOCATION_SQL["expired"], (handler, before, limit)).fetchall()
    if rows:
        ids = (text_of([row[0] for row in rows]),)
        connection.execute(ENTRY_SQL["delete"], ids)
        connection.execute(INVOCATION_SQL["delete"], ids)
    connection.commit()
    return len(rows)


def revive(connection: sqlite3.Connection, handlers: list[str]) -> int:
    """See `Storage.revive`."""
    return connection.execute(INVOCATION_SQL["revive"], (text_of(handlers),)).rowcount
