"""Updates from SQL, and calls started together with a signal, in SQL and in a transaction of the user's."""

from __future__ import annotations

import asyncpg
import pytest

from fenbu import App, CallNotFound, Status, UsageError, on_update, wait_signal, wait_until
from fenbu._storage.postgres.url import target_of
from tests.fixture.postgres import Session, new_url


@pytest.fixture
def url(postgres):
    return new_url(postgres)


@pytest.fixture
def app(url):
    app = App("shop", url=url, idle_seconds=0.0)

    @app.workflow(name="cart")
    async def cart(user: str) -> list[str]:
        items: list[str] = []

        @on_update
        def add(sku: str, number: int = 1) -> int:
            items.extend([sku] * number)
            return len(items)

        await wait_until(lambda: len(items) >= 3)
        return [user, *items]

    @app.workflow(name="till")
    async def till() -> list[int]:
        return [await wait_signal("paid", int) for _ in range(2)]

    app.cart, app.till = cart, till
    return app


async def test_an_update_from_sql(app, url):
    async with app.client():
        await app.cart.options(id="c1").start("ann")
    with Session(url) as session:
        update = f"SELECT {session.schema}.update"
        first = session.value(f"{update}('c1', 'add', '[\"pen\"]', update_id => 'u1')")
        assert first == "c1/@u1"
        assert session.value(f"{update}('c1', 'add', '[\"pen\"]', update_id => 'u1')") == first
        second = session.value(f"{update}('c1', 'add', '{{\"sku\": \"ink\", \"number\": 2}}')")
        bad = session.value(f"{update}('c1', 'remove')")
        for wrong, said in (
            ("('nobody', 'add')", "no call has the id"),
            ("('c1', 'a b')", "needs the name"),
            ("('c1', 'add', '3')", "JSON array"),
            ("('c1', 'add', update_id => 'a/b')", "without / and ~"),
        ):
            with pytest.raises(asyncpg.PostgresError, match=said):
                session.value(update + wrong)
        async with app:
            assert await app.cart.handle("c1").result() == ["ann", "pen", "ink", "ink"]
            assert await app.handle(first).result() == 1
            assert await app.handle(second).result() == 3
            with pytest.raises(Exception, match=r"has no update|has ended"):
                await app.handle(bad).result()


async def test_a_start_with_a_signal_from_sql_and_in_a_transaction(app, url):
    async with app.client():
        pass  # It makes the tables.
    with Session(url) as session:
        start = f"SELECT {session.schema}.start_and_signal"
        assert session.value(f"{start}('till', 't1', 'paid', '1')") == "t1"
        with pytest.raises(asyncpg.PostgresError, match="needs an id"):
            session.value(f"{start}('till', NULL, 'paid')")
    connection = await asyncpg.connect(target_of(url).url)
    try:
        async with app:
            signalled = app.till.options(id="t2", transaction=connection).and_signal("paid", 7)
            async with connection.transaction():
                handle = await signalled.start()
                await (
                    app.till.options(id="t1", transaction=connection).and_signal("paid", 2).start()
                )
                with pytest.raises(CallNotFound):
                    await handle.status()
            assert await app.till.handle("t1").result() == [1, 2]
            await handle.signal("paid", 8)
            assert await handle.result() == [7, 8]
            assert await handle.status() is Status.COMPLETED
            with pytest.raises(UsageError, match="when the transaction has committed"):
                app.cart.options(transaction=connection).and_update("add", "pen")
    finally:
        await connection.close()
