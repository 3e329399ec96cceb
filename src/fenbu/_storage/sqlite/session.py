"""One sqlite3 connection: how a file is opened and set up, and how a writer waits for its turn.

SQLite lets one process write at a time and is not fair: who finds the lock taken looks again after 1, 2, 5 …
100 ms, and a busy node leaves gaps of less than one. (Measured beside a node that always had the next batch
of 1,000 rows at hand: a client's messages got through 45 times in six seconds, the worst after 4.7.) So here
everybody who waits looks once a millisecond, and a busy writer steps aside now and then, see `connection.py`
(1,132 times in six seconds, the worst after 0.11).
Absent: a retry of anything else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

from fenbu._storage.query import load_queries
from fenbu._storage.sqlite.error import classify, is_busy
from fenbu.errors import Unavailable, UnsupportedDatabase

SQL: Final = load_queries("fenbu._storage.sqlite", "session")

SQLITE_VERSION_MIN: Final = (3, 35, 0)
"""What the statements need: UPDATE … FROM (3.33) and MATERIALIZED (3.35)."""

STATEMENTS_MAX: Final = 256
"""Prepared statements kept: about twenty sizes of each of five statements, and all the others."""

LOOK_MILLISECONDS: Final = 1
"""How often a writer that waits looks whether it is its turn."""


class Session(sqlite3.Connection):
    """See the module. `execute` is for reads and within a transaction, `write` begins one."""

    busy_seconds = 5.0
    """How long `write` waits for its turn."""

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a statement that needs the lock for writing: a single one, or BEGIN IMMEDIATE."""
        end = monotonic() + self.busy_seconds
        while True:
            try:
                return self.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or monotonic() >= end:
                    raise

    def begin(self) -> None:
        """Begin a transaction that writes."""
        self.write(SQL["begin"])

    def roll_back(self) -> None:
        """Leave a transaction, if one is open."""
        try:
            self.rollback()
        except sqlite3.Error:
            # Only a connection that is unusable anyway refuses this; the next statement says so.
            return

    def wait_inside_sqlite(self, seconds: float) -> None:
        """How long any statement waits for a lock, before `write` comes to look at the clock."""
        self.execute(SQL["wait_for_lock"].format(milliseconds=int(seconds * 1000)))


def check_version() -> None:
    """This Python's SQLite has what the statements need."""
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        wanted = ".".join(map(str, SQLITE_VERSION_MIN))
        raise UnsupportedDatabase(
            f"this Python comes with SQLite {sqlite3.sqlite_version}, and fenbu needs {wanted} or "
            "later: use a newer build of Python"
        )


def connect(
    path: str, *, create: bool = False, busy_seconds: float = 5.0, pages_max: int | None = None
) -> Session:
    """A configured connection to a file. Nothing of the file has been read yet."""
    session = sqlite3.connect(
        f"{Path(path).as_uri()}?mode={'rwc' if create else 'rw'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_MAX,
        factory=Session,
    )
    session.busy_seconds = busy_seconds
    try:
        session.wait_inside_sqlite(busy_seconds)
        if pages_max is not None:
            session.execute(SQL["limit_pages"].format(pages=pages_max))
    except BaseException:
        session.close()
        raise
    return session


def run_script(session: Session, script: str) -> None:
    """Each statement of a script, within the open transaction (`executescript` would commit it first)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            session.execute(statement)
            statement = ""
    if statement.strip():
        session.execute(statement)


def use_wal(session: Session, path: str) -> None:
    """Switch to a write-ahead log: readers and the writer do not block each other.

    Two processes that create a file at the same time may meet here, and SQLite does not wait for the
    other one's lock in this one statement. So wait for it in one that does, and look again.
    """
    for _ in range(8):
        if session.execute(SQL["journal_mode"]).fetchone()[0] == "wal":
            return
        try:
            mode = session.execute(SQL["use_wal"]).fetchone()[0]
        except sqlite3.OperationalError as error:
            if not isinstance(classify(error, path), Unavailable):
                raise
            session.begin()
            session.rollback()
            continue
        if mode == "wal":
            return
        raise UnsupportedDatabase(
            f"{path} cannot have a write-ahead log (its journal mode stays {mode}): put it on a local "
            "file system"
        )
    raise Unavailable(f"{path} is locked by other processes that open it again and again")
