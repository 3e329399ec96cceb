"""Reads for people: the command line and the dashboard.

Each is bounded by a limit or reads an index, except `list_entities`, which looks at every entity (an index on
the time of their change would cost each operation), and the check of the file in `check`.
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from fenbu._core import ids
from fenbu._core.attribute import Condition
from fenbu._core.message import Making, decode
from fenbu._core.model import Chunk, EntityField, EntityState, Invocation, Status, Stored
from fenbu._storage.expiry import EntityRange
from fenbu._storage.observer import CallFilter
from fenbu._storage.rows import invocation_of, range_of_address, status_of, text_of
from fenbu._storage.sqlite.connection import Connection
from fenbu._storage.sqlite.load import expired_entities, fields, misdated_entities
from fenbu._storage.sqlite.migrate import META_SQL
from fenbu._storage.sqlite.ownership import owner_of, present_owner_of
from fenbu._storage.sqlite.rewrite import rewrite
from fenbu._storage.sqlite.rows import (
    ENTITY_SQL,
    FIELD_SQL,
    INBOX_SQL,
    INVOCATION_SQL,
)
from fenbu._storage.sqlite.session import SQL, Session
from fenbu._storage.sqlite.streams import infos, last, pages, scan
from fenbu._storage.stream import StreamCursor, StreamInfo, StreamPage

FREE_BYTES_MIN = 256 * 1024 * 1024
LOG_BYTES_MAX = 512 * 1024 * 1024

LAST_CHARACTER = "\U0010ffff"
"""After every character that an id may have: those are printable."""


class Observation(ABC):
    """The half of the storage that is an Observer; its reader does the work of the functions below."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    @abstractmethod
    def _reader(self) -> Connection: ...

    @property
    @abstractmethod
    def _writer(self) -> Connection: ...

    async def list_calls(self, where: CallFilter) -> list[Invocation]:
        return await self._reader.run(list_calls, where)

    async def find_calls(self, beginning: str, *, limit: int) -> list[Invocation]:
        return await self._reader.run(find_calls, beginning, limit)

    async def count_calls(self) -> dict[tuple[str, Status], int]:
        return await self._reader.run(count_calls)

    async def operations_before(self, invocation: Invocation, *, limit: int) -> list[Invocation]:
        return await self._reader.run(operations_before, invocation, limit)

    async def children(self, id: str, *, limit: int) -> list[Invocation]:  # noqa: A002
        return await self._reader.run(children, id, limit)

    async def load_chunks(self, cursors: Sequence[StreamCursor], *, limit: int) -> list[StreamPage]:
        return await self._reader.run(pages, cursors, limit)

    async def last_chunk(self, id: str, stream: str, before: float | None = None) -> int:  # noqa: A002
        return await self._reader.run(last, id, stream, before)

    async def list_streams(self, id: str) -> list[StreamInfo]:  # noqa: A002
        return await self._reader.run(infos, id)

    async def load_fields(self, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
        return await self._reader.run(fields, places)

    async def expired_entities(
        self, entity: str, partitions: Sequence[int], now: float, *, limit: int
    ) -> list[tuple[str, int]]:
        return await self._reader.run(expired_entities, entity, partitions, now, limit)

    async def misdated_entities(
        self, where: EntityRange
    ) -> tuple[list[tuple[str, int]], str | None]:
        return await self._reader.run(misdated_entities, where)

    async def list_entities(self, entity: str | None, *, limit: int) -> list[EntityState]:
        return await self._reader.run(list_entities, entity, limit)

    async def scan_entities(self, after: tuple[str, str], *, limit: int) -> list[EntityState]:
        return await self._reader.run(scan_entities, after, limit)

    async def list_fields(self, entity: str, key: str) -> list[tuple[str, int]]:
        return await self._reader.run(list_fields, entity, key)

    async def scan_fields(self, after: tuple[str, str, str], *, limit: int) -> list[EntityField]:
        return await self._reader.run(scan_fields, after, limit)

    async def scan_chunks(self, after: int, *, limit: int) -> list[Chunk]:
        return await self._reader.run(scan, after, limit)

    async def rewrite(self, changes: Sequence[tuple[Stored, Stored]]) -> int:
        return await self._writer.run(rewrite, list(changes))

    async def inbox_count(self) -> int:
        return await self._reader.run(inbox_count)

    async def owner(self) -> str | None:
        owner = await self._reader.run(present_owner_of, self._path)
        return None if owner is None else str(owner)

    async def check(self) -> list[tuple[str, bool, str]]:
        return await self._reader.run(check, self._path)


def list_calls(session: Session, where: CallFilter) -> list[Invocation]:
    """See `Observer.list_calls`."""
    parameters: dict[str, Any] = {
        "statuses": None if where.statuses is None else text_of(where.statuses),
        "handler": where.handler,
        "created_after": where.created_after,
        "created_before": where.created_before,
        "last_at": None if where.after is None else where.after[0],
        "last_id": None if where.after is None else where.after[1],
        "limit": where.limit,
    }
    query = "list"
    if where.where:
        query = "list_where"
        parameters |= _first(where.where[0]) | {"conditions": text_of(where.where)}
    rows = session.execute(INVOCATION_SQL[query], parameters).fetchall()
    return [invocation_of(row) for row in rows]


def _first(wanted: Condition) -> dict[str, Any]:
    """A condition as a range of the index: numbers come before texts there, and texts before bytes."""
    least, most = ("", b"") if wanted.kind == "text" else (-math.inf, math.inf)
    low = least if wanted.operator in {"<", "<="} else wanted.value
    high = most if wanted.operator in {">", ">="} else wanted.value
    return {"name": wanted.name, "kind": wanted.kind, "low": low, "high": high}


def find_calls(session: Session, beginning: str, limit: int) -> list[Invocation]:
    """See `Observer.find_calls`."""
    parameters = {"beginning": beginning, "until": f"{beginning}{LAST_CHARACTER}", "limit": limit}
    # One snapshot: a call moves from the inbox to its row in one transaction.
    session.execute(SQL["begin_read"])
    rows = session.execute(INVOCATION_SQL["find"], parameters).fetchall()
    messages = session.execute(INBOX_SQL["find"], parameters).fetchall()
    session.commit()
    found = {row[0]: invocation_of(row) for row in rows}
    for (text,) in messages:
        message = decode(text)
        if isinstance(message, Making):
            found.setdefault(message.invocation.id, message.invocation)
    return [found[id_] for id_ in sorted(found)][:limit]


def count_calls(session: Session) -> dict[tuple[str, Status], int]:
    """See `Observer.count_calls`."""
    rows = session.execute(INVOCATION_SQL["count"]).fetchall()
    return {(handler, status_of(status)): count for handler, status, count in rows}


def operations_before(session: Session, invocation: Invocation, limit: int) -> list[Invocation]:
    """See `Observer.operations_before`."""
    parameters = (invocation.entity, invocation.key, invocation.sequence, limit)
    rows = session.execute(INVOCATION_SQL["operations_before"], parameters).fetchall()
    return [invocation_of(row) for row in rows]


def children(session: Session, id_: str, limit: int) -> list[Invocation]:
    """See `Observer.children`."""
    row = session.execute(INVOCATION_SQL["run_of"], (id_,)).fetchone()
    if row is None:
        return []
    partition, attempt = row
    awaited_from, awaited_until = range_of_address(partition, id_)
    parameters = {
        "awaited_from": awaited_from,
        "awaited_until": awaited_until,
        "prefixes": text_of(child_prefixes(id_, attempt)),
        "limit": limit,
    }
    rows = session.execute(INVOCATION_SQL["children"], parameters).fetchall()
    return [invocation_of(row) for row in rows]


def child_prefixes(id_: str, attempt: int) -> list[str]:
    """What the ids of the calls that a call started begin with, for each of its runs."""
    return [ids.child_id(ids.run_id(id_, run), 0)[:-1] for run in range(attempt + 1)]


def list_entities(session: Session, entity: str | None, limit: int) -> list[EntityState]:
    """See `Observer.list_entities`."""
    parameters = {"entity": entity, "limit": limit}
    rows = session.execute(ENTITY_SQL["list"], parameters).fetchall()
    return [EntityState(*row) for row in rows]


def scan_entities(session: Session, after: tuple[str, str], limit: int) -> list[EntityState]:
    """See `Observer.scan_entities`."""
    parameters = {"entity": after[0], "key": after[1], "limit": limit}
    rows = session.execute(ENTITY_SQL["scan"], parameters).fetchall()
    return [EntityState(*row) for row in rows]


def list_fields(session: Session, entity: str, key: str) -> list[tuple[str, int]]:
    """See `Observer.list_fields`."""
    return session.execute(FIELD_SQL["sizes"], {"entity": entity, "key": key}).fetchall()


def scan_fields(session: Session, after: tuple[str, str, str], limit: int) -> list[EntityField]:
    """See `Observer.scan_fields`."""
    parameters = {"entity": after[0], "key": after[1], "name": after[2], "limit": limit}
    return [EntityField(*row) for row in session.execute(FIELD_SQL["scan"], parameters).fetchall()]


def inbox_count(session: Session) -> int:
    """See `Observer.inbox_count`."""
    return session.execute(INBOX_SQL["count"]).fetchone()[0]


def check(session: Session, path: str) -> list[tuple[str, bool, str]]:
    """See `Observer.check`."""
    damage = "; ".join(row[0] for row in session.execute(META_SQL["quick_check"]).fetchall())
    mode = session.execute(SQL["journal_mode"]).fetchone()[0]
    free = shutil.disk_usage(os.path.dirname(path)).free  # noqa: PTH120
    log = os.stat(f"{path}-wal").st_size if os.path.exists(f"{path}-wal") else 0  # noqa: PTH110, PTH116
    parked = session.execute(INVOCATION_SQL["count_parked"]).fetchall()
    return [
        ("file", damage == "ok", f"{path}: {damage}"),
        ("SQLite", True, sqlite3.sqlite_version),
        ("journal mode", mode == "wal", str(mode)),
        ("free space", free >= FREE_BYTES_MIN, f"{free >> 20} MiB; 256 MiB are wanted"),
        (
            "write-ahead log",
            log <= LOG_BYTES_MAX,
            f"{log >> 20} MiB; if it stays above 512 MiB, a reader holds a transaction open",
        ),
        ("node", True, _node(session, path)),
        (
            "parked calls",
            not parked,
            ", ".join(f"{count} {status}" for status, count in parked) or "none",
        ),
        ("inbox", True, f"{inbox_count(session)} messages not yet applied"),
    ]


def _node(session: Session, path: str) -> str:
    owner = present_owner_of(session, path)
    if owner is not None:
        return f"{owner} runs on it"
    last = owner_of(session)
    return "none runs on it" if last is None else f"none runs on it now; the last was {last}"
