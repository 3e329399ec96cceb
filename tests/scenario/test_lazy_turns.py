"""Lazy fields of operations that are called back, and of those that read beside each other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fenbu import App, Entity, Lazy, operation, step
from fenbu.testing import crash_everywhere
from tests.scenario.crash import Fault, crash_after_each_commit


async def work(n: int) -> int:
    return n


class Plain(Entity):
    """What nobody is called back by."""

    total: int = 0
    log: Lazy[list[str]]
    other: Lazy[str] = Lazy("-")

    @operation
    async def write(self, text: str) -> None:
        self.log.set([*await self.log.get(), text])

    @operation(read_only=True, reentrant=True)
    async def lines(self) -> list[str]:
        await step(work, 1)
        return await self.log.get()

    @operation(read_only=True, retention=60)
    async def slowly(self) -> list[str]:
        before = await self.log.get()
        await step(work, 1)
        return [*before, await self.other.get(), "|", *await self.log.get()]

    @operation(read_only=True)
    async def all(self) -> tuple[list[str], str, int]:
        return await self.log.get(), await self.other.get(), self.total


def make(app: App) -> Any:
    @app.workflow
    async def around(key: str, notes: list[str], fails: bool) -> list[str]:
        return [await Desk(key).note(each, fails) for each in notes]

    @app.workflow
    async def peek(key: str) -> list[str]:
        return await Desk(key).lines()

    @app.entity
    class Desk(Plain):
        @operation
        async def visit(self, notes: list[str], fails: bool = False) -> list[str]:
            self.log.set([*await self.log.get(), "in"])
            await step(work, 1)
            await around(self.key, notes, False)
            found = await self.log.get()
            await step(work, 2)
            self.log.set([*found, await self.other.get()])
            if fails:
                raise ValueError("the outer one fails")
            return await self.log.get()

        @operation
        async def untouched(self) -> list[str]:
            """It looks at nothing before its inner one has changed it."""
            await around(self.key, ["x"], False)
            return [*await self.log.get(), await self.other.get()]

        @operation
        async def careful(self) -> list[str]:
            self.log.set(["careful"])
            with pytest.raises(ValueError, match="the inner one fails"):
                await around(self.key, ["lost"], True)
            return await self.log.get()

        @operation
        async def meanwhile(self) -> list[str]:
            """It reads a row while an inner one changes it: what it sees depends on which comes first."""
            seen, _ = await asyncio.gather(self.log.get(), around(self.key, ["y"], False))
            found = await self.log.get()
            assert seen in (found, found[:-1])
            return found

        @operation(reentrant=True)
        async def note(self, text: str, fails: bool) -> str:
            before = await self.log.get()
            self.log.set([*before, f"note {text}"])
            self.total += await step(work, 100)
            self.other.set(f"other {text} {await self.other.get()}")
            if fails:
                raise ValueError("the inner one fails")
            return f"{text} at {self.total}"

        @operation(read_only=True, retention=60)
        async def reads(self) -> list[str]:
            return [*await self.log.get(), *await peek(self.key)]

    return Desk


async def test_an_inner_operation_sees_and_changes_what_the_outer_one_has(app: App) -> None:
    desk = make(app)
    async with app:
        await desk("a").write("old")
        log = ["old", "in", "note x", "note y", "other y other x -"]
        assert await desk("a").visit(["x", "y"]) == log
        assert await desk("a").all() == (log, "other y other x -", 200)
        assert await desk("b").untouched() == ["note x", "other x -"]
        assert await desk("b").all() == (["note x"], "other x -", 100)


async def test_it_is_void_if_the_outer_one_fails(app: App) -> None:
    desk = make(app)
    async with app:
        await desk("a").write("old")
        with pytest.raises(ValueError, match="the outer one fails"):
            await desk("a").visit(["x", "y"], True)
        assert await desk("a").all() == (["old"], "-", 0)
        assert await desk("a").careful() == ["careful"]
        assert await desk("a").all() == (["careful"], "-", 0)


async def test_read_only_operations_run_beside_each_other(app: App) -> None:
    desk = make(app)
    async with app:
        await desk("a").write("1")
        calls = [await desk("a").slowly.start() for _ in range(3)]
        await desk("a").write.start("2")
        later = await desk("a").slowly.start()
        for each in calls:
            assert await each.result() == ["1", "-", "|", "1"]
        assert await later.result() == ["1", "2", "-", "|", "1", "2"]
        assert await desk("a").reads() == ["1", "2", "1", "2"]


def work_of(desk: Any) -> Any:
    async def one(call: str, operation: Any, *args: Any) -> Any:
        return await (await operation.options(id=call).start(*args)).result()

    async def scenario() -> list[Any]:
        await one("write", desk("a").write, "old")
        found = [
            await one("visit", desk("a").visit, ["x", "y"]),
            await one("untouched", desk("a").untouched),
            await one("meanwhile", desk("b").meanwhile),
            await one("slowly", desk("a").slowly),
        ]
        with pytest.raises(ValueError, match="the outer one fails"):
            await one("fails", desk("a").visit, ["z"], True)
        found += [
            await one("meanwhile-2", desk("a").meanwhile),
            await one("reads", desk("a").reads),
        ]
        log = ["old", "in", "note x", "note y", "other y other x -", "note x"]
        assert found[:4] == [
            log[:5],
            [*log, "other x other y other x -"],
            ["note y"],
            [*log, "other x other y other x -", "|", *log],
        ]
        assert found[4] == [*log, "note y"]
        assert found[5] == [*log, "note y"] * 2
        return found

    return scenario


def test_crashes_change_nothing() -> None:
    app = App("lazy")
    assert crash_everywhere(app, work_of(make(app))) >= 20


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("place", ["memory", "file"])
async def test_a_lost_commit_changes_nothing(place: str, fault: Fault, tmp_path: Path) -> None:
    app = App("lazy")
    folder = tmp_path if place == "file" else None

    def rows(found: dict[str, Any]) -> Any:
        return found["entities"], found["fields"]

    scenario = work_of(make(app))
    assert await crash_after_each_commit(app, scenario, folder, fault=fault, comparable=rows) >= 20
