"""Sessions with the server: one that lasts, for a node's locks and commits, and a pool for everything else.

Behind a transaction-pooling proxy only the session that lasts needs the server itself. There the pool's work
is one transaction each, with nothing prepared or set that a next one would have to find.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from fenbu._storage.postgres.driver import DRIVER_ERRORS, Connection, Row, connect
from fenbu._storage.postgres.error import classify, code_of, is_lost, translated
from fenbu._storage.postgres.statement import statements
from fenbu._storage.postgres.url import Target
from fenbu.errors import OwnershipLost, Unavailable

_T = TypeVar("_T")

POOL_CONNECTIONS_MAX: Final = 4

STATEMENTS_MAX: Final = 200
"""Prepared statements of a session; there are fewer."""

CLOSE_SECONDS: Final = 2.0

PROBES: Final = 3
"""How often is looked whether two sessions are one: a busy proxy may not show it at once."""

PROBE_SECONDS: Final = 5.0

_NOT_PREPARED: Final = frozenset({"26000", "42P05"})


async def is_pooled(target: Target, url: str) -> bool:
    """Whether transactions of one connection to this URL of a target may meet the server session of another.

    One connection marks its session. A proxy that pools transactions gives that session, idle again, to
    the next one who asks.
    """
    sql = statements(target.schema)
    with translated(target):
        one = await connect(url, cached_statements=0)
        other = await connect(url, cached_statements=0)
        try:
            for _ in range(PROBES):
                mark = secrets.token_hex(8)
                mine = await one.fetchrow(sql["session.mark"], mark)
                async with asyncio.timeout(PROBE_SECONDS):
                    theirs = await other.fetchrow(sql["session.marked"])
                now = await one.fetchval(sql["session.backend"])
                if mine is None or theirs is None:
                    return True
                if theirs["mark"] == mark or theirs["pid"] == mine["pid"] or now != mine["pid"]:
                    return True
        except TimeoutError:
            # A proxy that keeps sessions, and has no other one left.
            return False
        except DRIVER_ERRORS as error:
            if code_of(error) in _NOT_PREPARED:
                return True
            raise
        finally:
            one.terminate()
            other.terminate()
    return False


async def connect_session(target: Target, url: str, name: str, lock_seconds: float) -> Connection:
    """A session that lasts, set up for statements that are planned once."""
    sql = statements(target.schema)
    connection = await connect(url, cached_statements=STATEMENTS_MAX)
    try:
        await connection.fetchrow(sql["session.configure"], name, _milliseconds(lock_seconds))
    except BaseException:
        connection.terminate()
        raise
    return connection


def _milliseconds(seconds: float) -> str:
    """As a setting; 0 would mean for ever."""
    return str(max(1, round(seconds * 1000)))


class Pool:
    """Connections for reads and for what clients send; at most so many at a time, made when needed."""

    def __init__(self, target: Target, lock_seconds: float, *, pooled: bool) -> None:
        self._target = target
        self.sql = statements(target.schema)
        self.pooled = pooled
        self._lock_seconds = lock_seconds
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(POOL_CONNECTIONS_MAX)
        self._open = True

    async def fetch(self, name: str, *args: object) -> list[Row]:
        """The rows of a statement that only reads: tried again if the connection had died meanwhile."""

        async def read(connection: Connection) -> list[Row]:
            return await connection.fetch(self.sql[name], *args)

        try:
            return await self.run(read)
        except Unavailable as error:
            if not self._had_died(error):
                raise
        return await self.run(read)

    async def fetchval(self, name: str, *args: object) -> Any:
        """The first column of the first row of a statement that only reads."""
        rows = await self.fetch(name, *args)
        return rows[0][0] if rows else None

    async def run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do work that is one transaction."""
        with translated(self._target):
            async with self._connection() as connection:
                if self.pooled:
                    async with connection.transaction():
                        return await work(connection)
                return await work(connection)

    async def run_snapshot(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do work that only reads, and that sees the database as it is in one moment."""
        with translated(self._target):
            async with (
                self._connection() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await work(connection)

    async def close(self) -> None:
        self._open = False
        idle, self._idle = self._idle, []
        for each in idle:
            await close(each)

    def _had_died(self, error: Unavailable) -> bool:
        """Connections that were idle when the server went: all of them are of no use."""
        if error.__cause__ is None or not is_lost(error.__cause__):
            return False
        idle, self._idle = self._idle, []
        for each in idle:
            each.terminate()
        return self._open

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        async with self._room:
            if not self._open:
                raise Unavailable(f"{self._target.place} is not open")
            connection = await self._idle_or_new()
            try:
                yield connection
            except DRIVER_ERRORS as error:
                if is_lost(error):
                    connection.terminate()
                raise
            except BaseException:
                # Cancelled perhaps, in the middle of whatever it did.
                connection.terminate()
                raise
            finally:
                if self._open and not connection.is_closed():
                    self._idle.append(connection)
                elif not connection.is_closed():
                    connection.terminate()

    async def _idle_or_new(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        if self.pooled:
            return await connect(self._target.url, cached_statements=0)
        return await connect_session(self._target, self._target.url, "fenbu", self._lock_seconds)


class Writer:
    """The session that holds a node's locks and writes its batches, one after the other.

    When it ends the locks are gone with it, and another node may have them: it is never opened again.
    """

    def __init__(self, target: Target, connection: Connection, pid: int) -> None:
        self.target = target
        self.sql = statements(target.schema)
        self.connection = connection
        self.pid = pid
        """Of the server's process: a statement that meets another one must not write."""
        self._turn = asyncio.Lock()
        self._ended: str | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        connection.add_termination_listener(self._terminated)

    @classmethod
    async def open(cls, target: Target, name: str, lock_seconds: float) -> Writer:
        """Connect."""
        with translated(target):
            connection = await connect_session(target, target.session_url, name, lock_seconds)
            try:
                sql = statements(target.schema)
                await connection.fetch(sql["session.guard"])
                await connection.fetch(sql["session.check_connection"])
                return cls(target, connection, await connection.fetchval(sql["session.backend"]))
            except BaseException:
                connection.terminate()
                raise

    def _terminated(self, _: object) -> None:
        self._ended = self._ended or "the server, or what lies between, has ended it"

    @property
    def is_open(self) -> bool:
        """The session is there, as far as is known here."""
        return self._ended is None

    def check(self) -> None:
        """The session is there, as far as is known here.

        Raises:
            OwnershipLost: It is not.
        """
        if self._ended is not None:
            raise OwnershipLost(
                f"the session of this node with {self.target.place} is over ({self._ended}), and with it the "
                "ownership of partitions: join again, and load what is taken then"
            )

    def end(self, why: str) -> None:
        """Nothing more goes through it, and its locks are free."""
        self._ended = self._ended or why
        self.connection.terminate()

    async def run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Work in its turn. A caller that is cancelled does not stop it.

        Raises:
            OwnershipLost: The session is over; nothing was done.
        """
        task = asyncio.create_task(self.run_here(work))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Its caller may have been cancelled; then nobody wants to hear of its error.
        _ = task.cancelled() or task.exception()

    async def run_here(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """The same in the caller's own task: sent at once, if it is its turn, and stopped with the caller.

        Raises:
            OwnershipLost: The session is over; nothing was done.
        """
        async with self._turn:
            self.check()
            try:
                return await work(self.connection)
            except DRIVER_ERRORS as error:
                if is_lost(error):
                    self.end(str(classify(error, self.target)))
                raise

    async def close(self) -> None:
        """Finish what was asked for, then give the locks up with the session."""
        async with self._turn:
            self._ended = self._ended or "it was closed"
            await close(self.connection)


async def close(connection: Connection) -> None:
    """In good order if the server answers, and at once if not."""
    if connection.is_closed():
        return
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except DRIVER_ERRORS:
        connection.terminate()
