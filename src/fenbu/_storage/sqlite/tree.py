"""A call with its tree, read in one transaction, and calls from elsewhere, written in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from fenbu._core.message import Making, Message, decode
from fenbu._core.tree import Look, Seen, Walk, drive
from fenbu._storage.rows import chunk_of, range_of_address, text_of
from fenbu._storage.sqlite.load import entities, fields, with_journals
from fenbu._storage.sqlite.node import Ownership
from fenbu._storage.sqlite.rows import (
    CHUNK_SQL,
    INBOX_SQL,
    INSERT_MESSAGES,
    INVOCATION_SQL,
    inbox_parameters,
)
from fenbu._storage.sqlite.session import SQL, Session

T = TypeVar("T")


class Moves(Ownership):
    """The part of the storage that is Moves."""

    async def enqueue_new(self, messages: Sequence[Message]) -> list[str]:
        return await self._writer.run(put_new, list(messages))

    async def snapshot(self, walk: Walk[T]) -> T:
        return await self._reader.run(snapshot, walk)


def snapshot(session: Session, walk: Walk[T]) -> T:
    """See `Storage.snapshot`."""
    session.execute(SQL["begin_read"])
    try:
        return drive(walk, partial(_look_up, session))
    finally:
        session.commit()


def _look_up(session: Session, look: Look) -> Seen:
    calls = with_journals(session, "load", (text_of(look.ids),))
    found = text_of([each.invocation.id for each in calls])
    chunks = session.execute(CHUNK_SQL["of_calls"], (found,)).fetchall()
    seen = Seen(calls, [chunk_of(row) for row in chunks])
    if look.parents:
        ranges = [range_of_address(*each) for each in look.parents]
        rows = session.execute(INVOCATION_SQL["awaited"], (text_of(ranges),)).fetchall()
        seen.children = [id_ for (id_,) in rows]
    if look.entities:
        seen.states = entities(session, look.entities)
    if look.fields:
        seen.fields = fields(session, look.fields)
    if look.messages:
        rows = session.execute(INBOX_SQL["all"]).fetchall()
        seen.messages = [decode(message) for (message,) in rows]
    return seen


def put_new(session: Session, messages: Sequence[Message]) -> list[str]:
    """See `Storage.enqueue_new`."""
    made = (text_of([each.invocation.id for each in messages if isinstance(each, Making)]),)
    session.begin()
    rows = session.execute(INVOCATION_SQL["places"], made).fetchall()
    rows += session.execute(INBOX_SQL["calls"], made).fetchall()
    existing = sorted({row[0] for row in rows})
    if not existing:
        for each in INSERT_MESSAGES.statements(inbox_parameters(messages)):
            session.execute(*each)
    session.commit()
    return existing
