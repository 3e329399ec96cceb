"""Arguments of queries and updates by name, by position, and some of each."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu import App, UsageError, on_query, on_update, wait_until
from fenbu._api.function import DurableFunction
from fenbu.testing import crash_everywhere


def guests_of(app: App) -> DurableFunction[..., list[str]]:
    @app.workflow
    async def guests(host: str) -> list[str]:
        names = [host]

        @on_query
        def count(letter: str = "", *, at_least: int = 0) -> int:
            return max(sum(letter in each for each in names), at_least)

        @on_update
        async def join(name: str, n: int = 1, **more: str) -> list[str]:
            names.extend([name] * n)
            names.extend(f"{key} {value}" for key, value in more.items())
            return names

        @join.validator
        def check(name: str, n: int = 1, **more: str) -> None:
            if n > 9:
                raise ValueError(f"{name} brings too many")

        await wait_until(lambda: "end" in names)
        return names

    return guests


async def test_they_reach_their_parameters(app: App) -> None:
    guests = guests_of(app)

    @app.workflow
    async def friend(host: str) -> Any:
        return await guests.handle(host).update("join", "eve", n=1)

    async with app:
        handle = await guests.options(id="h").start("ann")
        assert await handle.update("join", name="bob") == ["ann", "bob"]
        assert (await handle.update("join", "cid", n=2, result=list[str]))[2:] == ["cid", "cid"]
        later = await handle.start_update("join", name="dan", pet="cat")
        assert (await later.result())[4:] == ["dan", "pet cat"]
        assert (await friend("h"))[6:] == ["eve"]
        assert await handle.query("count", letter="d", result=int) == 3
        assert await handle.query("count", "no one", at_least=2) == 2
        assert await handle.query("count") == 7
        with pytest.raises(ValueError, match="dan brings too many"):
            await handle.update("join", n=10, name="dan")
        with pytest.raises(UsageError, match=r"join.*missing a required argument: 'name'"):
            await handle.update("join", n=1)
        with pytest.raises(UsageError, match="unexpected keyword argument 'letters'"):
            await handle.query("count", letters="a")
        both = guests.options(id="h").and_update("join", name="end", n=1, result=list[str])
        assert (await both("ann"))[7:] == ["end"]
        assert len(await handle.result()) == 8


def test_without_await(app: App) -> None:
    guests = guests_of(app)
    with app:
        handle = guests.options(id="h").sync.start("ann")
        assert handle.update("join", name="bob", n=2, result=list[str]) == ["ann", "bob", "bob"]
        assert handle.start_update("join", name="end").result() == ["ann", "bob", "bob", "end"]
        assert handle.query("count", letter="b") == 2


def test_a_crash_anywhere_changes_nothing() -> None:
    app = App("guests", url="memory:")
    guests = guests_of(app)

    async def scenario() -> list[str]:
        handle = await guests.options(id="h").start("ann")
        await handle.update("join", "bob", n=2, id="u1")
        await handle.update("join", name="end", id="u2")
        return await handle.result()

    assert crash_everywhere(app, scenario) >= 2
