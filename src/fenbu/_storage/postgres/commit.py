"""The batch as one statement, and so as one round trip: every part is a data-modifying WITH query.

Measured on 2 cores shared with the server, fsync on, 1,000 three-step workflows in four batches (1,000 calls
accepted; 1,000 entries; 1,000 entries; 1,000 entries and 1,000 calls ended): arrays with unnest() take 48 ms,
19 of them this process's CPU time; json_to_recordset() 41 ms and 4.7; jsonb_to_recordset() 49 ms and 4.6.
COPY would take a third less for entries, but cannot be part of a statement.

The parts of one statement see the same snapshot and have no order, so what depends on order is decided
before: see `resolve.py`, and here for a call that is inserted and updated. What is left, a call that goes
before it begins anew, takes a transaction of two statements.

Guarantees: one-outcome, no-split-brain. A row is in the database once or not at all: an id that exists
already makes the whole batch fail. And so does a session that is not the one that holds the locks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct

from fenbu._core.batch import CommitBatch
from fenbu._storage.postgres import rows
from fenbu._storage.postgres.driver import DRIVER_ERRORS, Connection, Statement
from fenbu._storage.postgres.error import code_of, commit_failed
from fenbu._storage.postgres.session import Writer
from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu._storage.resolve import resolve

_PARAMETER: Final = re.compile(r"\$(\d+)")

NUL_REFUSED: Final = "22P05"
"""No text in PostgreSQL has the character U+0000. A signal's name may, and must not stop a node."""

_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""Its escape in JSON: with an odd number of backslashes."""


class Part(Struct, frozen=True):
    """One of the queries of the statement."""

    name: str
    parameters: Sequence[Any]


class Todo(Struct, frozen=True):
    """A batch, copied."""

    rewritten: list[str]
    """Calls that go before the parts, with their journals, …"""
    chunks_deleted: list[str]
    """… and those of them whose chunks go, too."""
    parts: list[Part]
    partitions: set[int]
    """Whose inbox it writes to."""
    ends: bool
    """A call has its outcome by it, or a stream a chunk more: somebody may wait for that."""


def prepare(batch: CommitBatch) -> Todo:
    """Copy a batch into parameters."""
    batch = resolve(batch)
    parts: list[Part] = []
    inserted, updated = batch.inserted, batch.updated
    if inserted:
        changed = {each.id: each for each in updated}
        if changed and not changed.keys().isdisjoint(each.id for each in inserted):
            inserted = [
                rows.with_changes(each, changed.pop(each.id)) if each.id in changed else each
                for each in inserted
            ]
            updated = list(changed.values())
    if inserted or batch.rewritten:
        whole = [*inserted, *batch.rewritten]
        parts.append(Part("invocation_insert", [rows.inserted(whole)]))
    if updated:
        parts.append(Part("invocation_update", [rows.updated(updated)]))
    if batch.entries:
        parts.append(Part("entry_insert", [rows.entries(batch.entries)]))
    if batch.deleted:
        ids = [list(batch.deleted)]
        parts += (Part("invocation_delete", ids), Part("entry_delete", ids))
    if batch.entities:
        parts.append(Part("entity_upsert", [rows.entities(batch.entities)]))
    if batch.entities_deleted:
        names = batch.entities_deleted
        parts.append(
            Part("entity_delete", [[each[0] for each in names], [each[1] for each in names]])
        )
    if batch.fields:
        parts.append(Part("field_upsert", [rows.fields(batch.fields)]))
    if batch.fields_deleted:
        columns = zip(*batch.fields_deleted, strict=True)
        parts.append(Part("field_delete", [list(each) for each in columns]))
    if batch.inbox:
        parts.append(Part("inbox_insert", rows.inbox_columns(batch.inbox)))
    if batch.inbox_deleted:
        parts.append(Part("inbox_delete", [list(batch.inbox_deleted)]))
    if batch.chunks:
        parts.append(Part("chunk_insert", [rows.chunks(batch.chunks)]))
    if batch.step_results_deleted:
        columns = zip(*batch.step_results_deleted, strict=True)
        parts.append(Part("step_result_delete", [list(each) for each in columns]))
    return Todo(
        [each.id for each in batch.rewritten],
        list(batch.chunks_deleted),
        parts,
        {each.partition for each in batch.inbox},
        bool(batch.chunks)
        or any(each.finished_at is not None for some in (inserted, updated) for each in some),
    )


def compose(sql: dict[str, str], names: Sequence[str]) -> str:
    """One statement of these parts, whose parameters follow one another; that of the session comes first."""
    count = 1
    queries: list[str] = []
    for name in names:
        query = sql[f"commit.{name}"]
        queries.append(f"{name} AS ({_PARAMETER.sub(partial(_shifted, count), query)})")
        count += len(set(_PARAMETER.findall(query)))
    return f"WITH {', '.join(queries)} {sql['commit.finish']}"


def _without_nul(todo: Todo) -> Todo:
    """With U+FFFD in place of U+0000. In payloads, which are JSON, it is written otherwise and stays."""
    parts = [
        Part(
            part.name,
            [
                _NUL.sub(r"\1\\ufffd", each) if isinstance(each, str) else each
                for each in part.parameters
            ],
        )
        for part in todo.parts
    ]
    return Todo(todo.rewritten, todo.chunks_deleted, parts, todo.partitions, ends=todo.ends)


def _shifted(offset: int, parameter: re.Match[str]) -> str:
    return f"${int(parameter[1]) + offset}"


class CommitWriter:
    """Writes batches through a node's session; keeps a prepared statement for each set of parts."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._statements: dict[tuple[str, ...], Statement] = {}

    async def write(self, todo: Todo) -> Commit:
        """All or nothing.

        Raises:
            OwnershipLost: The session is over; nothing was written.
        """
        if not todo.parts:
            return Commit(CommitOutcome.COMMITTED)
        try:
            try:
                await self._writer.run_here(lambda connection: self._write(connection, todo))
            except DRIVER_ERRORS as error:
                if code_of(error) != NUL_REFUSED:
                    raise
                todo = _without_nul(todo)
                await self._writer.run_here(lambda connection: self._write(connection, todo))
        except DRIVER_ERRORS as error:
            return commit_failed(error, self._writer.target)
        return Commit(CommitOutcome.COMMITTED)

    async def _write(self, connection: Connection, todo: Todo) -> None:
        if not todo.rewritten:
            await self._execute(connection, todo.parts)
            return
        async with connection.transaction():
            ids = [todo.rewritten]
            gone = [Part("invocation_delete", ids), Part("entry_delete", ids)]
            if todo.chunks_deleted:
                gone.append(Part("chunk_delete", [todo.chunks_deleted]))
            await self._execute(connection, gone)
            await self._execute(connection, todo.parts)

    async def _execute(self, connection: Connection, parts: list[Part]) -> None:
        names = tuple(each.name for each in parts)
        statement = self._statements.get(names)
        if statement is None:
            statement = await connection.prepare(compose(self._writer.sql, names))
            self._statements[names] = statement
        parameters = [each for part in parts for each in part.parameters]
        await statement.fetchval(self._writer.pid, *parameters)
