"""The raw ceiling on PostgreSQL: the batches of a run, sent again by a bare loop on one connection.

`recorded` keeps what a node's session really sent: which parts each statement had, and its parameters.
`ceiling_of` then sends the same statements, prepared, with all parameters ready, one after the other on one
connection of asyncpg into a fresh schema on the same server: no call, no journal, no encoding, no inbox read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from _server import forget

from fenbu._storage.postgres import commit
from fenbu._storage.postgres.statement import statements
from fenbu._storage.postgres.storage import PostgresStorage
from fenbu._storage.postgres.url import target_of


class Recorder:
    """The statements of a run, each with the names of its parts, and which of them are measured."""

    def __init__(self) -> None:
        self.log: list[list[commit.Part]] = []
        self.first = 0
        self.last = 0

    def begin(self) -> None:
        self.first = len(self.log)

    def end(self) -> None:
        self.last = len(self.log)


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Batches that are written inside are kept."""
    recorder = Recorder()
    original = commit.CommitWriter._execute  # noqa: SLF001

    async def execute(self: Any, connection: Any, parts: list[commit.Part]) -> None:
        recorder.log.append(parts)
        await original(self, connection, parts)

    commit.CommitWriter._execute = execute  # type: ignore[method-assign]  # noqa: SLF001
    try:
        yield recorder
    finally:
        commit.CommitWriter._execute = original  # type: ignore[method-assign]  # noqa: SLF001


@dataclass
class Ceiling:
    """What the bare loop took for the measured statements."""

    seconds: float
    rows: int
    batches: int
    commit_milliseconds: float
    """The median statement."""


def rows_of(part: commit.Part) -> int:
    """How many rows a part writes."""
    first = part.parameters[0]
    return len(json.loads(first)) if isinstance(first, str) else len(first)


async def ceiling_of(recorder: Recorder, url: str) -> Ceiling:
    """Send everything again into a fresh schema; the measured part is timed."""
    storage = PostgresStorage(url)
    await storage.open()
    await storage.close()
    target = target_of(url)
    sql = statements(target.schema)
    connection: Any = await asyncpg.connect(target.url)
    await connection.fetchrow(sql["session.configure"], "bare loop", "10000")
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    prepared: dict[tuple[str, ...], Any] = {}
    todo: list[tuple[Any, list[Any]]] = []
    for parts in recorder.log:
        names = tuple(each.name for each in parts)
        if names not in prepared:
            prepared[names] = await connection.prepare(commit.compose(sql, names))
        todo.append((prepared[names], [pid, *(each for part in parts for each in part.parameters)]))
    took: list[float] = []
    clock = time.perf_counter
    for number, (statement, parameters) in enumerate(todo):
        began = clock()
        await statement.fetchval(*parameters)
        if recorder.first <= number < recorder.last:
            took.append(clock() - began)
    await connection.close()
    await forget(url)
    measured = recorder.log[recorder.first : recorder.last]
    rows = sum(rows_of(part) for parts in measured for part in parts)
    return Ceiling(sum(took), rows, len(took), sorted(took)[len(took) // 2] * 1e3)
