"""The raw ceiling: the rows of a run, written again in the same batches by a bare loop without any framework.

`Recorder` keeps what the engine's connections really executed: each statement with its parameters, and
where each transaction ended. It holds on to parameters that exist anyway, so the run pays one append for a
statement. `replay` then writes the same rows in the same transactions into a fresh database with the same
tables and pragmas in the same directory, with sqlite3 alone, in one thread, with all parameters ready:
no call, no journal, no encoding, no second thread that wants the interpreter's lock. Each way below is
tried, and the fastest is the ceiling:

- `as executed`: the engine's own statements;
- `executemany`: one prepared statement for one row, executed for each row;
- `multi-row`: INSERT … VALUES (…), (…) with exactly as many rows as there are;
- `multi-row, 32 at a time`: one prepared statement for 32 rows, the rest by executemany.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

COMMIT = "COMMIT"
SKIPPED = -1
"""How a row begins that only fills up a statement of a fixed size."""
BLOCK_ROWS = 32

Step = tuple[Callable[[str, Any], object], str, Any]
"""What to call on a connection: a method, a statement and its parameters."""


class Recorded:
    """Mixed into a connection's class: keeps what it executes."""

    log: list[tuple[object, str, Any]]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.log.append((self, sql, parameters))
        return super().execute(sql, parameters)  # type: ignore[misc,no-any-return]

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        rows = list(parameters)
        self.log += [(self, sql, row) for row in rows]
        return super().executemany(sql, rows)  # type: ignore[misc,no-any-return]

    def commit(self) -> None:
        self.log.append((self, COMMIT, ()))
        super().commit()  # type: ignore[misc]


class Recorder:
    """What was executed, in order, and which part of it is measured."""

    def __init__(self) -> None:
        self.log: list[tuple[object, str, Any]] = []
        self.first = 0
        self.last: int | None = None

    def begin(self) -> None:
        """The measured part begins."""
        self.first = len(self.log)

    def end(self) -> None:
        """The measured part has ended."""
        self.last = len(self.log)


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Connections that are opened inside are recorded."""
    recorder = Recorder()
    original = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        made = options.pop("factory", sqlite3.Connection)
        factory = type(made.__name__, (Recorded, made), {"log": recorder.log})
        return original(*args, factory=factory, **options)

    sqlite3.connect = connect  # type: ignore[assignment]
    try:
        yield recorder
    finally:
        sqlite3.connect = original


@dataclass
class Batch:
    """The statements of one transaction."""

    statements: list[tuple[str, Any]]
    measured: bool


@dataclass
class Recording:
    """A run as the database saw it."""

    schema: list[str]
    pragmas: list[str]
    batches: list[Batch]

    @property
    def measured(self) -> list[Batch]:
        return [each for each in self.batches if each.measured]

    @property
    def rows(self) -> int:
        """Rows that the measured batches insert, update or delete."""
        return sum(
            row_count(sql, parameters)
            for batch in self.measured
            for sql, parameters in batch.statements
        )


WRITES = re.compile(r"(?:--[^\n]*\n|\s)*(insert|update|delete|replace)\b", re.IGNORECASE)
SETTING = re.compile(r"(?:--[^\n]*\n|\s)*pragma\s+\w+\s*=\s*\w", re.IGNORECASE)
ROW = re.compile(r"\((\?(?:, (?:\?|NULL))*)\)")
"""A row of VALUES. Columns that are empty in all rows have no parameter."""


def recording_of(recorder: Recorder, database: Path) -> Recording:
    """What the writer of `database` did; call it when nothing has the database open any more."""
    writes = Counter(id(each[0]) for each in recorder.log if WRITES.match(each[1]))
    ((writer, _),) = writes.most_common(1)
    batches: list[Batch] = []
    pragmas: list[str] = []
    opened: list[tuple[str, Any]] | None = None
    last = len(recorder.log) if recorder.last is None else recorder.last
    for index, (connection, sql, parameters) in enumerate(recorder.log):
        if id(connection) != writer:
            continue
        measured = recorder.first <= index < last
        word = sql.lstrip().upper()
        if word.startswith("BEGIN"):
            opened = []
        elif word == COMMIT:
            if opened:
                batches.append(Batch(opened, measured))
            opened = None
        elif SETTING.match(sql):
            pragmas.append(sql)
        elif WRITES.match(sql) and _table(sql) != "meta":
            if opened is None:
                batches.append(Batch([(sql, parameters)], measured))
            else:
                opened.append((sql, parameters))
    with sqlite3.connect(database) as connection:
        schema = [
            sql
            for (sql,) in connection.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
            )
        ]
    connection.close()
    return Recording(schema, pragmas, batches)


# One statement in other words.


def _table(sql: str) -> str:
    found = re.search(r"\b(?:into|update|from)\s+(\w+)", sql, re.IGNORECASE)
    return found[1].lower() if found else ""


def rows_of(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
    """The rows of a statement over VALUES, without those that fill up; None if it has another form."""
    if "VALUES" not in sql.upper() or isinstance(parameters, dict):
        return None
    found = ROW.search(sql)
    if found is None:
        return None
    columns = found[1].count("?")
    flat = tuple(parameters)
    rows = [flat[start : start + columns] for start in range(0, len(flat), columns)]
    return [row for row in rows if row[0] != SKIPPED]


def row_count(sql: str, parameters: Any) -> int:
    rows = rows_of(sql, parameters)
    if rows is not None:
        return len(rows)
    if len(parameters) == 1 and isinstance(parameters, tuple) and "json_each" in sql:
        return len(json.loads(parameters[0]))
    return 1


@dataclass(frozen=True)
class Single:
    """A statement for one row, made from one for many."""

    sql: str
    row: str
    """Of VALUES, in the statement for many."""
    order: tuple[int, ...]
    """Which value of the row each parameter is."""
    insert: bool

    @property
    def columns(self) -> int:
        """Of a row of the statement for many."""
        return len(self.order)

    def multiple(self, count: int) -> str:
        head, _, tail = self.sql.partition(self.row)
        return head + ", ".join([self.row] * count) + tail


@cache
def single_of(sql: str) -> Single | None:
    """The plain statement that does for one row what `sql` does for many; None if it has another form."""
    text = " ".join(re.sub(r"--[^\n]*", " ", sql).split())
    found = ROW.search(text)
    if found is None:
        return None
    row, values = found[0], found[1].split(", ")
    columns = values.count("?")
    insert = re.match(r"INSERT INTO (\w+) \(([^)]*)\)", text, re.IGNORECASE)
    if insert is not None:
        conflict = re.search(r"ON CONFLICT .*$", text, re.IGNORECASE)
        tail = f" {conflict[0]}" if conflict else ""
        names = f"INSERT INTO {insert[1]} ({insert[2]})"
        return Single(f"{names} VALUES {row}{tail}", row, tuple(range(columns)), insert=True)
    update = re.match(r"UPDATE (\w+) SET (.*?) FROM \(VALUES", text, re.IGNORECASE)
    where = re.search(r"AND \w+\.(\w+) = new\.column(\d+)", text, re.IGNORECASE)
    if update is None or where is None:
        return None
    given = [index for index, each in enumerate(values) if each == "?"]
    used = [int(each) - 1 for each in re.findall(r"new\.column(\d+)", update[2])]
    order = [given.index(each) for each in [*used, int(where[2]) - 1] if each in given]
    assigned = re.sub(r"new\.column(\d+)", lambda each: values[int(each[1]) - 1], update[2])
    return Single(
        f"UPDATE {update[1]} SET {assigned} WHERE {where[1]} = ?", row, tuple(order), insert=False
    )


class Ways:
    """The ways to write a batch, as steps that are ready to be called."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def steps(self, way: str, sql: str, parameters: Any) -> list[Step]:
        as_is: list[Step] = [(self._execute, sql, parameters)]
        if way == "as executed":
            return as_is
        single = single_of(sql)
        rows = rows_of(sql, parameters)
        if single is None or rows is None:
            return as_is
        rows = [tuple(row[index] for index in single.order) for row in rows]
        one = single.sql
        if len(rows) == 1:
            return [(self._execute, one, rows[0])]
        if way == "executemany" or not single.insert:
            return [(self._executemany, one, rows)]
        if way == "multi-row":
            return [(self._execute, single.multiple(len(rows)), _flat(rows))]
        whole = len(rows) - len(rows) % BLOCK_ROWS
        block = single.multiple(BLOCK_ROWS)
        steps: list[Step] = [
            (self._execute, block, _flat(rows[start : start + BLOCK_ROWS]))
            for start in range(0, whole, BLOCK_ROWS)
        ]
        if rows[whole:]:
            steps.append((self._executemany, one, rows[whole:]))
        return steps


def _flat(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(value for row in rows for value in row)


WAYS = ("as executed", "executemany", "multi-row", "multi-row, 32 at a time")


# Writing it again.


@dataclass
class Replay:
    """How long the bare loop took for the measured batches."""

    way: str
    seconds: float
    rows: int
    commit_seconds: list[float]
    """Of each transaction."""


@dataclass
class Ceiling:
    """The fastest of the ways."""

    best: Replay
    replays: list[Replay]
    batches: int

    @property
    def seconds(self) -> float:
        return self.best.seconds

    @property
    def operations_per_second(self) -> float:
        """Durable operations: rows on disk."""
        return self.best.rows / self.best.seconds

    @property
    def commit_milliseconds(self) -> float:
        """The median of its transactions."""
        ordered = sorted(self.best.commit_seconds)
        return ordered[len(ordered) // 2] * 1e3


def fresh(recording: Recording, database: Path) -> sqlite3.Connection:
    """An empty database with the tables and settings of the recording's."""
    connection = sqlite3.connect(
        database, isolation_level=None, cached_statements=512, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    for pragma in recording.pragmas:
        connection.execute(pragma)
    for statement in recording.schema:
        connection.execute(statement)
    return connection


def removed(database: Path) -> None:
    """Delete a database and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def replay(recording: Recording, database: Path, way: str) -> Replay:
    """Write a recording into a fresh database."""
    connection = fresh(recording, database)
    ways = Ways(connection)
    todo = [
        (
            [
                step
                for sql, parameters in each.statements
                for step in ways.steps(way, sql, parameters)
            ],
            each.measured,
        )
        for each in recording.batches
    ]
    clock = time.perf_counter
    took: list[float] = []
    execute, commit = connection.execute, connection.commit
    for steps, measured in todo:
        began = clock()
        if len(steps) == 1 and steps[0][0] is ways._execute:  # noqa: SLF001
            method, sql, parameters = steps[0]
            method(sql, parameters)
        else:
            execute("BEGIN IMMEDIATE")
            for method, sql, parameters in steps:
                method(sql, parameters)
            commit()
        if measured:
            took.append(clock() - began)
    connection.close()
    removed(database)
    return Replay(way, sum(took), recording.rows, took)


def ceiling_of(recording: Recording, directory: Path) -> Ceiling:
    """Write it in every way and take the fastest."""
    replays = [replay(recording, directory / "bare.db", way) for way in WAYS]
    best = min(replays, key=lambda each: each.seconds)
    return Ceiling(best, replays, len(recording.measured))
