"""Reads of a node: calls with their journals, entities, and the outcomes that clients ask for.

A read is few statements whatever the number of calls: lists travel as one JSON parameter. Calls and
journals are read within one transaction, so that they fit each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fenbu._core.expiry import OPERATION
from fenbu._core.model import FINISHED, EntityField, EntityState, Loaded, Outcome, Status
from fenbu._storage.expiry import EntityRange, misdated
from fenbu._storage.protocol import Open
from fenbu._storage.rows import entry_of, failure_of, invocation_of, status_of, text_of
from fenbu._storage.sqlite.rows import (
    ENTITY_SQL,
    ENTRY_SQL,
    FIELD_SQL,
    INBOX_SQL,
    INVOCATION_SQL,
)
from fenbu._storage.sqlite.session import SQL, Session


def _load(session: Session, query: str, parameters: object) -> list[Loaded]:
    session.execute(SQL["begin_read"])
    found = with_journals(session, query, parameters)
    session.commit()
    return found


def with_journals(session: Session, query: str, parameters: object) -> list[Loaded]:
    """Calls with their journals, within a transaction."""
    rows = session.execute(INVOCATION_SQL[query], parameters).fetchall()  # pyright: ignore[reportArgumentType]
    loaded = {row[0]: Loaded(invocation_of(row), []) for row in rows}
    if loaded:
        for row in session.execute(ENTRY_SQL["load"], (text_of(list(loaded)),)).fetchall():
            loaded[row[0]].entries.append(entry_of(row))
    return list(loaded.values())


def ready(session: Session, cursors: Mapping[int, int], limit: int) -> list[Loaded]:
    """See `Storage.load_ready`."""
    return _load(session, "load_ready", {"cursors": text_of(cursors), "limit": limit})


def operations(session: Session, entity: str, key: str, after: int, limit: int) -> list[Loaded]:
    """See `Storage.load_operations`."""
    return _load(session, "load_operations", (entity, key, after, limit))


def calls(session: Session, ids: Sequence[str]) -> list[Loaded]:
    """See `Storage.load_calls`."""
    return _load(session, "load", (text_of(ids),))


def due(session: Session, partitions: Sequence[int], now: float, limit: int) -> list[Loaded]:
    """See `Storage.load_due`."""
    return _load(session, "load_due", (now, text_of(partitions), limit))


def next_due(session: Session, partitions: Sequence[int]) -> float | None:
    """See `Storage.next_due`."""
    row = session.execute(INVOCATION_SQL["next_due"], (text_of(partitions),)).fetchone()
    return None if row is None else row[0]


def last_sequences(session: Session, partitions: Sequence[int]) -> dict[int, int]:
    """See `Storage.last_sequences`."""
    parameters = (text_of(partitions),)
    return dict(session.execute(INVOCATION_SQL["last_sequences"], parameters).fetchall())


def entities(session: Session, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
    """See `Storage.load_entities`."""
    rows = session.execute(ENTITY_SQL["load"], (text_of(keys),)).fetchall()
    return [EntityState(*row) for row in rows]


def fields(session: Session, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
    """See `Storage.load_fields`."""
    rows = session.execute(FIELD_SQL["load"], (text_of(places),)).fetchall()
    return [EntityField(*row) for row in rows]


def expired_entities(
    session: Session, entity: str, partitions: Sequence[int], now: float, limit: int
) -> list[tuple[str, int]]:
    """See `Storage.expired_entities`."""
    parameters = {
        "entity": entity, "now": now, "partitions": text_of(partitions), "limit": limit,
    }  # fmt: skip
    return session.execute(ENTITY_SQL["expired"], parameters).fetchall()


def misdated_entities(
    session: Session, where: EntityRange
) -> tuple[list[tuple[str, int]], str | None]:
    """See `Storage.misdated_entities`."""
    parameters = {
        "entity": where.entity, "partitions": text_of(where.partitions), "ttl": where.ttl_seconds,
        "start": where.start, "handler": f"{where.entity}.{OPERATION}", "limit": where.limit,
    }  # fmt: skip
    rows = session.execute(ENTITY_SQL["misdated"], parameters).fetchall()
    return misdated(rows, where.limit)


def outcomes(session: Session, ids: Sequence[str]) -> dict[str, Outcome | Open]:
    """See `Storage.outcomes`."""
    found: dict[str, Outcome | Open] = {}
    # One snapshot: a call moves from the inbox to its row in one transaction, and must not be missed
    # between two looks.
    session.execute(SQL["begin_read"])
    rows = session.execute(INVOCATION_SQL["outcomes"], (text_of(ids),)).fetchall()
    for id_, text, result, failure, partition in rows:
        status = status_of(text)
        if status in FINISHED:
            found[id_] = Outcome(status, result, failure_of(failure))
        else:
            found[id_] = Open(status, partition)
    missing = [each for each in ids if each not in found]
    if missing:
        for id_, partition in session.execute(INBOX_SQL["calls"], (text_of(missing),)).fetchall():
            found.setdefault(id_, Open(Status.PENDING, partition))
    session.commit()
    return found


def unhandled(
    session: Session, handlers: Sequence[tuple[str, int]], besides: Sequence[int], limit: int
) -> list[tuple[str, int]]:
    """See `Storage.find_unhandled`."""
    parameters = {
        "handlers": text_of(list(handlers)), "besides": text_of(list(besides)), "limit": limit,
    }  # fmt: skip
    return session.execute(INVOCATION_SQL["unhandled"], parameters).fetchall()
