"""What one sees of lazy fields from outside, and when they go with entities whose time is over."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from fenbu import App, Entity, Lazy, operation, step
from fenbu._core import history, limit
from fenbu._core.rehearsal import rehearse
from fenbu.testing import crash_everywhere, run
from tests.fixture.postgres import Session
from tests.scenario.test_lazy import stored


def make(app: App, ttl: float | None = None) -> Any:
    @app.entity(ttl=ttl)
    class Room(Entity):
        name: str = ""
        lines: Lazy[list[str]]

        async def say(self, line: str) -> int:
            self.lines.set([*await self.lines.get(), line])
            return len(await self.lines.get())

        async def rename(self, name: str) -> None:
            self.name = name

        @operation(read_only=True)
        async def all(self) -> list[str]:
            return await self.lines.get()

    return Room


async def test_an_open_operation_is_exported_with_the_values_that_it_has_seen(app: App) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await let_go.wait()

    @app.entity
    class Diary(Entity):
        lines: Lazy[list[str]]
        unread: Lazy[str]

        async def say(self, line: str) -> int:
            self.lines.set([*await self.lines.get(), line])
            return len(await self.lines.get())

        async def slowly(self, line: str) -> int:
            before = await self.lines.get()
            self.lines.set([*before, line])
            await step(wait)
            return len(before)

    async with app:
        await Diary("a").say("first")
        slow = await Diary("a").slowly.start("second")
        await begun.wait()
        data = await app.export_call(slow.id)
        let_go.set()
        assert await slow.result() == 1
    exported = history.read(data).root
    assert exported.fields == {"lines": '["first"]'}
    assert rehearse(app.registry, exported) is None


async def test_listing_and_watching_show_ordinary_fields(app: App) -> None:
    room = make(app)
    async with app, aclosing(aiter(app.watch(room("a")))) as watched:
        await room("a").rename("first")
        seen = await anext(watched)
        assert seen is not None
        assert seen.state.name == "first"
        with pytest.raises(AttributeError, match="lazy fields are read by operations only"):
            _ = seen.state.lines
        following = asyncio.ensure_future(anext(watched))
        await room("a").say("nobody hears")
        assert not following.done()
        await room("a").rename("second")
        second = await asyncio.wait_for(following, 20)
        assert second is not None
        assert second.state.name == "second"
        (listed,) = (await app.list_entities(room)).entities
        assert (listed.key, listed.state.name) == ("a", "second")
        assert not hasattr(listed.state, "lines")


async def test_sql_sees_which_are_there(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    app = App("rooms", url=f"sqlite:///{path}")
    room = make(app)
    async with app:
        await room("a").rename("first")
        await room("b").say("hello")
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT key, state, lazy FROM entities ORDER BY key"
        found = connection.execute(query).fetchall()
    assert [(key, json.loads(state), json.loads(lazy)) for key, state, lazy in found] == [
        ("a", {"name": "first"}, []),
        ("b", {"name": ""}, ["lines"]),
    ]


@pytest.mark.parametrize("app", ["postgres"], indirect=True)
async def test_postgres_sees_which_are_there(app: App) -> None:
    room = make(app)
    async with app:
        await room("a").rename("first")
        await room("b").say("hello")
    with Session(str(app.runtime.url)) as session:
        query = f"SELECT key, lazy ->> 0 FROM {session.schema}.entities ORDER BY key"
        assert [tuple(each) for each in session.rows(query)] == [("a", None), ("b", "lines")]


async def test_they_go_when_the_time_is_over(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "FORGET_SECONDS", 0.05)
    room = make(app, 0.2)
    async with app:
        assert await room("a").say("one") == 1
        async with asyncio.timeout(20):
            while await stored(app):
                await asyncio.sleep(0)
        assert await room("a").all() == []
        assert await room("a").say("two") == 1


def test_setting_one_is_a_change_for_the_ttl() -> None:
    app = App("rooms")
    room = make(app, 60.0)

    async def scenario() -> None:
        await room("a").say("one")
        await asyncio.sleep(50)
        assert await room("a").say("two") == 2
        await asyncio.sleep(50)
        assert await room("a").all() == ["one", "two"]
        await asyncio.sleep(30)
        assert await room("a").all() == []

    run(app, scenario)


def test_a_crash_anywhere_forgets_all_or_nothing() -> None:
    app = App("rooms")
    room = make(app, 60.0)

    async def scenario() -> list[list[str]]:
        await (await room("a").say.options(id="1").start("one")).result()
        before = await room("a").all()
        await asyncio.sleep(90)
        after = await room("a").all()
        await (await room("a").say.options(id="2").start("two")).result()
        return [before, after, await room("a").all()]

    assert run(app, scenario) == [["one"], [], ["two"]]
    assert crash_everywhere(app, scenario) >= 3
