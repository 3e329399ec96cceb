"""Transactional steps: the user's writes and the step's result in one transaction, fenced by the partition.

It cannot be the session that holds the locks, which is busy with batches. So the transaction begins with a
share lock on the partition's row, at the epoch at which this node took it. Whoever takes the partition raises
the epoch: that waits for the transaction, or comes first, and then the transaction finds another epoch.

The result is a row of its own until the journal has it. So it does not matter what became of a commit whose
answer was lost, or when the node goes down: the next attempt finds the row, or the work was undone.
Guarantees: transaction-once, no-split-brain.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from msgspec import Struct

from fenbu._core.model import Payload
from fenbu._storage.postgres.driver import Connection, PostgresError, connect
from fenbu._storage.postgres.error import code_of
from fenbu._storage.postgres.session import close
from fenbu._storage.postgres.statement import statements
from fenbu._storage.postgres.url import Target
from fenbu._storage.protocol import ASYNCPG, SQLALCHEMY_CONNECTION, StepKey
from fenbu.errors import UsageError

CONNECTIONS_MAX: Final = 10
"""Transactional steps that run at a time; others wait for their turn."""

STATEMENTS_MAX: Final = 100

STALLED_MILLISECONDS: Final = 30_000
"""The server ends a transaction in which nothing is asked for so long."""

PAUSE_SECONDS: Final = (0.1, 2.0)
"""Between attempts while there is no connection: at first, and at most."""

NO_SESSION: Final = ("08", "57P", "53")
"""Beginnings of SQLSTATEs: the session has ended, or the server has no room for one."""

Work = Callable[[Any], Awaitable[Payload]]


class Begun(Struct, eq=False):
    """A transaction."""

    driver: Connection
    """The connection that it runs on."""
    given: Any
    """What the function gets."""
    execute: Callable[..., Awaitable[Sequence[Sequence[Any]]]]
    """Executes a statement and returns its rows."""
    settle: Callable[[], Awaitable[None]] | None = None
    """Sends to the server what the function has left to be sent."""


class Fenced(Exception):
    """The partition has another owner."""


class _Lost(Exception):
    """The connection broke: whether the transaction has committed is not known."""


class StepRunner:
    """Runs the transactional steps of one node."""

    def __init__(self, target: Target, *, pooled: bool) -> None:
        self._sql = statements(target.schema)
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._plain = _Plain(target, pooled=pooled)
        self._alchemy = _Alchemy(target, pooled=pooled)

    async def run(self, step: StepKey, epoch: int, kind: str, work: Work) -> Payload:
        """See `Storage.run_step`.

        Raises:
            Fenced: The partition has another epoch by now. Nothing was done, or it was undone.
        """
        source = self._plain if kind == ASYNCPG else self._alchemy
        pause, most = PAUSE_SECONDS
        while True:
            try:
                async with self._turns:
                    payload = await self._attempt(source, step, epoch, kind, work)
                if payload is not None:
                    return payload
            except _Lost:
                await asyncio.sleep(pause)
                pause = min(2 * pause, most)

    async def _attempt(
        self, source: _Source, step: StepKey, epoch: int, kind: str, work: Work
    ) -> Payload | None:
        """None if another attempt has come first: ask again."""
        begun: Begun | None = None
        try:
            async with source.transaction(kind) as begun:
                return await self._in_transaction(begun, step, epoch, work)
        except _Undone:
            return None
        except Exception as error:
            if _broke(error, None if begun is None else begun.driver):
                raise _Lost from error
            raise

    async def _in_transaction(
        self, transaction: Begun, step: StepKey, epoch: int, work: Work
    ) -> Payload:
        execute = transaction.execute
        key = (step.id, step.run, step.command)
        await execute(self._sql["step.guard"], str(STALLED_MILLISECONDS))
        begun = await execute(self._sql["step.begin"], step.partition, epoch, *key)
        if not begun:
            raise Fenced
        number, done, value, value_bytes = begun[0]
        if done:
            return value if value_bytes is None else value_bytes
        payload = await work(transaction.given)
        if transaction.settle is not None:
            await transaction.settle()
        value, value_bytes = (payload, None) if isinstance(payload, str) else (None, payload)
        finished = await execute(self._sql["step.finish"], number, *key, value, value_bytes)
        recorded, same = finished[0]
        if not same:
            raise UsageError(
                "the function of a transactional step has ended the transaction: what it committed may be "
                "done again; leave the commit to fenbu, and use a savepoint for a part that may fail"
            )
        if not recorded:
            raise _Undone
        return payload

    async def close(self) -> None:
        """Disconnect."""
        await self._plain.close()
        await self._alchemy.close()


def _broke(error: BaseException, connection: Connection | None) -> bool:
    """Whether the connection has gone, or there was none, and not the function has failed."""
    if connection is not None and connection.is_closed():
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PostgresError):
            return code_of(cause).startswith(NO_SESSION)
        if connection is None and isinstance(cause, OSError):
            return True
        cause = cause.__cause__
    return False


class _Undone(Exception):
    """Another attempt has committed: this one is rolled back."""


class _Source(ABC):
    """Where transactions come from."""

    def __init__(self, target: Target, *, pooled: bool) -> None:
        self._url = target.url
        self._pooled = pooled

    async def _connect(self) -> Connection:
        return await connect(self._url, cached_statements=0 if self._pooled else STATEMENTS_MAX)

    @abstractmethod
    def transaction(self, kind: str) -> AbstractAsyncContextManager[Begun]:
        """One transaction: committed at the end of the block, rolled back if it raises."""

    @abstractmethod
    async def close(self) -> None: ...


class _Plain(_Source):
    """Connections of asyncpg."""

    def __init__(self, target: Target, *, pooled: bool) -> None:
        super().__init__(target, pooled=pooled)
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def transaction(self, kind: str) -> AsyncGenerator[Begun]:
        del kind
        connection = await self._open()
        try:
            async with connection.transaction():
                yield Begun(connection, connection, connection.fetch)
        except Exception:
            self._put_back(connection)
            raise
        except BaseException:
            # Cancelled, perhaps in the middle of the commit: the server decides, and the next attempt asks.
            connection.terminate()
            raise
        self._put_back(connection)

    async def _open(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._connect()

    def _put_back(self, connection: Connection) -> None:
        if not connection.is_closed():
            self._idle.append(connection)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            await close(each)


class _Alchemy(_Source):
    """Connections and sessions of SQLAlchemy, over connections of asyncpg."""

    _engine: Any = None

    @asynccontextmanager
    async def transaction(self, kind: str) -> AsyncGenerator[Begun]:
        from sqlalchemy.ext.asyncio import AsyncSession  # noqa: PLC0415

        async with self._opened().connect() as connection, connection.begin():
            driver = (await connection.get_raw_connection()).driver_connection

            async def execute(sql: str, *args: Any) -> Sequence[Sequence[Any]]:
                return (await connection.exec_driver_sql(sql, args)).all()

            try:
                if kind == SQLALCHEMY_CONNECTION:
                    yield Begun(driver, connection, execute)
                else:
                    # A commit of the session's own ends a savepoint, and not the transaction.
                    session = AsyncSession(
                        connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
                    )
                    async with session:
                        yield Begun(driver, session, execute, session.commit)
            except BaseException as error:
                if not isinstance(error, Exception):
                    driver.terminate()
                raise

    def _opened(self) -> Any:
        if self._engine is None:
            from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

            options: dict[str, Any] = {"async_creator_fn": self._connect}
            if self._pooled:
                # The server's sessions are shared, so are the names of what is prepared there.
                options["prepared_statement_cache_size"] = 0
                options["prepared_statement_name_func"] = lambda: f"fenbu_{uuid4().hex}"
            engine: Any = create_async_engine(
                "postgresql+asyncpg://",
                creator=lambda: engine.dialect.dbapi.connect(**options),
                pool_size=CONNECTIONS_MAX,
                max_overflow=0,
            )
            self._engine = engine
        return self._engine

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
