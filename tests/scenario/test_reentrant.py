"""Operations that are called back by what an operation of their own entity waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import App, CallCancelled, DeadlockError, Entity, Status, TerminalError, operation, step
from fenbu._core import limit
from fenbu.testing import crash_everywhere, run
from tests.scenario.again import again


async def work(n: int) -> int:
    return n


def make(app: App) -> Any:
    @app.workflow
    async def around(key: str, notes: list[str], fails: bool) -> list[str]:
        return [await Desk(key).note(note, fails) for note in notes]

    @app.workflow
    async def peek(key: str) -> list[str]:
        return await Desk(key).lines()

    @app.entity
    class Desk(Entity):
        log: list[str] = []
        total: int = 0

        @operation
        async def visit(self, notes: list[str], fails: bool = False) -> list[str]:
            self.log.append("in")
            self.total += await step(work, 1)
            await around(self.key, notes, False)
            self.log.append(f"saw {len(self.log)}")
            self.total += await step(work, 10)
            if fails:
                raise ValueError("the outer one fails")
            return self.log

        @operation
        async def both(self) -> list[str]:
            self.log.append("both")
            calls = [around(self.key, [f"{each}1", f"{each}2"], False) for each in "ab"]
            await asyncio.gather(*calls)
            return self.log

        @operation
        async def careful(self) -> list[str]:
            self.log.append("careful")
            with pytest.raises(ValueError, match="the inner one fails"):
                await around(self.key, ["lost"], True)
            return self.log

        @operation(read_only=True)
        async def reads(self) -> list[str]:
            return await peek(self.key)

        @operation(read_only=True)
        async def reads_and_writes(self) -> list[str]:
            return await around(self.key, ["no"], False)

        @operation(reentrant=True)
        async def note(self, text: str, fails: bool) -> str:
            self.log.append(f"note {text}")
            self.total += await step(work, 100)
            if fails:
                raise ValueError("the inner one fails")
            return f"{text} at {self.total}"

        @operation(read_only=True, reentrant=True)
        async def lines(self) -> list[str]:
            return self.log

        @operation(read_only=True)
        async def all(self) -> tuple[list[str], int]:
            return self.log, self.total

    return Desk


def make_deep(app: App) -> Any:
    @app.workflow
    async def deeper(key: str, levels: int) -> None:
        await Well(key).inner(levels)

    @app.entity
    class Well(Entity):
        log: list[str] = []
        total: int = 0

        @operation
        async def go_down(self, levels: int) -> int:
            self.total += 1
            if levels:
                await deeper(self.key, levels - 1)
            self.log.append(f"level {levels}")
            return self.total

        @operation(reentrant=True)
        async def inner(self, levels: int) -> None:
            self.total += 1
            if levels:
                await deeper(self.key, levels - 1)
            self.log.append(f"level {levels}")

        @operation(read_only=True)
        async def all(self) -> tuple[list[str], int]:
            return self.log, self.total

    return Well


@pytest.mark.guarantee("entity-linear")
def test_an_inner_operation_runs_in_the_turn_of_the_outer_one_on_its_state(app: App) -> None:
    desk, well = make(app), make_deep(app)

    async def main() -> None:
        async with app:
            found = await desk("a").visit(["x", "y"])
            assert found == ["in", "note x", "note y", "saw 3"]
            assert await desk("a").all() == (found, 211)
            # Not called from there, it is an operation like any other.
            assert await desk("a").note("z", False) == "z at 311"
            assert await well("b").go_down(3) == 4
            assert await well("b").all() == (["level 0", "level 1", "level 2", "level 3"], 4)

    asyncio.run(main())


@pytest.mark.guarantee("entity-linear")
def test_what_an_inner_one_did_is_void_if_it_or_the_outer_one_fails(app: App) -> None:
    desk = make(app)

    async def main() -> None:
        async with app:
            with pytest.raises(ValueError, match="the outer one fails"):
                await desk("a").visit(["x"], True)
            assert await desk("a").all() == ([], 0)
            assert await desk("a").careful() == ["careful"]
            assert await desk("a").all() == (["careful"], 0)

    asyncio.run(main())


def test_two_that_call_back_at_once_take_turns(app: App) -> None:
    desk = make(app)

    async def main() -> None:
        async with app:
            found = await desk("a").both()
            assert found[0] == "both"
            assert sorted(found[1:]) == ["note a1", "note a2", "note b1", "note b2"]
            assert (await desk("a").all())[1] == 400

    asyncio.run(main())


def test_a_read_only_one_is_called_back_to_read_only(app: App) -> None:
    desk = make(app)

    async def main() -> None:
        async with app:
            await desk("a").note("x", False)
            assert await desk("a").reads() == ["note x"]
            with pytest.raises(DeadlockError, match="called back by a read-only operation"):
                await desk("a").reads_and_writes()

    asyncio.run(main())


def test_what_is_not_reentrant_would_wait_for_itself(app: App) -> None:
    @app.workflow
    async def back(key: str) -> None:
        await Strict(key).plain()

    @app.entity
    class Strict(Entity):
        n: int = 0

        @operation
        async def visit(self) -> None:
            await back(self.key)

        @operation
        async def plain(self) -> None: ...

        @operation(reentrant=True)
        async def other(self) -> None:
            self.delete()

        @operation
        async def calls_other(self) -> None:
            await through(self.key)

    @app.workflow
    async def through(key: str) -> None:
        await Strict(key).other()

    async def main() -> None:
        async with app:
            with pytest.raises(DeadlockError, match="Strict/a → Strict/a"):
                await Strict("a").visit()
            with pytest.raises(Exception, match="only that one may set alarms"):
                await Strict("a").calls_other()

    asyncio.run(main())


def test_who_terminates_the_outer_one_ends_the_inner_one(app: App) -> None:
    hangs = asyncio.Event()

    async def hang() -> None:
        hangs.set()
        await asyncio.Event().wait()

    @app.workflow
    async def back(key: str) -> None:
        await Door(key).hold.options()()

    @app.entity
    class Door(Entity):
        n: int = 0

        @operation
        async def open(self) -> None:
            self.n = 5
            await back(self.key)

        @operation(reentrant=True)
        async def hold(self) -> None:
            await step(hang)

        @operation(read_only=True)
        async def look(self) -> int:
            return self.n

    async def main() -> None:
        async with app:
            for end in ("terminate", "cancel"):
                hangs.clear()
                handle = await Door("a").open.start()
                await hangs.wait()
                await getattr(handle, end)()
                with pytest.raises(CallCancelled):
                    await handle.result()
                assert await Door("a").look() == 0

    asyncio.run(main())


async def test_who_cancels_one_that_waits_leaves_those_that_run(app: App) -> None:
    hangs, go = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        hangs.set()
        await go.wait()

    @app.workflow
    async def back(key: str) -> None:
        await Door(key).hold()

    @app.entity
    class Door(Entity):
        @operation
        async def open(self) -> list[str]:
            calls = [back.options(id=each)(self.key) for each in ("wa", "wb")]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            return sorted(type(each).__name__ for each in ended)

        @operation(reentrant=True)
        async def hold(self) -> None:
            await step(hang)

    async with app:
        handle = await Door("a").open.start()
        await hangs.wait()
        waiting: list[str] = []
        async with asyncio.timeout(20):
            while not waiting:
                calls = (await app.list_calls()).calls
                waiting = [
                    each.id
                    for each in calls
                    if each.handler == "Door.hold" and each.status is Status.PENDING
                ]
        (id_,) = waiting
        await app.handle(id_).cancel()
        with pytest.raises(CallCancelled):
            await app.handle(id_).result()
        go.set()
        assert await handle.result() == ["CallCancelled", "NoneType"]


@pytest.mark.guarantee("entity-linear")
@pytest.mark.parametrize("fails", [False, True])
def test_a_crash_anywhere_leaves_no_half_of_an_inner_operation(fails: bool) -> None:
    app = App("reentrant", url="memory:")
    desk, well = make(app), make_deep(app)

    async def scenario() -> Any:
        handle = await desk("a").visit.options(id="v").start(["x", "y"], fails)
        with pytest.raises(ValueError, match="outer") if fails else _nothing():
            await handle.result()
        await desk("a").both.options(id="b")()
        await desk("a").careful.options(id="c")()
        await well("a").go_down.options(id="d")(2)
        log, total = await desk("a").all()
        return sorted(log), total, await well("a").all()

    expected = (["level 0", "level 1", "level 2"], 3)
    assert run(app, scenario)[1:] == ((0 if fails else 211) + 400, expected)
    assert crash_everywhere(app, scenario) >= 15


@pytest.mark.guarantee("entity-linear")
@pytest.mark.parametrize("others", [False, True])
async def test_one_that_was_quarantined_in_the_midst_takes_nothing_from_others(
    app: App, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    began = asyncio.Event()

    def make_shelf(app: App, *, waits: bool) -> Any:
        async def pause() -> None:
            began.set()
            if waits:
                await asyncio.Event().wait()

        @app.workflow
        async def back(key: str) -> None:
            await Shelf(key).note()

        @app.entity
        class Shelf(Entity):
            lines: list[str] = []

            @operation
            async def visit(self) -> list[str]:
                self.lines.append("in")
                await back(self.key)
                await step(pause)
                self.lines.append("out")
                return self.lines

            @operation(reentrant=True)
            async def note(self) -> None:
                self.lines.append("note")

            @operation
            async def add(self) -> list[str]:
                self.lines.append("another's")
                return self.lines

            @operation(read_only=True)
            async def all(self) -> list[str]:
                return self.lines

        return Shelf

    shelf = make_shelf(app, waits=True)
    async with app:
        await shelf("a").visit.options(id="v").start()
        await began.wait()
        await app.close(drain_seconds=0)
    second = again(app)
    shelf = make_shelf(second, waits=False)
    monkeypatch.setattr(limit, "CRASHES_MAX", -1)  # As if it had taken its process down before.
    async with second:
        handle = second.handle("v")
        async with asyncio.timeout(30):
            while await handle.status() is not Status.QUARANTINED:
                await asyncio.sleep(0)
        if others:
            assert await shelf("a").add() == ["another's"]
        monkeypatch.undo()
        await handle.retry()
        if others:
            with pytest.raises(TerminalError, match="'a' has been changed since by others"):
                await handle.result()
            assert await shelf("a").all() == ["another's"]
        else:
            assert await handle.result() == ["in", "note", "out"]
            assert await shelf("a").all() == ["in", "note", "out"]


class _nothing:  # noqa: N801
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
