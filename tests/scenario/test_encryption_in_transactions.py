"""Calls and steps in transactions of the user's own, while a hook is set: no table ever has a plain value."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from fenbu import App, Encryption, Status, tx_step, wait_signal
from fenbu._storage.postgres.url import target_of
from tests.fixture.postgres import Session
from tests.scenario.test_encryption import MARKER, everything, until, use

pytestmark = pytest.mark.parametrize("app", ["postgres"], indirect=True)

NEW = Encryption.new_key()


class Shop:
    """Pays with a card, whose number is the marker."""

    def __init__(self, app: App) -> None:
        use(app, Encryption([NEW]))

        @app.task(name="pay")
        async def pay(card: str) -> str:
            return f"paid with {card}"

        @app.workflow(name="wait")
        async def wait(card: str) -> str:
            return f"{card} {await wait_signal('go', str)}"

        self.app, self.pay, self.wait = app, pay, wait
        self.server = target_of(app.url).url

    def count(self, table: str) -> int:
        with Session(self.app.url) as session:
            return session.value(f"SELECT count(*) FROM {session.schema}.{table}")

    def sees_no_plain_value(self) -> None:
        found = list(everything(self.app))
        assert not any(MARKER in each for each in found)
        assert any("pay" in each for each in found)  # The scan sees the rows that it is about.

    async def ends_well(self, *ids: str) -> None:
        """Calls that wait in the inbox, sealed, are run."""
        assert self.count("inbox") == len(ids)
        self.sees_no_plain_value()
        async with self.app:
            for each in ids:
                assert await self.pay.handle(each).result() == f"paid with {MARKER}"
        self.sees_no_plain_value()


async def laid_out(app: App) -> Shop:
    """Its database has tables."""
    shop = Shop(app)
    async with app:
        pass
    return shop


async def test_asyncpg(app: App) -> None:
    shop = await laid_out(app)
    connection = await asyncpg.connect(shop.server)
    async with connection.transaction():
        first = await shop.pay.options(transaction=connection).start(MARKER)
        many = await shop.pay.options(transaction=connection).start_many([(MARKER,), (MARKER,)])
        assert shop.count("inbox") == 0
    await connection.close()
    await shop.ends_well(first.id, *(each.id for each in many))


def test_psycopg(app: App, runner: asyncio.Runner) -> None:
    psycopg = pytest.importorskip("psycopg")
    shop = runner.run(laid_out(app))
    with psycopg.connect(shop.server) as connection:
        inside = shop.pay.options(transaction=connection).sync
        found = [inside.start(MARKER), *inside.start_many([(MARKER,), (MARKER,)])]
    runner.run(shop.ends_well(*(each.id for each in found)))


async def test_psycopg_async(app: App) -> None:
    psycopg = pytest.importorskip("psycopg")
    shop = await laid_out(app)
    async with await psycopg.AsyncConnection.connect(shop.server) as connection:
        handle = await shop.pay.options(transaction=connection).start(MARKER)
    await shop.ends_well(handle.id)


async def test_sqlalchemy(app: App) -> None:
    asyncio_ = pytest.importorskip("sqlalchemy.ext.asyncio")
    shop = await laid_out(app)
    engine = asyncio_.create_async_engine(shop.server.replace("postgresql", "postgresql+asyncpg"))
    async with asyncio_.AsyncSession(engine) as session:
        first = await shop.pay.options(transaction=session).start(MARKER)
        await session.commit()
    async with engine.begin() as connection:
        second = await shop.pay.options(transaction=connection).start(MARKER)
    await engine.dispose()
    await shop.ends_well(first.id, second.id)


def test_sqlalchemy_without_await(app: App, runner: asyncio.Runner) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")
    shop = runner.run(laid_out(app))
    engine = sqlalchemy.create_engine(shop.server.replace("postgresql", "postgresql+psycopg"))
    with orm.Session(engine) as session, session.begin():
        first = shop.pay.options(transaction=session).sync.start(MARKER)
    with engine.begin() as connection:
        second = shop.pay.options(transaction=connection).sync.start(MARKER)
    engine.dispose()
    runner.run(shop.ends_well(first.id, second.id))


async def works_in_a_transaction(app: App, use_it: Any) -> None:
    """While the step's result is in its own table, and when it is in the journal."""
    shop = Shop(app)
    done, gate = asyncio.Event(), asyncio.Event()

    @app.workflow(name="order")
    async def order() -> str:
        return await tx_step(use_it(shop, done))

    async with app:
        node = app.node
        assert node is not None
        commit = node.storage.commit

        async def gated(batch: Any) -> Any:
            if done.is_set():
                await gate.wait()
            return await commit(batch)

        node.storage.commit = gated
        handle = await order.options(id="o").start()
        try:
            async with asyncio.timeout(20):
                while not shop.count("step_result"):
                    await asyncio.sleep(0)
            assert shop.count("inbox") == 1
            shop.sees_no_plain_value()
        finally:
            gate.set()
        assert await handle.result() == f"booked {MARKER}"
        assert await shop.pay.handle("inner").result() == f"paid with {MARKER}"
        assert shop.count("step_result") == 0
    shop.sees_no_plain_value()


async def test_a_step_with_asyncpg(app: App) -> None:
    def use_it(shop: Shop, done: asyncio.Event) -> Any:
        async def book(connection: asyncpg.Connection) -> str:
            await shop.pay.options(id="inner", transaction=connection).start(MARKER)
            done.set()
            return f"booked {MARKER}"

        return book

    await works_in_a_transaction(app, use_it)


@pytest.mark.parametrize("kind", ["AsyncSession", "AsyncConnection"])
async def test_a_step_with_sqlalchemy(app: App, kind: str) -> None:
    asyncio_ = pytest.importorskip("sqlalchemy.ext.asyncio")

    def use_it(shop: Shop, done: asyncio.Event) -> Any:
        async def book(given: Any) -> str:
            await shop.pay.options(id="inner", transaction=given).start(MARKER)
            done.set()
            return f"booked {MARKER}"

        book.__annotations__["given"] = getattr(asyncio_, kind)
        return book

    await works_in_a_transaction(app, use_it)


async def test_what_sql_sends_is_plain_until_a_node_has_taken_it(app: App) -> None:
    shop = await laid_out(app)

    def ask(what: str) -> None:
        with Session(app.url) as session:
            session.value(f"SELECT {session.schema}.{what}")

    ask(f"start('pay', '{{\"card\": \"{MARKER}\"}}', id => 'p')")
    ask(f"start('wait', '{{\"card\": \"{MARKER}\"}}', id => 'w')")
    assert any(MARKER in each for each in everything(app))
    async with app:
        assert await shop.pay.handle("p").result() == f"paid with {MARKER}"
        waiting = shop.wait.handle("w")
        await until(waiting, Status.SUSPENDED)
        shop.sees_no_plain_value()
        ask(f"signal('w', 'go', '\"{MARKER}\"')")
        assert await waiting.result() == f"{MARKER} {MARKER}"
    shop.sees_no_plain_value()
