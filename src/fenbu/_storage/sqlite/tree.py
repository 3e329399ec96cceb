"""A call with its tree, read in one transaction, and calls from elsewhere, written in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from fenbu._core.message import Making, Message, decode
from fenbu._core.model import EntityState, Loaded
from fenbu._core.tree import Look, Seen, Walk, drive
from fenbu._storage.rows import chunk_of, entry_of, invocation_of, range_of_address, text_of
from fenbu._storage.sqlite.load import fields
from fenbu._storage.sqlite.node import Ownership
from fenbu._storage.sqlite.rows import (
    CHUNK_SQL,
    ENTITY_SQL,
    ENTRY_SQL,
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
    wanted = (text_of(look.ids),)
    rows = session.execute(INVOCATION_SQL["load"], wanted).fetchall()
    calls = {row[0]: Loaded(invocation_of(row), []) for row in rows}
    for row in session.execute(ENTRY_SQL["load"], (text_of(list(calls)),)).fetchall():
        calls[row[0]].entries.append(entry_of(row))
    chunks = session.execute(CHUNK_SQL["of_calls"], (text_of(list(calls)),)).fetchall()
    seen = Seen(list(calls.values()), [chunk_of(row) for row in chunks])
    if look.parents:
        ranges = [range_of_address(*each) for each in look.parents]
        found = session.execute(INVOCATION_SQL["awaited"], (text_of(ranges),)).fetchall()
        seen.children = [id_ for (id_,) in found]
    if look.entities:
        found = session.execute(ENTITY_SQL["load"], (text_of(look.entities),)).fetchall()
        seen.states = [EntityState(*row) for row in found]
    if look.fields:
        seen.fields = fields(session, look.fields)
    if look.messages:
        found = session.execute(INBOX_SQL["all"]).fetchall()
        seen.messages = [decode(message) for (message,) in found]
    return seen


def put_new(session: Session, messages: Sequence[Message]) -> list[str]:
    """See `Storage.enqueue_new`."""
    made = (text_of([each.invocation.id for each in messages if isinstance(each, Making)]),)
    session.begin()
    rows = session.execute(INVOCATION_SQL["places"], made).fetchall()
    rows += session.execute(INBOX_SQL["calls"], made).fetchall()
    existing = sorted({id_ for id_, _ in rows})
    if not existing:
        for each in INSERT_MESSAGES.statements(inbox_parameters(messages)):
            session.execute(*each)
    session.commit()
    return existing
