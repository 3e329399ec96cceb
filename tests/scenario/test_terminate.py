"""Ending calls at once, without asking their code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import App, CallCancelled, Entity, Status, step
from fenbu.testing import crash_everywhere


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.began = asyncio.Event()

    async def write(self, line: str) -> None:
        self.lines.append(line)

    async def hang(self) -> None:
        self.began.set()
        await asyncio.Event().wait()

    async def until(self) -> None:
        async with asyncio.timeout(20):
            await self.began.wait()
        self.began.clear()


@pytest.fixture
def log() -> Log:
    return Log()


def stubborn_of(app: App, log: Log) -> Any:
    @app.workflow(name="stubborn")
    async def stubborn() -> None:
        """Its cleaning up does not end."""
        try:
            await step(log.hang)
        finally:
            await step(log.write, "cleans up")
            await step(log.hang)

    return stubborn


async def _ended(handle: Any) -> None:
    with pytest.raises(CallCancelled):
        await handle.result()
    assert await handle.status() is Status.CANCELLED


async def test_a_workflow_ends_without_cleaning_up(app: App, log: Log) -> None:
    stubborn = stubborn_of(app, log)
    async with app:
        handle = await stubborn.start()
        await log.until()
        await handle.terminate()
        await _ended(handle)
    assert log.lines == []


async def test_a_call_that_is_stuck_ends_as_cancelled(app: App) -> None:
    @app.workflow
    async def hopeless() -> None:
        await asyncio.Event().wait()

    async with app:
        handle = await hopeless.start()
        async with asyncio.timeout(20):
            while await handle.status() is not Status.STUCK:
                await asyncio.sleep(0)
        await handle.cancel("nobody needs it")
        await _ended(handle)


async def test_what_does_not_end_when_cancelled_is_ended(app: App, log: Log) -> None:
    stubborn = stubborn_of(app, log)
    async with app:
        handle = await stubborn.start()
        await log.until()
        await handle.cancel()
        await log.until()
        await handle.terminate("enough")
        await _ended(handle)
        await handle.terminate("twice changes nothing")
    assert log.lines == ["cleans up"]


async def test_the_calls_that_it_waits_for_end_with_it_and_others_do_not(
    app: App, log: Log
) -> None:
    stubborn = stubborn_of(app, log)

    @app.workflow
    async def parent(seconds: float) -> None:
        await stubborn.options(id="started").start()
        async with asyncio.TaskGroup() as group:
            group.create_task(stubborn.options(id="awaited")())
            group.create_task(asyncio.sleep(seconds))

    async with app:
        handle = await parent.start(60)
        await log.until()
        # It is in no memory now: its journal has to be read to know for whom it waits.
        async with asyncio.timeout(20):
            while await handle.status() is not Status.SUSPENDED:
                await asyncio.sleep(0)
        await handle.terminate()
        await _ended(handle)
        await _ended(app.handle("awaited"))
        assert await app.handle("started").status() is Status.RUNNING
        await app.handle("started").terminate()
        await _ended(app.handle("started"))
    assert log.lines == []


async def test_code_inside_a_task_group_is_dropped_like_any_other(app: App, log: Log) -> None:
    @app.workflow
    async def parent() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            await step(log.hang)

    @app.workflow
    async def other() -> int:
        return 7

    async with app:
        handle = await parent.start()
        await log.until()
        await handle.terminate()
        await _ended(handle)
        assert await other() == 7  # The node is well.


async def test_tasks_and_operations_and_what_waits_behind_them(app: App, log: Log) -> None:
    @app.task
    async def task() -> None:
        try:
            await log.hang()
        finally:
            log.lines.append("a body is cancelled, as ever")

    @app.entity
    class Door(Entity):
        opened: int = 0

        async def hold(self) -> None:
            self.opened = 100
            await step(log.hang)

        async def open(self) -> int:
            self.opened += 1
            return self.opened

    async with app:
        handle = await task.start()
        await log.until()
        await handle.terminate()
        await _ended(handle)
        held = await Door("front").hold.start()
        await log.until()
        behind = await Door("front").open.start()
        waits = await Door("front").open.start()
        await waits.terminate()
        await _ended(waits)
        await held.terminate()
        await _ended(held)
        # What it did is undone, as of any operation that does not end well.
        assert await behind.result() == 1
    assert log.lines == ["a body is cancelled, as ever"]


async def test_a_workflow_ends_others(app: App, log: Log) -> None:
    stubborn = stubborn_of(app, log)

    @app.workflow
    async def killer(id_: str) -> None:
        await stubborn.handle(id_).terminate("by another")

    async with app:
        handle = await stubborn.start()
        await log.until()
        await killer(handle.id)
        await _ended(handle)


@pytest.mark.guarantee("one-outcome")
def test_it_survives_a_crash_anywhere() -> None:
    app = App("terminate", url="memory:")

    @app.workflow
    async def sleeper() -> None:
        await asyncio.sleep(1_000_000)

    @app.workflow
    async def parent() -> None:
        await sleeper.options(id="child")()

    async def scenario() -> list[Status]:
        handle = await parent.options(id="parent").start()
        await asyncio.sleep(20)
        await handle.terminate()
        found = []
        for each in (handle, app.handle("child")):
            with pytest.raises(CallCancelled):
                await each.result()
            found.append(await each.status())
        return found

    assert crash_everywhere(app, scenario) >= 3
