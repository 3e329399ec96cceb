"""Fields that become lazy, and lazy ones that become ordinary: what was stored is not lost."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu import App, Entity, Lazy, UsageError, operation
from tests.scenario.again import again
from tests.scenario.test_lazy import reads_of, state_of, stored


def plain(app: App, *, version: int = 1) -> Any:
    class Cart(Entity):
        __version__ = version
        owner: str = ""
        lines: list[str] = []
        total: int = 7

        @operation
        async def add(self, line: str) -> int:
            self.lines.append(line)
            return len(self.lines)

        @operation
        async def rename(self, owner: str) -> None:
            self.owner = owner

        @operation(read_only=True)
        async def all(self) -> tuple[str, list[str], int]:
            return self.owner, self.lines, self.total

    return app.entity(Cart)


def lazy(app: App, *, version: int = 1) -> Any:
    class Cart(Entity):
        __version__ = version
        owner: str = ""
        lines: Lazy[list[str]]
        total: Lazy[int] = Lazy(7)

        @operation
        async def add(self, line: str) -> int:
            self.lines.set([*await self.lines.get(), line])
            return len(await self.lines.get())

        @operation
        async def rename(self, owner: str) -> None:
            self.owner = owner

        @operation
        async def gone(self) -> None:
            self.delete()

        @operation(read_only=True)
        async def all(self) -> tuple[str, list[str], int]:
            return self.owner, await self.lines.get(), await self.total.get()

    return app.entity(Cart)


async def fill(app: App, make: Any = plain) -> None:
    cart = make(app)
    async with app:
        await cart("a").rename("Ann")
        for each in "xyz":
            await cart("a").add(each)


async def test_a_field_becomes_lazy_and_keeps_its_value(app: App) -> None:
    await fill(app)
    other = again(app)
    cart = lazy(other, version=2)
    async with other:
        reads = reads_of(other)
        assert await cart("a").all() == ("Ann", ["x", "y", "z"], 7)
        # Until the entity is changed, its state stays as it was written.
        assert await stored(other) == {}
        await cart("a").rename("Bob")
        assert await stored(other) == {"a.lines": '["x","y","z"]', "a.total": "7"}
        assert await state_of(other, "a") == ('{"owner":"Bob"}', '["lines","total"]')
        assert await cart("a").add("w") == 4
        assert await cart("a").all() == ("Bob", ["x", "y", "z", "w"], 7)
        assert reads == []
    other = again(app)
    cart = lazy(other, version=2)
    async with other:
        assert await cart("a").add("v") == 5
        await cart("a").gone()
        assert await stored(other) == {}


async def test_a_value_that_is_set_before_it_has_moved(app: App) -> None:
    await fill(app)
    other = again(app)
    cart = lazy(other)
    async with other:
        assert await cart("a").add("w") == 4
        assert (await stored(other))["a.lines"] == '["x","y","z","w"]'
        assert (await state_of(other, "a"))[0] == '{"owner":"Ann"}'


@pytest.mark.parametrize("version", [1, 2])
async def test_a_lazy_field_becomes_ordinary_and_keeps_its_value(app: App, version: int) -> None:
    await fill(app, lazy)
    other = again(app)
    cart = plain(other, version=version)
    async with other:
        assert await cart("a").all() == ("Ann", ["x", "y", "z"], 7)
        assert set(await stored(other)) == {"a.lines"}
        await cart("a").rename("Bob")
        assert await stored(other) == {}
        state, fields = await state_of(other, "a")
        assert (state, fields) == ('{"owner":"Bob","lines":["x","y","z"],"total":7}', None)
    third = again(app)
    cart = lazy(third, version=version)
    async with third:
        assert await cart("a").add("w") == 4


async def test_upgrade_sees_what_was_in_the_state(app: App) -> None:
    await fill(app)
    other = again(app)

    class Upgrading(Entity):
        __version__ = 2
        owner: str = ""
        count: int = 0
        texts: Lazy[list[str]]

        @classmethod
        def __upgrade__(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
            return {"owner": old["owner"], "count": len(old["lines"]), "texts": old["lines"]}

        @operation
        async def rename(self, owner: str) -> None:
            self.owner = owner

        @operation(read_only=True)
        async def all(self) -> tuple[str, int, list[str]]:
            return self.owner, self.count, await self.texts.get()

    cart = other.entity(name="Cart")(Upgrading)
    async with other:
        assert await cart("a").all() == ("Ann", 3, ["x", "y", "z"])
        await cart("a").rename("Bob")
        assert await stored(other) == {"a.texts": '["x","y","z"]'}
        assert (await state_of(other, "a"))[0] == '{"owner":"Bob","count":3}'


async def test_a_field_that_the_class_has_no_more_is_kept(app: App) -> None:
    await fill(app, lazy)
    other = again(app)

    class Less(Entity):
        owner: str = ""

        @operation
        async def rename(self, owner: str) -> None:
            self.owner = owner

        @operation
        async def gone(self) -> None:
            self.delete()

    cart = other.entity(name="Cart")(Less)
    async with other:
        await cart("a").rename("Bob")
        assert await stored(other) == {"a.lines": '["x","y","z"]'}
        assert (await state_of(other, "a"))[1] == '["lines"]'
    third = again(app)
    cart = lazy(third)
    async with third:
        assert await cart("a").all() == ("Bob", ["x", "y", "z"], 7)
    fourth = again(app)
    cart = fourth.entity(name="Cart")(type("Cart", (Less,), {"__module__": __name__}))
    async with fourth:
        await cart("a").gone()
        assert await stored(fourth) == {}


class Point:
    """No empty value."""


@pytest.mark.parametrize(
    ("hint", "default", "words"),
    [
        (Lazy[tuple[int, int]], None, "default () does not fit"),
        (Lazy[int | str], None, "has no empty value"),
        (Lazy[int], Lazy("x"), "its default 'x' does not fit"),
        (Lazy[int], 3, r"write its default as `= Lazy(3)`"),
    ],
)
def test_a_default_is_needed_that_fits(hint: Any, default: Any, words: str) -> None:
    from fenbu._core.codec import Codec
    from fenbu._core.handler import EntitySpec

    body = {"__annotations__": {"field": hint}} | ({} if default is None else {"field": default})
    with pytest.raises(UsageError) as info:
        EntitySpec("Bad", type("Bad", (), body), Codec()).ordinary()
    assert words in str(info.value)
    assert "entity Bad: lazy field 'field'" in str(info.value)
