"""Calls that are started in a transaction of the user's own, through each driver and in SQL."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from fenbu import (
    App,
    CallNotFound,
    Entity,
    Status,
    TerminalError,
    UsageError,
    callback,
    operation,
    wait_signal,
)
from fenbu._core import ids, limit
from fenbu._storage.postgres.storage import PostgresStorage
from fenbu._storage.postgres.url import target_of
from tests.fixture.postgres import Session, new_url


@pytest.fixture
def url(postgres):
    return new_url(postgres)


@pytest.fixture
def app(url):
    app = App("shop", url=url, idle_seconds=0.0)

    @app.task(name="double", timeout=3600)
    async def double(n: int) -> int:
        return n * 2

    @app.workflow(name="wait_for_word")
    async def wait_for_word() -> str:
        return str(await wait_signal("word"))

    @app.workflow(name="wait_for_callback")
    async def wait_for_callback() -> str:
        return await (await callback(str)).result()

    @app.entity
    class Account(Entity):
        balance: int = 0

        @operation
        async def deposit(self, amount: int) -> int:
            self.balance += amount
            return self.balance

    app.double, app.wait_for_word, app.Account = double, wait_for_word, Account
    app.wait_for_callback = wait_for_callback
    return app


@pytest.fixture
def server(postgres):
    return target_of(postgres).url


async def test_asyncpg(app, server):
    connection = await asyncpg.connect(server)
    async with app:
        transaction = connection.transaction()
        await transaction.start()
        undone = await app.double.options(transaction=connection).start(1)
        await transaction.rollback()
        async with connection.transaction():
            handle = await app.double.options(id="kept", transaction=connection).start(21)
            with pytest.raises(CallNotFound):
                await handle.result()
        assert await handle.result() == 42
        with pytest.raises(CallNotFound):
            await undone.status()
        # Without a transaction the statement is one by itself; many at once are all or none.
        many = await app.double.options(transaction=connection).start_many((n,) for n in range(50))
        assert [await each.result() for each in many] == [2 * n for n in range(50)]
        pool = await asyncpg.create_pool(server, min_size=1, max_size=1)
        async with pool.acquire() as pooled, pooled.transaction():
            handle = await app.double.options(transaction=pooled).start(4)
        assert await handle.result() == 8
        await pool.close()
    await connection.close()


async def test_a_hint_follows_the_commit(app, server):
    """Where the driver tells, nodes need not ask: else this would take the seconds between two beats."""
    connection = await asyncpg.connect(server)
    async with app:
        node = app.node
        assert node is not None
        loop = asyncio.get_running_loop()
        hinted = []
        give = node.storage.hint

        def hint(*args, **kwargs):
            hinted.append((loop.time(), args))
            give(*args, **kwargs)

        node.storage.hint = hint
        async with connection.transaction():
            handle = await app.double.options(id="a", transaction=connection).start(1)
            await connection.execute("SELECT 1")
            assert not hinted
        assert await handle.result() == 2
        assert [args for _, args in hinted] == [({ids.partition_of("a", limit.PARTITION_COUNT)},)]
    await connection.close()


def test_psycopg_without_an_open_app(app, server, runner):
    psycopg = pytest.importorskip("psycopg")

    async def open_once():
        async with app:
            pass

    runner.run(open_once())
    with psycopg.connect(server) as connection:
        handle = app.double.options(transaction=connection).sync.start(21)
        connection.rollback()
        kept = app.double.options(transaction=connection).sync.start_many([(1,), (2,)])
    with pytest.raises(UsageError, match="not open"):
        kept[0].result()

    async def run():
        async with app:
            assert [await app.double.handle(each.id).result() for each in kept] == [2, 4]
            with pytest.raises(CallNotFound):
                await app.double.handle(handle.id).status()

    runner.run(run())


async def test_psycopg_async(app, server):
    psycopg = pytest.importorskip("psycopg")
    async with app, await psycopg.AsyncConnection.connect(server) as connection:
        async with connection.transaction():
            handle = await app.double.options(transaction=connection).start(21)
        assert await handle.result() == 42
        with pytest.raises(UsageError, match="async connection"):
            app.double.options(transaction=connection).sync.start(1)


async def test_sqlalchemy(app, server):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asyncio_ = pytest.importorskip("sqlalchemy.ext.asyncio")
    orm = pytest.importorskip("sqlalchemy.orm")
    async with app:
        engine = asyncio_.create_async_engine(server.replace("postgresql", "postgresql+asyncpg"))
        async with asyncio_.AsyncSession(engine) as session:
            undone = await app.double.options(transaction=session).start(1)
            await session.rollback()
            handle = await app.double.options(transaction=session).start(21)
            await session.commit()
            assert await handle.result() == 42
            with pytest.raises(CallNotFound):
                await undone.status()
        async with engine.begin() as connection:
            handle = await app.double.options(transaction=connection).start(3)
        assert await handle.result() == 6
        await engine.dispose()
        plain = sqlalchemy.create_engine(server.replace("postgresql", "postgresql+psycopg"))
        with orm.Session(plain) as session, session.begin():
            with session.begin_nested():
                first = app.double.options(transaction=session).sync.start(4)
            second = app.double.options(transaction=orm.scoped_session(lambda: session)).sync.start(
                5
            )
        with plain.begin() as connection:
            third = app.double.options(transaction=connection).sync.start(6)
        plain.dispose()
        found = [await app.double.handle(each.id).result() for each in (first, second, third)]
        assert found == [8, 10, 12]


def test_django(app, server, runner):
    django = pytest.importorskip("django")
    conf = pytest.importorskip("django.conf")
    parts = target_of(server).url.removeprefix("postgresql://").partition("@")
    host, _, name = parts[2].partition("/")
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": parts[0],
        "HOST": host.partition(":")[0],
        "PORT": host.partition(":")[2],
    }
    if not conf.settings.configured:
        conf.settings.configure(DATABASES={"default": database})
        django.setup()
    from django.db import NotSupportedError, connection, transaction

    connection.settings_dict.update(database)
    try:
        connection.ensure_connection()
    except NotSupportedError as error:
        pytest.skip(str(error))
    finally:
        connection.close()

    async def run(*handles):
        async with app:
            return [await app.double.handle(each.id).result() for each in handles]

    runner.run(run())
    with transaction.atomic():
        inside = app.double.options(transaction=connection).sync.start(21)
    outside = app.double.options(transaction=connection).sync.start(1)
    with transaction.atomic():
        app.double.options(id="undone", transaction=connection).sync.start(21)
        transaction.set_rollback(True)
    connection.close()
    assert runner.run(run(inside, outside)) == [42, 2]
    with Session(app.url) as session:
        assert session.value(f"SELECT count(*) FROM {session.schema}.invocation") == 2


async def test_what_cannot_be(app, server):
    with pytest.raises(UsageError, match="no connection that fenbu knows"):
        await app.double.options(transaction=object()).start(1)
    connection = await asyncpg.connect(server)
    inside = app.double.options(transaction=connection)
    async with app:
        with pytest.raises(UsageError, match="cannot be waited for"):
            await inside(1)
        with pytest.raises(UsageError, match="belong to one transaction"):
            await app.start_many([inside.bind(1), app.double.bind(2)])
        app.registry.partition_count = 7
        with pytest.raises(UsageError, match="another count of partitions"):
            await inside.start(1)
    with Session(app.url) as session:
        assert session.value(f"SELECT count(*) FROM {session.schema}.inbox") == 0
    on_file = App("file", url="sqlite:///file.db")
    with pytest.raises(UsageError, match="PostgreSQL only"):
        await on_file.task(app.double.__wrapped__).options(transaction=connection).start(1)
    await connection.close()


async def test_sql(app, url):
    with Session(url) as session:
        storage = PostgresStorage(url)
        await storage.open()
        start = f"SELECT {session.schema}.start"
        generated = session.value(f"{start}('double', '{{\"n\": 21}}')")
        assert len(generated) == len(ids.invocation_id(0.0, 0))
        session.value(f"{start}('wait_for_word', id => 'w')")
        session.value(f"SELECT {session.schema}.signal('w', 'word', '\"hello\"')")
        session.value(f"{start}('wait_for_callback', id => 'back')")
        session.value(f"{start}('wait_for_callback', id => 'bad')")
        session.value(f"SELECT {session.schema}.complete('1~0~back', '\"thanks\"')")
        session.value(f"SELECT {session.schema}.fail('1~0~bad', 'no thanks')")
        with pytest.raises(asyncpg.DataError, match="'x~1~back' is not the token"):
            session.value(f"SELECT {session.schema}.complete('x~1~back')")
        session.value(f"{start}('wait_for_word', id => 'c', delay => '1 hour')")
        session.value(f"SELECT {session.schema}.cancel('c')")
        session.value(f"{start}('Account.deposit', '{{\"amount\": 5}}', id => 'd', key => 'älice')")
        session.value(f"{start}('Account.deposit', '{{\"amount\": 5}}', id => 'keyless')")
        session.value(f"{start}('later', id => 'later')")
        for name in ("w", "d/ä", "Account/älice"):
            expected = ids.partition_of(name, limit.PARTITION_COUNT)
            found = session.value(f"SELECT {session.schema}.partition_of('{name}')")
            assert found == expected
        with pytest.raises(asyncpg.DataError, match="without / and ~"):
            session.value(f"{start}('double', id => 'a/b')")
        with pytest.raises(asyncpg.DataError, match="JSON object"):
            session.value(f"{start}('double', '[1]')")
        with pytest.raises(asyncpg.DataError, match="belongs to an operation"):
            session.value(f"{start}('double', key => 'a')")
        with pytest.raises(asyncpg.PostgresError, match="no call has the id"):
            session.value(f"SELECT {session.schema}.signal('nobody', 'word')")
        async with app:
            assert await app.double.handle(generated).result() == 42
            assert await app.wait_for_word.handle("w").result() == "hello"
            assert await app.wait_for_callback.handle("back").result() == "thanks"
            with pytest.raises(TerminalError, match="no thanks"):
                await app.wait_for_callback.handle("bad").result()
            assert await app.Account("älice").deposit(1) == 6
            with pytest.raises(Exception, match="cancelled"):
                await app.handle("c").result()
            with pytest.raises(UsageError, match="needs the key"):
                await app.handle("keyless").result()
            assert await app.handle("later").status() is Status.UNHANDLED
            # Started again: the same call.
            session.value(f"{start}('double', '{{\"n\": 1}}', id => '{generated}')")
            await asyncio.gather(*(app.double(n) for n in range(3)))
            found = f"SELECT {{}} FROM {session.schema}.invocation WHERE id = '{generated}'"
            assert session.value(found.format("deadline_at - created_at")) == 3600.0
        await storage.close()


@pytest.mark.guarantee("message-once-in-order")
async def test_what_sql_sends_goes_where_the_call_was_accepted(app, url):
    """Also if the call was given to another node for its load."""
    async with app:
        await app.wait_for_word.options(id="w").start()
        await app.Account("a").deposit.options(id="d")(5)
    with Session(url) as session:
        schema = session.schema
        place = session.value(f"SELECT partition FROM {schema}.invocation WHERE id = 'd'")
        session.execute(f"UPDATE {schema}.invocation SET partition = 3 WHERE id = 'w'")
        session.value(f"SELECT {schema}.signal('w', 'word')")
        session.value(f"SELECT {schema}.update('w', 'word')")
        session.value(f"SELECT {schema}.cancel('w')")
        session.value(f"SELECT {schema}.signal('d', 'word')")
        found = session.value(f"SELECT array_agg(partition ORDER BY number) FROM {schema}.inbox")
        home = ids.partition_of("w", limit.PARTITION_COUNT)
        assert home != 3
        assert found == [home, home, home, place]
        assert session.value(f"SELECT {schema}.home_of('w/@1')") is None
        # The row of an update: it belongs to its workflow.
        session.execute(f"UPDATE {schema}.invocation SET id = 'w/@1' WHERE id = 'w'")
        assert session.value(f"SELECT {schema}.home_of('w/@1')") == home


def test_a_role_that_may_only_start(app, url, runner):
    async def open_once():
        async with app:
            pass

    runner.run(open_once())
    role = "fenbu_test_starter"
    with Session(url) as session:
        session.execute(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role}")
        session.execute(f"GRANT USAGE ON SCHEMA {session.schema} TO {role}")
        session.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            session.value(f"SELECT {session.schema}.start('double')")
        session.execute("RESET ROLE")
        session.execute(
            f"GRANT EXECUTE ON FUNCTION {session.schema}.start(text, jsonb, text, text, interval, interval) "
            f"TO {role}"
        )
        session.execute(f"SET ROLE {role}")
        assert session.value(f"SELECT {session.schema}.start('double', '{{\"n\": 1}}', 'x')") == "x"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            session.value(f"SELECT count(*) FROM {session.schema}.inbox")
        session.execute("RESET ROLE")
        session.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
