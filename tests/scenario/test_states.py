"""States of entities from outside: listed, read in SQL, and watched as they change."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from fenbu import (
    App,
    Compression,
    EncodingError,
    Entity,
    EntityInfo,
    Unavailable,
    UsageError,
    operation,
)
from fenbu.testing import run
from tests.fixture.postgres import Session, new_url

pytestmark = pytest.mark.timeout(60)


def make(app: App) -> type[Any]:
    @app.entity
    class Stock(Entity):
        units: int = 0
        note: str = ""

        async def add(self, units: int, note: str = "") -> int:
            self.units += units
            self.note = note
            return self.units

        async def forget(self) -> None:
            self.delete()

        @operation(read_only=True)
        async def left(self) -> int:
            return self.units

    return Stock


def units(found: EntityInfo[Any] | None) -> int | None:
    return None if found is None else found.state.units


async def following(watched: AsyncIterator[EntityInfo[Any] | None], wanted: int | None) -> None:
    """Until this is seen; what is seen on the way only grows."""
    async with asyncio.timeout(20):
        seen = units(await anext(watched))
        while seen != wanted:
            later = units(await anext(watched))
            assert later != seen
            assert later is None or seen is None or later > seen
            seen = later


# Lists.


async def test_entities_are_listed_in_order_of_their_keys_page_by_page(app: App) -> None:
    stock = make(app)

    @app.entity
    class Stocked(Entity):
        n: int = 1

        async def set(self, n: int) -> None:
            self.n = n

    async with app:
        await asyncio.gather(*(stock(f"sku-{n}").add(n) for n in range(10)))
        await Stocked("other").set(5)
        page = await app.list_entities(stock, limit=4)
        assert [each.key for each in page.entities] == ["sku-1", "sku-2", "sku-3", "sku-4"]
        assert [each.state.units for each in page.entities] == [1, 2, 3, 4]
        rest = await app.list_entities(stock, after=page.next)
        assert [each.key for each in rest.entities] == [f"sku-{n}" for n in range(5, 10)]
        assert rest.next is None
        assert (await app.list_entities(stock, after="sku-9")).entities == []
        exactly = await app.list_entities(stock, limit=9)
        assert (len(exactly.entities), exactly.next) == (9, None)
        (other,) = (await app.list_entities(Stocked)).entities
        assert (other.key, other.state.n, other.version, other.expires_at) == ("other", 5, 1, None)
        assert other.changed_at.tzinfo is not None
        assert "Stocked('other')" in repr(other)


async def test_a_listed_state_is_a_copy_without_operations(app: App) -> None:
    stock = make(app)
    async with app:
        await stock("a").add(3, "x")
        (found,) = (await app.list_entities(stock)).entities
        assert found.state is found.state
        assert repr(found.state) == "Stock(units=3, note='x')"
        with pytest.raises(AttributeError):
            found.state.add(1)
        found.state.units = 99
        assert await stock("a").left() == 3


async def test_one_state_that_does_not_fit_does_not_hide_the_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/states.db"
    old, new = App("states", url=url), App("states", url=url)
    stock = make(old)

    @new.entity(name="Stock")
    class Changed(Entity):
        units: str = ""

        async def set(self, units: str) -> None:
            self.units = units

    async with old:
        await stock("a").add(1)
    async with new:
        await Changed("b").set("two")
        one, two = (await new.list_entities(Changed)).entities
        assert (one.key, two.state.units) == ("a", "two")
        with pytest.raises(EncodingError, match="Stock"):
            _ = one.state


async def test_what_makes_no_sense_is_refused(app: App) -> None:
    stock, other = make(app), App("other", url="memory:")
    foreign = make(other)

    @app.entity
    class Nosy(Entity):
        async def look(self) -> None:
            async for _ in app.watch(stock("a")):
                return

        async def ask(self) -> None:
            await app.list_entities(stock)

    async with app:
        for wrong in (0, 1001):
            with pytest.raises(UsageError, match="limit"):
                await app.list_entities(stock, limit=wrong)
        for cls in (foreign, int, Entity):
            with pytest.raises(UsageError, match="no entity class"):
                await app.list_entities(cls)
        with pytest.raises(UsageError, match="reference"):
            app.watch(stock)
        with pytest.raises(UsageError, match="no entity class"):
            app.watch(foreign("a"))
        for call in (Nosy("n").look, Nosy("n").ask):
            with pytest.raises(UsageError, match="from moment to moment"):
                await call()
    with pytest.raises(UsageError, match="not open"):
        await app.list_entities(stock)


async def test_states_behind_a_hook_are_opened(tmp_path: Path) -> None:
    app = App("states", url=f"sqlite:///{tmp_path}/states.db", hook=Compression(beyond=1))
    stock = make(app)
    async with app:
        await stock("a").add(1, "x" * 1000)
        (found,) = (await app.list_entities(stock)).entities
        assert found.state.units == 1
    ((state, form),) = rows_of(tmp_path / "states.db", "SELECT state, format FROM entities")
    assert (state, form) == (None, "opaque")


# SQL.


def rows_of(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def test_states_are_queried_in_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "states.db"
    app = App("states", url=f"sqlite:///{path}")
    stock = make(app)
    async with app:
        for n in range(5):
            await stock(f"sku-{n}").add(n, 'a "quoted" ü\u0000')
    query = "SELECT key FROM entities WHERE type = 'Stock' AND state ->> 'units' > 2 ORDER BY key"
    assert rows_of(path, query) == [("sku-3",), ("sku-4",)]
    query = (
        "SELECT state, format, version, changed_at, expires_at FROM entities WHERE key = 'sku-1'"
    )
    ((state, form, version, changed_at, expires_at),) = rows_of(path, query)
    assert json.loads(state) == {"units": 1, "note": 'a "quoted" ü\u0000'}
    assert (form, version, expires_at) == ("json", 1, None)
    assert changed_at.endswith("Z")


async def test_states_are_queried_in_postgres_by_whoever_is_granted_it(postgres: str) -> None:
    url = new_url(postgres)
    app, packed = App("states", url=url), App("packed", url=url, codec="msgpack")
    stock = make(app)

    @packed.entity
    class Packed(Entity):
        n: int = 0

        async def set(self, n: int) -> None:
            self.n = n

    async with app:
        for n in range(5):
            await stock(f"sku-{n}").add(n)
        await stock("nul").add(9, "a\u0000b")
        await stock("slash").add(9, "a\\u0000b")
    async with packed:
        await Packed("a").set(1)
    with Session(url) as session:
        schema = session.schema
        session.execute(f"GRANT USAGE ON SCHEMA {schema} TO pg_read_all_stats")
        session.execute(f"GRANT SELECT ON {schema}.entities TO pg_read_all_stats")
        session.execute("SET ROLE pg_read_all_stats")
        query = f"""
            SELECT key FROM {schema}.entities
            WHERE type = 'Stock' AND (state ->> 'units')::int BETWEEN 2 AND 8 ORDER BY key
        """
        assert [each[0] for each in session.rows(query)] == ["sku-2", "sku-3", "sku-4"]
        query = f"SELECT key, state IS NULL, format FROM {schema}.entities WHERE key IN ('a', 'nul', 'slash')"
        found = sorted(tuple(each) for each in session.rows(query))
        assert found == [("a", True, "opaque"), ("nul", True, "opaque"), ("slash", False, "json")]


# Watching.


async def test_a_watcher_sees_what_is_there_each_change_and_the_end(app: App) -> None:
    stock = make(app)
    async with app, aclosing(aiter(app.watch(stock("a")))) as watched:
        assert await anext(watched) is None
        for n in range(1, 4):
            await stock("a").add(1)
            await stock("b").add(1)
            seen = await asyncio.wait_for(anext(watched), 20)
            assert (units(seen), seen and seen.key) == (n, "a")
        await stock("a").forget()
        assert await asyncio.wait_for(anext(watched), 20) is None
        await stock("a").add(7)
        assert units(await asyncio.wait_for(anext(watched), 20)) == 7


async def test_what_does_not_change_the_state_is_no_news(app: App) -> None:
    stock = make(app)
    async with app, aclosing(aiter(app.watch(stock("a")))) as watched:
        await stock("a").add(1)
        assert units(await anext(watched)) == 1
        following_one = asyncio.ensure_future(anext(watched))
        await stock("a").left()
        await stock("a").add(0)
        await stock("b").add(1)
        assert not following_one.done()
        await stock("a").add(1)
        assert units(await asyncio.wait_for(following_one, 20)) == 2


async def test_changes_between_two_looks_are_one(app: App) -> None:
    stock = make(app)
    async with app, aclosing(aiter(app.watch(stock("a")))) as watched:
        await stock("a").add(1)
        assert units(await anext(watched)) == 1
        for _ in range(50):
            await stock("a").add(1)
        assert units(await asyncio.wait_for(anext(watched), 20)) == 51


async def test_many_watch_many(app: App) -> None:
    stock = make(app)

    async def watch(key: str) -> None:
        async with aclosing(aiter(app.watch(stock(key)))) as watched:
            await following(watched, 20)

    async with app:
        watchers = [asyncio.create_task(watch(f"sku-{n % 10}")) for n in range(60)]
        for _ in range(20):
            await asyncio.gather(*(stock(f"sku-{n}").add(1) for n in range(10)))
        await asyncio.gather(*watchers)
        assert app.node is not None
        assert not app.node._callers.states.waiting


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_clients_and_other_nodes_see_it_too(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/states.db"
    else:
        url = new_url(request.getfixturevalue("postgres"))
    here, there = App("states", url=url), App("states", url=url)
    stock, same = make(here), make(there)
    connected = there.client() if kind == "sqlite" else there
    async with here, connected, aclosing(aiter(there.watch(same("a")))) as watched:
        assert await anext(watched) is None
        for n in range(10):
            await stock(f"sku-{n}").add(1)
            await stock("a").add(1)
        await following(watched, 10)
        await same("a").add(5)
        await following(watched, 15)
        await stock("a").forget()
        await following(watched, None)


async def test_a_watcher_is_told_when_its_process_stops(app: App) -> None:
    stock = make(app)
    async with app:
        watched = aiter(app.watch(stock("a")))
        assert await anext(watched) is None
        waiting = asyncio.ensure_future(anext(watched))
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await waiting


def test_without_await(app: App) -> None:
    stock = make(app)
    with app:
        stock("a").add.sync(1)
        for n, seen in enumerate(app.watch(stock("a")).sync, 1):
            assert units(seen) == n
            if n == 3:
                break
            stock("a").add.sync(1)
        (found,) = app.sync.list_entities(stock).entities
        assert found.state.units == 3


async def test_a_watcher_whose_node_stops_hears_of_no_call(app: App) -> None:
    @app.entity
    class Board(Entity):
        n: int = 0

        async def look(self) -> int:
            return self.n

    seen = asyncio.Event()

    async def watch() -> None:
        async for _ in app.watch(Board("a")):
            seen.set()

    async with app:
        watching = asyncio.create_task(watch())
        async with asyncio.timeout(20):
            await seen.wait()
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="the node has stopped: watch again when it runs"):
        await watching


def test_a_watcher_on_virtual_time_sees_days_pass() -> None:
    app = App("states", url="memory:")

    @app.entity(ttl=60)
    class Clock(Entity):
        rings: int = 0

        async def ring(self, times: int) -> None:
            self.rings += 1
            if times:
                self.alarm(86_400, self.ring, times - 1)

    async def scenario() -> list[int | None]:
        await Clock("a").ring(2)
        seen: list[int | None] = []
        async for each in app.watch(Clock("a")):
            seen.append(None if each is None else each.state.rings)
            if each is None:
                break
        return seen

    assert run(app, scenario) == [1, 2, 3, None]
