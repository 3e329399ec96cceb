"""A thread with one connection: statements run there, and the event loop is told when they are done.

A storage has two: the writer, so that commits follow one another, and the reader, so that reads do not
wait behind them. Work is a function of the connection; a transaction that it leaves open by an error is
rolled back, so the connection is usable again after whatever happened.
Absent: a pool, and a retry of anything. SQLite itself waits for a lock, at most `busy_seconds`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from fenbu._storage.query import load_queries
from fenbu._storage.sqlite.error import classify
from fenbu.errors import Unavailable, UnsupportedDatabase, UsageError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]]

SQL: Final = load_queries("fenbu._storage.sqlite", "connection")

SQLITE_VERSION_MIN: Final = (3, 35, 0)
"""What the statements need: UPDATE … FROM (3.33) and MATERIALIZED (3.35)."""

STATEMENTS_MAX: Final = 256
"""Prepared statements kept: about twenty sizes of each of five statements, and all the others."""


class Connection:
    """See the module. Opened and closed from the event loop; never shared with a forked child."""

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._process = os.getpid()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._serve, name=f"fenbu-{name}", daemon=True)
        self._thread.start()
        self._open = True

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Let the thread do it. A caller that is cancelled does not stop it."""

        def job() -> _T:
            if self._connection is None:
                raise Unavailable(f"{self._path} is not open")
            return work(self._connection, *args, **kwargs)

        return await self._submit(job)

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Connect, in the thread."""

        def opened() -> None:
            self._connection = connect()

        await self._submit(opened)

    async def close(self) -> None:
        """Finish what was asked for, then disconnect."""
        if not self._open:
            return

        def closed() -> None:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

        try:
            await self._submit(closed)
        finally:
            self._open = False
            self._jobs.put(None)

    async def _submit(self, job: Callable[[], _T]) -> _T:
        if self._process != os.getpid():
            raise UsageError(
                f"{self._path} was opened in process {self._process}, and this is a fork of it: open "
                "it anew here, or start the process with `spawn`"
            )
        if not self._open:
            raise Unavailable(f"{self._path} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._jobs.put((job, loop, future))
        return await future

    def _serve(self) -> None:
        while (each := self._jobs.get()) is not None:
            job, loop, future = each
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001  (it is raised where the caller waits)
                if self._connection is not None:
                    roll_back(self._connection)
                _send(loop, future, None, self._classified(error))
            else:
                _send(loop, future, result, None)
            # While it waits for the next job, this thread keeps nothing alive.
            result = None
            del each, job, loop, future

    def _classified(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        found = classify(error, self._path)
        found.__cause__ = error
        return found


def _send(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: object,
    error: BaseException | None,
) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, future, result, error)
    except RuntimeError:
        # The loop was closed in the meantime: nobody waits any more.
        return


def _resolve(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def roll_back(connection: sqlite3.Connection) -> None:
    """Leave a transaction, if one is open."""
    try:
        connection.rollback()
    except sqlite3.Error:
        # Only a connection that is unusable anyway refuses this; the next statement says so.
        return


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
) -> sqlite3.Connection:
    """A configured connection to a file. Nothing of the file has been read yet."""
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode={'rwc' if create else 'rw'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_MAX,
    )
    try:
        connection.execute(SQL["wait_for_lock"].format(milliseconds=int(busy_seconds * 1000)))
        if pages_max is not None:
            connection.execute(SQL["limit_pages"].format(pages=pages_max))
    except BaseException:
        connection.close()
        raise
    return connection


def configure(connection: sqlite3.Connection) -> None:
    """Settings that need a database that fenbu may use."""
    run_script(connection, SQL["configure"])


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Each statement of a script, within the open transaction (`executescript` would commit it first)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if statement.strip():
        connection.execute(statement)


def use_wal(connection: sqlite3.Connection, path: str) -> None:
    """Switch to a write-ahead log: readers and the writer do not block each other.

    Two processes that create a file at the same time may meet here, and SQLite does not wait for the
    other one's lock in this one statement. So wait for it in one that does, and look again.
    """
    for _ in range(8):
        if connection.execute(SQL["journal_mode"]).fetchone()[0] == "wal":
            return
        try:
            mode = connection.execute(SQL["use_wal"]).fetchone()[0]
        except sqlite3.OperationalError as error:
            if not isinstance(classify(error, path), Unavailable):
                raise
            connection.execute(SQL["begin"])
            connection.rollback()
            continue
        if mode == "wal":
            return
        raise UnsupportedDatabase(
            f"{path} cannot have a write-ahead log (its journal mode stays {mode}): put it on a local "
            "file system"
        )
    raise Unavailable(f"{path} is locked by other processes that open it again and again")
