"""Entities with a `ttl`: forgotten when nothing has changed them for so long, not earlier, and never half."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fenbu import App, Entity, UsageError, operation
from fenbu._core import limit
from fenbu._core.model import EntityState
from fenbu._storage.observer import CallFilter
from fenbu.testing import crash_everywhere, run, simulate
from tests.simulation.world import patiently

MINUTE = 60


def make(app: App, ttl: float | timedelta | None) -> type[Any]:
    @app.entity(ttl=ttl)
    class Cart(Entity):
        items: list[str] = []

        async def put(self, item: str) -> int:
            self.items.append(item)
            return len(self.items)

        async def touch(self) -> None:
            self.items = list(self.items)

        async def put_later(self, item: str) -> None:
            await asyncio.sleep(100)
            self.items.append(item)

        async def remind(self, seconds: float) -> None:
            self.alarm(seconds, self.put, "reminded")

        async def put_after(self, seconds: float) -> None:
            self.send_later(seconds, self.put, "sent")

        @operation(read_only=True)
        async def all(self) -> list[str]:
            return self.items

    return Cart


def virtual(ttl: float | timedelta | None = MINUTE) -> tuple[App, type[Any]]:
    app = App("expiry", url="memory:")
    return app, make(app, ttl)


def test_an_entity_is_forgotten_when_nothing_has_changed_it_for_its_ttl(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "FORGET_SECONDS", 0.05)
    cart = make(app, 0.3)

    @app.entity
    class Kept(Entity):
        n: int = 0

        async def add(self) -> int:
            self.n += 1
            return self.n

    async def main() -> None:
        async with app:
            assert app.node is not None
            storage = app.node.storage
            await asyncio.gather(*(cart(f"cart-{n}").put("a") for n in range(20)))
            await Kept("k").add()
            while len(await storage.list_entities(None, limit=99)) > 1:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            assert await cart("cart-7").put("b") == 1
            assert await Kept("k").add() == 2
            calls = await storage.list_calls(CallFilter(limit=99))  # type: ignore[attr-defined]
            assert {each.handler for each in calls} == {"Cart.put", "Kept.add"}

    asyncio.run(main())


def test_it_goes_not_early_and_at_most_ten_seconds_late() -> None:
    app, cart = virtual()

    async def scenario() -> None:
        await cart("a").put("one")
        await asyncio.sleep(MINUTE - 0.1)
        assert await cart("a").all() == ["one"]
        await asyncio.sleep(0.1 + limit.FORGET_SECONDS + 0.5)
        assert await cart("a").all() == []

    run(app, scenario)


def test_a_change_gives_it_another_span_and_a_call_without_one_does_not() -> None:
    app, cart = virtual(timedelta(minutes=1))

    async def scenario() -> None:
        await cart("changed").put("one")
        await cart("read").put("one")
        for _ in range(4):
            await asyncio.sleep(50)
            assert (await cart("changed").put("more")) > 1
            await cart("read").touch()
        assert await cart("read").all() == []
        await asyncio.sleep(MINUTE + limit.FORGET_SECONDS + 0.5)
        assert await cart("changed").all() == []

    run(app, scenario)


def test_what_waits_for_an_instant_or_runs_keeps_it() -> None:
    app, cart = virtual()

    async def scenario() -> None:
        for key in ("alarm", "later", "runs"):
            await cart(key).put("one")
        await cart("alarm").remind(3 * MINUTE)
        await cart("later").put_after(3 * MINUTE)
        handle = await cart("runs").put_later.start("two")
        await asyncio.sleep(90)
        assert await cart("alarm").all() == ["one"]
        assert await cart("later").all() == ["one"]
        await handle.result()
        assert await cart("runs").all() == ["one", "two"]
        await asyncio.sleep(90)
        assert await cart("alarm").all() == ["one", "reminded"]
        assert await cart("later").all() == ["one", "sent"]
        await asyncio.sleep(MINUTE + limit.FORGET_SECONDS + 1)
        for key in ("alarm", "later", "runs"):
            assert await cart(key).all() == []

    run(app, scenario)


def deploys(tmp_path: Path) -> tuple[App, App]:
    """The app before and after a deploy."""
    url = f"sqlite:///{tmp_path}/expiry.db"
    return App("expiry", url=url), App("expiry", url=url)


def test_a_longer_ttl_holds_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "FORGET_SECONDS", 0.05)
    old, new = deploys(tmp_path)
    short, _ = make(old, 0.5), make(new, 3600)

    async def main() -> None:
        async with old:
            await short("a").put("one")
            (before,) = await stored(old)
        assert before.expires_at == before.changed_at + 0.5
        async with new:
            while (await stored(new)) == [before]:
                await asyncio.sleep(0)
            (after,) = await stored(new)
        assert after == replace(before, expires_at=before.changed_at + 3600)

    asyncio.run(main())


@pytest.mark.parametrize("before", [None, 3600])
def test_a_first_ttl_and_a_shorter_one_hold_for_those_that_were_written_before(
    app: App, before: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if app.url == "memory:":
        pytest.skip("what is in memory does not outlive the app")
    monkeypatch.setattr(limit, "FORGET_SECONDS", 0.05)
    monkeypatch.setattr(limit, "FORGET_ENTITIES", 7)
    monkeypatch.setattr(limit, "FORGET_PAGES", 2)
    new = App("expiry", url=app.url)
    old_cart, new_cart = make(app, before), make(new, 0.2)

    async def states(which: App) -> list[EntityState]:
        assert which.node is not None
        return await which.node.storage.list_entities("Cart", limit=99)  # type: ignore[attr-defined]

    async def main() -> None:
        async with app:
            await asyncio.gather(*(old_cart(f"cart-{n}").put("one") for n in range(40)))
            await old_cart("alarm").put("one")
            await old_cart("alarm").remind(3600)
            await old_cart("later").put("one")
            await old_cart("later").put_after(3600)
            for each in await states(app):
                assert each.expires_at == (before and each.changed_at + before) or each.alarms
        async with new:
            async with asyncio.timeout(20):
                while len(left := await states(new)) > 2:
                    await asyncio.sleep(0)
                while not all(each.expires_at for each in left if each.alarms is None):
                    await asyncio.sleep(0)
                    left = await states(new)
            assert {each.key for each in left} == {"alarm", "later"}
            assert [each.expires_at for each in left if each.alarms] == [None]
            await new_cart("cart-1").put("anew")

    asyncio.run(main())


def test_a_state_that_does_not_fit_its_class_any_more_is_forgotten_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "FORGET_SECONDS", 0.05)
    old, new = deploys(tmp_path)
    cart = make(old, 0.1)

    @new.entity(name="Cart", ttl=0.1)
    class Changed(Entity):
        items: dict[str, int] = {}

        async def put(self, item: str) -> None:
            self.items[item] = 1

    async def main() -> None:
        async with old:
            await cart("a").put("one")
        async with new:
            while await stored(new):
                await asyncio.sleep(0)
            await Changed("a").put("two")
            (state,) = await stored(new)
            assert state.state == '{"items":{"two":1}}'

    asyncio.run(main())


async def stored(app: App) -> list[EntityState]:
    assert app.node is not None
    return await app.node.storage.load_entities([("Cart", "a")])


def test_a_crash_anywhere_forgets_all_or_nothing() -> None:
    app, cart = virtual()

    async def scenario() -> list[list[str]]:
        for key in ("a", "b"):
            await cart(key).put.options(id=f"put-{key}")("one")
        await asyncio.sleep(30)
        await cart("b").put.options(id="again")("two")
        await asyncio.sleep(50)
        seen = [await cart(key).all() for key in ("a", "b")]
        await asyncio.sleep(200)
        return seen + [await cart(key).all() for key in ("a", "b")]

    assert run(app, scenario) == [[], ["one", "two"], [], []]
    assert crash_everywhere(app, scenario) >= 3


@pytest.mark.parametrize("ttl", [0, -1, "a day", timedelta(seconds=-1)])
def test_a_ttl_that_makes_no_sense_is_refused(ttl: Any) -> None:
    with pytest.raises(UsageError, match="ttl"):
        make(App("expiry", url="memory:"), ttl)


def test_in_simulated_faults_it_is_gone_in_the_end() -> None:
    app, cart = virtual()

    async def scenario() -> None:
        for n in range(5):
            await patiently(partial(cart(f"cart-{n}").put, "one"))
        await asyncio.sleep(20 * MINUTE)
        for n in range(5):
            assert await cart(f"cart-{n}").all() == []

    simulate(app, scenario, seeds=10)
