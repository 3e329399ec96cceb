"""Transactional steps: the user's writes and the record of the step, exactly once under every fault."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from fenbu import App, CallTimedOut, Entity, Retry, TerminalError, UsageError, step, tx_step
from fenbu._storage.postgres.storage import PostgresStorage
from tests.fixture.postgres import Session, new_url
from tests.scenario import crash

pytestmark = pytest.mark.guarantee("transaction-once")


@pytest.fixture
def session(postgres):
    """With a table of the user's own."""
    with Session(new_url(postgres)) as session:
        session.url = new_url(postgres)
        session.table = f"booking_{session.url.rpartition('=')[2]}"
        session.execute(f"CREATE TABLE {session.table} (name text)")
        session.booked = lambda: [
            each[0] for each in session.rows(f"SELECT name FROM {session.table} ORDER BY name")
        ]
        yield session
        session.execute(f"DROP TABLE {session.table}")


@pytest.fixture
def app(session):
    return App("shop", url=session.url, idle_seconds=0.05)


@pytest.fixture
def book(session):
    async def book(connection: asyncpg.Connection, name: str) -> str:
        await connection.execute(f"INSERT INTO {session.table} VALUES ($1)", name)
        return name.upper()

    return book


def left_over(app: App) -> int:
    with Session(app.url) as session:
        schema = app.url.rpartition("=")[2]
        return session.value(f"SELECT count(*) FROM {schema}.step_result")


async def test_its_writes_are_there_when_it_has_ended(app, session, book):
    @app.workflow(name="order")
    async def order(name: str) -> list[str]:
        return [await tx_step(book, name), await tx_step.options(name="again")(book, name + "2")]

    async with app:
        assert await order("a") == ["A", "A2"]
        assert session.booked() == ["a", "a2"]
        assert left_over(app) == 0


async def test_an_operation_may_use_it(app, session, book):
    @app.entity
    class Desk(Entity):
        last: str = ""

        async def take(self, name: str) -> None:
            self.last = await tx_step(book, name)

        async def read(self) -> str:
            return self.last

    async with app:
        await Desk("one").take("a")
        assert await Desk("one").read() == "A"
    assert session.booked() == ["a"]


async def test_an_error_undoes_it(app, session, book):
    attempts = []

    async def fails(connection: Any, name: str) -> str:
        attempts.append(name)
        await book(connection, name)
        if len(attempts) < 3:
            raise ValueError(name)
        return name

    async def breaks(connection: Any) -> None:
        await book(connection, "never")
        await connection.execute("SELECT 1 / 0")

    async def ends_it(connection: Any) -> None:
        await connection.execute("COMMIT")

    async def stalls(connection: Any) -> None:
        await book(connection, "never")
        await connection.execute("SELECT pg_sleep(60)")

    @app.workflow(name="order")
    async def order() -> str:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await tx_step(breaks)
        with pytest.raises(UsageError, match="leave the commit to fenbu"):
            await tx_step(ends_it)
        with pytest.raises(CallTimedOut):
            await tx_step.options(timeout=0.1)(stalls)
        return await tx_step.options(retry=Retry(attempts=5, first_seconds=0.01))(fails, "a")

    async with app:
        assert await order() == "a"
    assert session.booked() == ["a"]


async def test_what_is_no_such_function(app, book):
    async def wrong(name: int) -> None: ...

    def plain(connection: Any) -> None: ...

    @app.workflow(name="order")
    async def order() -> None:
        with pytest.raises(UsageError, match="given a connection"):
            await tx_step(wrong)
        with pytest.raises(UsageError, match="async def"):
            await tx_step(plain)

    async with app:
        await order()
    with pytest.raises(UsageError, match="tx_step"):
        await tx_step(book, "a")


async def test_there_is_none_on_a_database_of_another_kind(tmp_path, book):
    app = App("file", url=f"sqlite:///{tmp_path}/file.db")

    @app.workflow(name="order")
    async def order() -> None:
        await tx_step(book, "a")

    async with app:
        with pytest.raises(UsageError, match="needs an app on PostgreSQL"):
            await order()


async def test_sqlalchemy(app, session):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asyncio_ = pytest.importorskip("sqlalchemy.ext.asyncio")
    insert = sqlalchemy.text(f"INSERT INTO {session.table} VALUES (:name)")

    async def with_session(session: asyncio_.AsyncSession, name: str, fail: bool = False) -> str:
        await session.execute(insert, {"name": name})
        await session.commit()  # The end of a savepoint.
        if fail:
            raise TerminalError(name)
        return name

    async def with_connection(connection: asyncio_.AsyncConnection, name: str) -> str:
        await connection.execute(insert, {"name": name})
        return name

    with_session.__annotations__["session"] = asyncio_.AsyncSession
    with_connection.__annotations__["connection"] = asyncio_.AsyncConnection

    @app.workflow(name="order")
    async def order() -> list[str]:
        with pytest.raises(TerminalError):
            await tx_step(with_session, "x", True)
        return [await tx_step(with_session, "a"), await tx_step(with_connection, "b")]

    async with app:
        assert await order() == ["a", "b"]
        assert session.booked() == ["a", "b"]
        assert left_over(app) == 0


def once(app: App, book: Any) -> crash.Scenario:
    """Three bookings in one call."""

    async def last(name: str) -> str:
        return name + "!"

    @app.workflow(name="order")
    async def order(name: str) -> str:
        first = await tx_step(book, f"{name}1")
        second = await step(last, first)
        await asyncio.sleep(0.01)
        return second + await tx_step(book, f"{name}2")

    async def scenario() -> None:
        handle = await order.options(id="order").start("a")
        assert await handle.result() == "A1!A2"

    return scenario


class PostgresDisk:
    def __init__(self, url: str) -> None:
        self.url = url

    def storage(self) -> PostgresStorage:
        return PostgresStorage(self.url)


@pytest.mark.parametrize("fault", list(crash.Fault))
def test_a_fault_at_each_commit(app, session, book, runner, fault):
    scenario = once(app, book)
    total = runner.run(crash.run(app, PostgresDisk(session.url), scenario, None, 0.05))
    assert session.booked() == ["a1", "a2"]
    for commits in range(total):
        session.execute(f"TRUNCATE {session.table}")
        disk = PostgresDisk(new_url(session.url.partition("?")[0]))
        again = runner.run(crash.run(app, disk, scenario, commits, 0.05, fault))
        if again is None:
            runner.run(crash.run(app, disk, scenario, None, 0.05))
        assert session.booked() == ["a1", "a2"], f"{fault} at commit {commits + 1}"


async def test_the_answer_to_its_commit_is_lost(app, session, book, monkeypatch):
    """The server has committed, and the node hears that its connection is gone."""
    runs, connections = [], []
    execute = asyncpg.Connection.execute

    async def cut(self: Any, query: str, *args: Any, **options: Any) -> str:
        done = await execute(self, query, *args, **options)
        if query.startswith("COMMIT") and self in connections:
            self.terminate()
            raise ConnectionResetError
        return done

    monkeypatch.setattr(asyncpg.Connection, "execute", cut)

    async def booked(connection: Any, name: str) -> str:
        runs.append(name)
        connections.append(connection)
        await book(connection, name)
        return name

    @app.workflow(name="order")
    async def order() -> str:
        return await tx_step(booked, "a")

    async with app:
        assert await order() == "a"
    assert (runs, session.booked()) == (["a"], ["a"])
    assert connections[0].is_closed()


async def test_its_connection_is_cut_before_the_commit(app, session, book):
    runs = []

    async def booked(connection: Any, name: str) -> str:
        runs.append(name)
        await book(connection, name)
        if len(runs) == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return name

    @app.workflow(name="order")
    async def order() -> str:
        return await tx_step(booked, "a")

    async with app:
        assert await order() == "a"
    assert (runs, session.booked()) == (["a", "a"], ["a"])


@pytest.mark.guarantee("no-split-brain")
async def test_an_owner_of_the_past_commits_nothing(app, session, book):
    """The session with the locks is gone, and its node does not know it yet, in the middle of a step."""
    running, go_on = asyncio.Event(), asyncio.Event()
    runs = []

    async def slow(connection: Any, name: str) -> str:
        runs.append(name)
        await book(connection, name)
        if len(runs) == 1:
            running.set()
            await go_on.wait()
        return name

    @app.workflow(name="order")
    async def order() -> str:
        return await tx_step(slow, "a")

    async with app:
        result = asyncio.create_task(order())
        await running.wait()
        schema = session.url.rpartition("=")[2]
        # Whoever takes the partition now waits for that transaction, or passes the partition over.
        locked = f"SELECT FROM {schema}.partition WHERE epoch = 1 FOR UPDATE SKIP LOCKED"
        assert len(session.rows(locked)) == 255
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND pid <> pg_backend_pid()"
        )
        # The node has heard of it, dropped what ran, and joined again.
        assert await result == "a"
        go_on.set()
    assert (runs, session.booked()) == (["a", "a"], ["a"])


@pytest.mark.guarantee("no-split-brain")
async def test_a_step_of_another_epoch_does_not_begin(app, session, book):
    @app.workflow(name="order")
    async def order(name: str) -> str:
        return await tx_step(book, name)

    async with app:
        assert await order("a") == "A"
        schema = session.url.rpartition("=")[2]
        session.execute(f"UPDATE {schema}.partition SET epoch = epoch + 1")
        assert await order("b") == "B"
        assert session.value(f"SELECT min(epoch) FROM {schema}.partition") == 3
    assert session.booked() == ["a", "b"]


async def test_what_was_given_up_leaves_nothing_behind(app, session, book):
    @app.workflow(name="order", retention=0)
    async def order(name: str) -> str:
        return await tx_step(book, name)

    async with app:
        await order("a")
        schema = session.url.rpartition("=")[2]
        session.execute(f"INSERT INTO {schema}.step_result VALUES ('gone', 'gone', 1, 'null')")
        assert app.node is not None
        await app.node.storage.delete_finished("order", 0.0, limit=10)
        assert left_over(app) == 0
