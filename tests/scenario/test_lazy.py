"""Lazy fields: rows of their own, read when an operation asks for them, written when it has set them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fenbu import App, EncodingError, Entity, Lazy, PayloadTooLarge, UsageError, operation, step
from fenbu.testing import crash_everywhere
from tests.scenario.again import again
from tests.scenario.crash import Fault, crash_after_each_commit


async def work(n: int) -> int:
    return n


def make(app: App) -> Any:
    @app.entity
    class Cart(Entity):
        owner: str = ""
        history: Lazy[list[int]]
        note: Lazy[str] = Lazy("none yet")

        async def add(self, number: int) -> int:
            past = await self.history.get()
            self.history.set([*past, number])
            return len(past) + 1

        async def rename(self, owner: str) -> None:
            self.owner = owner

        async def fail(self) -> None:
            self.history.set([*await self.history.get(), -1])
            self.owner = "nobody"
            raise ValueError("it fails")

        async def in_steps(self, number: int) -> list[list[int]]:
            first = await self.history.get()
            self.history.set([*first, await step(work, number)])
            second = await self.history.get()
            self.owner = await self.note.get()
            self.note.set(f"{number}")
            second.append(-1)
            return [first, await self.history.get(), [await step(work, number + 1)]]

        async def both(self, number: int) -> list[str]:
            seen: list[str] = []

            async def read() -> None:
                seen.append(f"history {len(await self.history.get())}")

            async def look() -> None:
                seen.append(f"note {await self.note.get()}")

            async def wait() -> None:
                seen.append(f"step {await step(work, number)}")

            await asyncio.gather(wait(), read(), look(), read())
            self.note.set(f"{number}")
            self.history.set([*await self.history.get(), number])
            # In which order they came depends on what was in memory; a replay has the same.
            return sorted(seen)

        async def forget(self) -> None:
            self.delete()

        @operation(read_only=True)
        async def all(self) -> tuple[str, list[int], str]:
            return self.owner, await self.history.get(), await self.note.get()

        @operation(read_only=True)
        async def sets(self) -> None:
            self.history.set([])

    return Cart


async def stored(app: App) -> dict[str, Any]:
    """What the database has of lazy fields."""
    rows = await app.runtime.gateway.storage.scan_fields(("", "", ""), limit=99)
    return {f"{each.key}.{each.name}": each.value for each in rows}


async def state_of(app: App, key: str) -> tuple[str, str | None]:
    (row,) = await app.runtime.gateway.storage.load_entities([("Cart", key)])
    return row.state, row.fields


async def test_a_lazy_field_has_a_row_of_its_own(app: App) -> None:
    cart = make(app)
    async with app:
        await cart("a").rename("Ann")
        assert await cart("a").all() == ("Ann", [], "none yet")
        assert await stored(app) == {}
        assert await state_of(app, "a") == ('{"owner":"Ann"}', None)
        assert await cart("a").add(1) == 1
        assert await cart("a").add(2) == 2
        assert await cart("b").add(3) == 1
        assert await cart("a").all() == ("Ann", [1, 2], "none yet")
        assert await stored(app) == {"a.history": "[1,2]", "b.history": "[3]"}
        assert await state_of(app, "a") == ('{"owner":"Ann"}', '["history"]')


async def test_what_fails_leaves_it_as_it_was(app: App) -> None:
    cart = make(app)
    async with app:
        await cart("a").add(1)
        with pytest.raises(ValueError, match="it fails"):
            await cart("a").fail()
        with pytest.raises(UsageError, match=r"Cart.sets is marked read_only, and sets the lazy"):
            await cart("a").sets()
        assert await cart("a").all() == ("", [1], "none yet")
        assert await stored(app) == {"a.history": "[1]"}


async def test_it_goes_with_its_entity(app: App) -> None:
    cart = make(app)
    async with app:
        await cart("a").in_steps(1)
        await cart("b").add(1)
        assert set(await stored(app)) == {"a.history", "a.note", "b.history"}
        await cart("a").forget()
        assert await cart("a").all() == ("", [], "none yet")
        assert set(await stored(app)) == {"b.history"}
        assert await cart("a").add(5) == 1
        assert (await stored(app))["a.history"] == "[5]"


async def test_an_operation_sees_what_it_has_set(app: App) -> None:
    cart = make(app)
    async with app:
        await cart("a").add(1)
        assert await cart("a").in_steps(7) == [[1], [1, 7], [8]]
        assert await cart("a").all() == ("none yet", [1, 7], "7")


def reads_of(app: App) -> list[str]:
    """The names of the fields whose rows are read, from now on."""
    storage: Any = app.runtime.gateway.storage
    load: Callable[[list[tuple[str, str, str]]], Awaitable[Any]] = storage.load_fields
    names: list[str] = []

    async def load_fields(places: list[tuple[str, str, str]]) -> Any:
        names.extend(name for _, _, name in places)
        return await load(places)

    storage.load_fields = load_fields
    return names


async def test_rows_are_read_when_they_are_asked_for_and_once(app: App) -> None:
    cart = make(app)
    async with app:
        reads = reads_of(app)
        assert await cart("a").in_steps(7) == [[], [7], [8]]
        assert await cart("a").add(8) == 2
        assert reads == []
    other = again(app)
    cart = make(other)
    async with other:
        reads = reads_of(other)
        await cart("a").rename("Bob")
        await cart("b").add(1)
        assert reads == []
        assert await cart("a").add(9) == 3
        assert await cart("a").add(10) == 4
        assert reads == ["history"]
        both = await asyncio.gather(cart("a").all(), cart("a").all())
        assert both == [("Bob", [7, 8, 9, 10], "7")] * 2
        assert sorted(reads) == ["history", "note"]


async def test_reading_and_waiting_at_the_same_time(app: App) -> None:
    cart = make(app)
    async with app:
        await cart("a").in_steps(7)
    other = again(app)
    cart = make(other)
    async with other:
        assert await cart("a").both(1) == ["history 1", "history 1", "note 7", "step 1"]
        assert await cart("a").all() == ("none yet", [7, 1], "1")


def work_of(cart: Any) -> Callable[[], Awaitable[list[Any]]]:
    async def one(call: str, operation: Any, *args: Any) -> Any:
        return await (await operation.options(id=call).start(*args)).result()

    async def scenario() -> list[Any]:
        found = [
            await one("add", cart("a").add, 1),
            await one("steps", cart("a").in_steps, 2),
            await one("both", cart("a").both, 3),
        ]
        with pytest.raises(ValueError, match="it fails"):
            await one("fail", cart("a").fail)
        found += [await one("last", cart("a").both, 4), await cart("a").all()]
        assert found == [
            1,
            [[1], [1, 2], [3]],
            ["history 2", "history 2", "note 2", "step 3"],
            ["history 3", "history 3", "note 3", "step 4"],
            ("none yet", [1, 2, 3, 4], "4"),
        ]
        return found

    return scenario


def test_crashes_change_nothing() -> None:
    app = App("lazy")
    assert crash_everywhere(app, work_of(make(app))) >= 10


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("place", ["memory", "file"])
async def test_a_lost_commit_changes_nothing(place: str, fault: Fault, tmp_path: Path) -> None:
    app = App("lazy")
    folder = tmp_path if place == "file" else None
    scenario = work_of(make(app))

    def without_journals(found: dict[str, Any]) -> Any:
        # Whether a value was in memory is another matter after a crash.
        return {
            name: each[:4] if len(each) == 5 else each
            for name, each in found.items()
            if name != "inbox"
        }

    count = await crash_after_each_commit(
        app, scenario, folder, fault=fault, comparable=without_journals
    )
    assert count >= 10


async def test_values_are_checked(tmp_path: Path) -> None:
    app = App("lazy", url=f"sqlite:///{tmp_path}/lazy.db", payload_bytes_max=100)

    @app.entity
    class Box(Entity):
        text: Lazy[str]
        number: Lazy[int | None]

        async def set_text(self, value: Any) -> str:
            self.text.set(value)
            return await self.text.get()

        async def fill(self, size: int) -> None:
            self.text.set("x" * size)

        async def assign(self) -> None:
            self.text = "x"  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]

        async def change_in_place(self) -> tuple[Any, Any]:
            return await self.text.get(), await self.number.get()

    async with app:
        assert await Box("a").change_in_place() == ("", None)
        assert await Box("a").set_text("é") == "é"
        with pytest.raises(PayloadTooLarge, match="lazy field text of Box/a has 102 bytes"):
            await Box("a").fill(100)
        with pytest.raises(EncodingError, match="lazy field text of Box/a: Expected `str`"):
            await Box("a").set_text(7)
        with pytest.raises(
            EncodingError, match=r"Box.text is a lazy field: change it with `self.text.set"
        ):
            await Box("a").assign()
        assert await Box("a").change_in_place() == ("é", None)
        with pytest.raises(UsageError, match=r"get\(\) of a lazy field belongs into the code"):
            await Box.text.get()


async def test_a_value_is_a_copy(app: App) -> None:
    @app.entity
    class Pile(Entity):
        things: Lazy[list[int]] = Lazy([1])

        async def spoil(self) -> list[list[int]]:
            first = await self.things.get()
            first.append(2)
            second = await self.things.get()
            self.things.set(first)
            first.append(3)
            return [second, await self.things.get()]

        @operation(read_only=True)
        async def all(self) -> list[int]:
            found = await self.things.get()
            found.append(9)
            return await self.things.get()

    async with app:
        assert await Pile("a").all() == [1]
        assert await Pile("a").spoil() == [[1], [1, 2]]
        assert await Pile("a").all() == [1, 2]
        assert await Pile("b").all() == [1]
