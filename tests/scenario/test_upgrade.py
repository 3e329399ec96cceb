"""States that an older class has stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fenbu import App, Entity, Lazy, Status, operation
from fenbu._core.ids import partition_of_entity
from fenbu._core.model import EntityState
from fenbu.testing import crash_everywhere
from tests.scenario.again import again


def old_cart(app: App) -> Any:
    @app.entity
    class Cart(Entity):
        items: dict[str, int] = {}

        async def add(self, sku: str) -> None:
            self.items[sku] = self.items.get(sku, 0) + 1

    return Cart


def new_cart(app: App, *, version: int = 3, upgrades: bool = True) -> Any:
    class Base(Entity):
        __version__ = version
        lines: list[tuple[str, int]] = []
        note: str = "new"

        @operation
        async def add(self, sku: str) -> None:
            self.lines.append((sku, 1))

        @operation(read_only=True)
        async def all(self) -> list[tuple[str, int]]:
            return self.lines

    class Upgrading(Base):
        @classmethod
        def __upgrade__(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
            assert version == 1
            return {"lines": list(old["items"].items())}

    cls: type[Entity] = Upgrading if upgrades else Base
    return app.entity(name="Cart")(cls)


async def fill(app: App) -> None:
    cart = old_cart(app)
    async with app:
        await cart("a").add("tea")


def test_a_state_of_an_older_class_is_upgraded_when_it_is_used(app: App) -> None:
    later, latest = again(app), again(app)
    cart, same = new_cart(later), new_cart(latest, upgrades=False)

    async def main() -> None:
        await fill(app)
        async with later:
            assert await cart("a").all() == [
                ("tea", 1)
            ]  # Nothing is written, and that is no change.
            await cart("a").add("cup")
        async with latest:
            assert await same("a").all() == [("tea", 1), ("cup", 1)]

    asyncio.run(main())


async def stuck(start: Callable[[], Awaitable[Any]]) -> tuple[Any, str]:
    handle = await start()
    while await handle.status() is not Status.STUCK:
        await asyncio.sleep(0)
    found = (await handle._runtime.gateway.storage.load_calls([handle.id]))[0].invocation
    return handle, found.waiting or ""


@pytest.mark.guarantee("accepted-never-lost")
def test_what_cannot_be_read_is_stuck_and_goes_on_with_code_that_fits(app: App) -> None:
    middle, later = again(app), again(app)

    @middle.entity
    class Cart(Entity):
        items: list[int] = []

        async def add(self, sku: str) -> None:
            del sku

    cart = new_cart(later)

    async def main() -> None:
        await fill(app)
        async with middle:
            handle, why = await stuck(lambda: Cart("a").add.start("cup"))  # type: ignore[attr-defined]
            assert "state of Cart('a')" in why
            assert "`__upgrade__`" in why
        async with later:
            await later.handle(handle.id).result(timeout=20)
            assert await cart("a").all() == [("tea", 1), ("cup", 1)]

    asyncio.run(main())


def test_an_upgrade_that_fails_and_a_state_of_a_newer_class_say_so(app: App) -> None:
    middle, later, back = again(app), again(app), again(app)

    class Failing(Entity):
        __version__ = 2
        lines: list[tuple[str, int]] = []

        async def add(self, sku: str) -> None:
            del sku

        @classmethod
        def __upgrade__(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
            return {"lines": [], "gone": old["nothing"]} if version else {}

    failing, cart = middle.entity(name="Cart")(Failing), new_cart(later)
    older = new_cart(back, version=2)

    async def main() -> None:
        await fill(app)
        async with middle:
            _, why = await stuck(lambda: failing("a").add.start("cup"))  # type: ignore[attr-defined]
            assert "Cart.__upgrade__ from version 1 failed for the key 'a' with KeyError" in why
        async with later:
            await cart("a").add("pot")
            assert await cart("a").all() == [("tea", 1), ("cup", 1), ("pot", 1)]
        async with back:
            _, why = await stuck(lambda: older("a").add.start("lid"))
            assert "has version 3, and the class here has 2" in why

    asyncio.run(main())


def test_a_new_field_is_no_change_by_a_read(app: App) -> None:
    later = again(app)

    @later.entity
    class Cart(Entity):
        items: dict[str, int] = {}
        note: str = "none"

        @operation(read_only=True)
        async def all(self) -> tuple[dict[str, int], str]:
            return self.items, self.note

    async def main() -> None:
        await fill(app)
        async with later:
            assert await Cart("a").all() == ({"tea": 1}, "none")

    asyncio.run(main())


def test_an_upgrade_survives_crashes_anywhere() -> None:
    app = App("upgrades", url="memory:")

    class Cart(Entity):
        __version__ = 2
        lines: list[tuple[str, int]] = []
        texts: Lazy[list[str]]

        @classmethod
        def __upgrade__(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
            assert version == 1
            return {"lines": list(old["items"].items()), "texts": list(old["items"])}

        async def add(self, sku: str) -> int:
            self.lines.append((sku, 1))
            self.texts.set([*await self.texts.get(), sku])
            return len(self.lines)

        @operation(read_only=True)
        async def all(self) -> tuple[list[tuple[str, int]], list[str]]:
            return self.lines, await self.texts.get()

    cart = app.entity(Cart)

    async def scenario() -> Any:
        database = app.runtime.gateway.storage.network.database  # type: ignore[attr-defined]
        partition = partition_of_entity("Cart", "a", app.registry.partition_count)
        old = EntityState("Cart", "a", partition, '{"items":{"tea":1}}')
        database.entities["Cart", "a"] = old
        for sku in ("cup", "pot"):
            await cart("a").add.options(id=f"add-{sku}")(sku)  # type: ignore[attr-defined]
        return await cart("a").all.options(id="all")()  # type: ignore[attr-defined]

    assert crash_everywhere(app, scenario) >= 2
