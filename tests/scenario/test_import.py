"""A call with its whole history moves from one database to another."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fenbu import (
    AlreadyExists,
    App,
    Encryption,
    Entity,
    Handle,
    Status,
    UsageError,
    set_attributes,
    step,
    wait_signal,
)
from fenbu._core import history
from fenbu._core.arrival import arrivals
from fenbu._core.rehearsal import rehearse
from fenbu.testing import crash_everywhere, run
from tests.fixture.postgres import new_url

ran: list[str] = []


async def charge(cents: int) -> str:
    ran.append(f"charge {cents}")
    return f"charged {cents}"


async def fail(cents: int) -> str:
    raise ValueError(cents)


def app_on(url: str, **options: Any) -> App:
    app = App("movable", url=url, idle_seconds=0.05, **options)

    @app.workflow(name="order")
    async def order(cents: int) -> str:
        set_attributes(cents=cents)
        paid = await step(charge, cents)
        try:
            await step(fail, cents)
        except ValueError as error:
            paid += f", not {error}"
        await asyncio.sleep(0.05)
        return f"{paid}, {await wait_signal('go', str)}, {await step(charge, 1)}"

    @app.entity(name="Till")
    class Till(Entity):
        sum: int = 0

        async def add(self, cents: int) -> int:
            self.sum += cents
            await wait_signal("go", str)
            return self.sum

    return app


@pytest.fixture
def apps(tmp_path: Path, postgres: str) -> list[App]:
    ran.clear()
    return [
        app_on(f"sqlite:///{tmp_path}/first.db"),
        app_on(new_url(postgres), hook=Encryption([Encryption.new_key()])),
        app_on(f"sqlite:///{tmp_path}/last.db"),
    ]


def order(app: App) -> Any:
    spec = app.registry.latest("order")
    assert spec is not None
    from fenbu import DurableFunction

    return DurableFunction(app.runtime, spec)


async def until(handle: Handle[Any], status: Status) -> None:
    async with asyncio.timeout(20):
        while True:
            found = await handle._runtime.gateway.storage.outcomes([handle.id])
            if found and next(iter(found.values())).status is status:
                return
            await asyncio.sleep(0)


async def exported(app: App, id_: str) -> bytes:
    return await app.export_call(id_)


async def bring(app: App, text: bytes, **options: Any) -> None:
    """As by whoever is not sure whether it has come."""
    await app.import_calls(text, **options)
    with pytest.raises(AlreadyExists):
        await app.import_calls(text, **options)


async def test_a_finished_call_goes_round_and_is_the_same(apps: list[App]) -> None:
    first, *others = apps
    async with first:
        handle = await order(first).options(id="a", attributes={"customer": 7}).start(5)
        await handle.signal("go", "x")
        assert await handle.result() == "charged 5, not 5, x, charged 1"
        text = await exported(first, "a")
    for app in others:
        async with app:
            await bring(app, text)
            await until(app.handle("a"), Status.COMPLETED)
            assert await order(app).handle("a").result() == "charged 5, not 5, x, charged 1"
            assert [
                each.id for each in (await app.list_calls(where=[("customer", "=", 7)])).calls
            ] == ["a"]
            assert await exported(app, "a") == text
            assert rehearse(app.registry, history.read(text).root) is None
            # An id that exists is left as it is, also by a message that was sent before it did.
            found = history.read(text)
            found.root.loaded.invocation = replace(found.root.loaded.invocation, result='"other"')
            with pytest.raises(AlreadyExists, match="there is a call a already"):
                await app.import_calls(history.write(found))
            await app.runtime.gateway.storage.enqueue(arrivals(found, 256))
            await bring(app, text, id="b")
            await until(app.handle("b"), Status.COMPLETED)
            assert await exported(app, "a") == text
    assert ran == ["charge 5", "charge 1"]


async def test_an_open_call_goes_on_elsewhere_from_where_it_was(apps: list[App]) -> None:
    first, second, last = apps
    async with first:
        handle = await order(first).options(id="a").start(5)
        await until(handle, Status.SUSPENDED)
        async with asyncio.timeout(20):
            while b"timer_fired" not in (text := await exported(first, "a")):
                await asyncio.sleep(0)
    async with second:
        await bring(second, text, go_on=True)
        await until(second.handle("a"), Status.SUSPENDED)
        text = await exported(second, "a")
    # As a version of fenbu wrote it that knew one call only.
    old = json.dumps({**json.loads(text), "fenbu_history": 1}).encode()
    async with last:
        await bring(last, old)
        await until(last.handle("a"), Status.QUARANTINED)
        await last.handle("a").signal("go", "y")
        await last.handle("a").retry()
        assert await order(last).handle("a").result() == "charged 5, not 5, y, charged 1"
    assert ran == ["charge 5", "charge 1"]


async def test_a_delayed_call_waits_on_and_may_have_another_id(apps: list[App]) -> None:
    first, _, last = apps
    async with first:
        await order(first).options(id="a", delay=3600).start(5)
        await until(first.handle("a"), Status.PENDING)
        async with asyncio.timeout(20):
            while not await first.runtime.gateway.storage.load_calls(["a"]):
                await asyncio.sleep(0)
        text = await exported(first, "a")
    async with last:
        await bring(last, text, id="b", go_on=True)
        async with asyncio.timeout(20):
            while not (found := await last.runtime.gateway.storage.load_calls(["b"])):
                await asyncio.sleep(0)
        assert found[0].invocation.wake_at == history.read(text).root.loaded.invocation.wake_at
    assert ran == []


async def test_what_cannot_go_on_elsewhere_is_refused(apps: list[App]) -> None:
    first = apps[0]
    async with first:
        await order(first).options(id="a").start(5)
        await until(first.handle("a"), Status.SUSPENDED)
        text = await exported(first, "a")
    with pytest.raises(UsageError, match="goes on under that id alone"):
        arrivals(history.read(text), 256, id_="b")
    found = history.read(text)
    operation = replace(found.root.loaded.invocation, entity="Till", key="a", handler="Till.add")
    found.root.loaded.invocation = operation
    with pytest.raises(UsageError, match=r"Till\.add a on 'a' is an operation that has not ended"):
        arrivals(found, 256)


def test_a_crash_anywhere_while_it_comes_changes_nothing() -> None:
    ran.clear()
    app = app_on("memory:")

    async def depart() -> list[bytes]:
        handle = await order(app).options(id="a").start(5)
        await asyncio.sleep(1)
        open_ = await exported(app, "a")
        await handle.signal("go", "x")
        assert await handle.result() == "charged 5, not 5, x, charged 1"
        return [open_, await exported(app, "a")]

    open_, ended = run(app, depart)
    assert ran == ["charge 5", "charge 1"]
    ran.clear()

    async def arrive() -> Any:
        for text, options in ((ended, {"id": "b"}), (open_, {"go_on": True})):
            with contextlib.suppress(AlreadyExists):
                await app.import_calls(text, **options)
        while not await app.runtime.gateway.storage.load_calls(["a"]):
            await asyncio.sleep(1)
        await order(app).handle("a").signal("go", "y")
        return await order(app).handle("b").result(), await order(app).handle("a").result()

    assert crash_everywhere(app, arrive) >= 3
    # What was recorded before it moved runs nowhere again; what was not runs at least once in each run.
    assert set(ran) == {"charge 1"}
