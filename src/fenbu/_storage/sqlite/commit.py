"""The batch as SQL: as few statements as possible, in one transaction.

Few, because sqlite3 releases the interpreter's lock around each statement and, beside a busy event loop,
may wait a whole switch interval to get it back (measured: 500 rows by `executemany` 2,600 rows a second,
by one statement 36,000). For the same reason a batch of one statement does without BEGIN and COMMIT.

What is rewritten goes before anything else. Guarantee: one-outcome. A row is in the database once or not at
all: an id that exists already makes the whole batch fail.
"""

from __future__ import annotations

import sqlite3
from time import perf_counter
from typing import Final

from fenbu._core.batch import CommitBatch
from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu._storage.resolve import resolve
from fenbu._storage.rows import text_of
from fenbu._storage.sqlite.error import commit_failed
from fenbu._storage.sqlite.rows import (
    CHUNK_SQL,
    ENTITY_SQL,
    ENTRY_SQL,
    INBOX_SQL,
    INSERT_CHUNKS,
    INSERT_ENTRIES,
    INSERT_INVOCATIONS,
    INSERT_LARGE_ARGS,
    INSERT_MESSAGES,
    INVOCATION_SQL,
    UPDATE_INVOCATIONS,
    UPSERT_ENTITIES,
    chunk_parameters,
    entity_parameters,
    entry_parameters,
    inbox_parameters,
    invocation_parameters,
    update_parameters,
)
from fenbu._storage.sqlite.session import Session
from fenbu._storage.sqlite.shape import Statement

QUICK_SECONDS: Final = 0.001

SMALL: Final = 256
"""Parameters of a commit that counts as small: about a dozen rows."""


def prepare(batch: CommitBatch) -> list[Statement]:
    """Copy a batch into statements; runs in the caller's thread."""
    batch = resolve(batch)
    todo: list[Statement] = []
    inserted = batch.inserted
    if batch.rewritten:
        ids = (text_of([each.id for each in batch.rewritten]),)
        todo.append(Statement(INVOCATION_SQL["delete"], ids))
        todo.append(Statement(ENTRY_SQL["delete"], ids))
        inserted = inserted + batch.rewritten
        if batch.chunks_deleted:
            todo.append(Statement(CHUNK_SQL["delete_all"], (text_of(batch.chunks_deleted),)))
    if inserted:
        rows, apart = invocation_parameters(inserted)
        todo += INSERT_INVOCATIONS.statements(rows)
        if apart:
            todo += INSERT_LARGE_ARGS.statements(apart)
    if batch.updated:
        todo += UPDATE_INVOCATIONS.statements(update_parameters(batch.updated))
    if batch.entries:
        todo += INSERT_ENTRIES.statements(entry_parameters(batch.entries))
    if batch.deleted:
        ids = (text_of(batch.deleted),)
        todo.append(Statement(INVOCATION_SQL["delete"], ids))
        todo.append(Statement(ENTRY_SQL["delete"], ids))
    if batch.entities_deleted:
        todo.append(Statement(ENTITY_SQL["delete"], (text_of(batch.entities_deleted),)))
    if batch.entities:
        todo += UPSERT_ENTITIES.statements(entity_parameters(batch.entities))
    if batch.inbox_deleted:
        todo.append(Statement(INBOX_SQL["delete"], (text_of(batch.inbox_deleted),)))
    if batch.inbox:
        todo += INSERT_MESSAGES.statements(inbox_parameters(batch.inbox))
    if batch.chunks:
        todo += INSERT_CHUNKS.statements(chunk_parameters(batch.chunks))
    return todo


class Pace:
    """How long small commits take on this disk, which decides in which thread they are made.

    One that takes less than `QUICK_SECONDS` is made by the event loop's own thread: to hand it to another
    and to hear of its end takes about as long as the commit itself, and the loop is held no longer than by
    a slow callback. When the disk becomes slow, or checkpoints, the writer's thread takes over until
    commits are quick again.
    """

    def __init__(self) -> None:
        self._seconds = 1.0
        """A moving average."""

    def is_quick(self, todo: list[Statement]) -> bool:
        return self._seconds < QUICK_SECONDS and _size(todo) <= SMALL

    def write(self, session: Session, todo: list[Statement], path: str) -> Commit:
        """See `write`."""
        began = perf_counter()
        try:
            return write(session, todo, path)
        finally:
            if _size(todo) <= SMALL:
                self._seconds += 0.2 * (perf_counter() - began - self._seconds)


def _size(todo: list[Statement]) -> int:
    return sum(len(each.parameters) for each in todo)


def write(session: Session, todo: list[Statement], path: str) -> Commit:
    """Execute them, all or none; runs in the writer's thread."""
    committing = len(todo) == 1
    try:
        if committing:
            session.write(*todo[0])
        else:
            session.begin()
            for each in todo:
                session.execute(*each)
            committing = True
            session.commit()
    except sqlite3.Error as error:
        session.roll_back()
        return commit_failed(error, path, committing=committing)
    return Commit(CommitOutcome.COMMITTED)
