"""Calls that are paused: nothing of them happens until they are resumed, and nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import (
    App,
    CallCancelled,
    CallNotFound,
    CallTimedOut,
    Entity,
    Status,
    UsageError,
    step,
    wait_signal,
)
from fenbu.testing import run

pytestmark = pytest.mark.timeout(60)


async def until(handle: Any, status: Status) -> None:
    async with asyncio.timeout(20):
        while await handle.status() is not status:
            await asyncio.sleep(0)


async def test_what_is_sent_to_a_paused_workflow_waits_for_it(app: App) -> None:
    steps: list[int] = []

    async def note(number: int) -> None:
        steps.append(number)

    @app.workflow
    async def flow() -> int:
        await step(note, 1)
        number = await wait_signal("go", int)
        await step(note, number)
        return number

    async with app:
        handle = await flow.options(id="a").start()
        async with asyncio.timeout(20):
            while steps != [1]:
                await asyncio.sleep(0)
        await handle.pause("the bank is closed")
        await until(handle, Status.PAUSED)
        await handle.signal("go", 2)
        (call,) = (await app.list_calls(statuses=[Status.PAUSED])).calls
        assert call.id == "a"
        assert await handle.status() is Status.PAUSED
    if app.url != "memory:":
        # It stays so when its node goes and comes.
        async with app:
            assert await handle.status() is Status.PAUSED
            assert steps == [1]
            await handle.resume()
            assert await handle.result() == 2
            assert steps == [1, 2]


async def test_a_running_task_is_cut_and_begins_again(app: App) -> None:
    began: list[int] = []
    gate = asyncio.Event()

    @app.task
    async def work() -> str:
        began.append(1)
        await gate.wait()
        return "done"

    async with app:
        handle = await work.start()
        async with asyncio.timeout(20):
            while not began:
                await asyncio.sleep(0)
        await handle.pause()
        await until(handle, Status.PAUSED)
        gate.set()
        assert len(began) == 1
        await handle.resume()
        assert await handle.result() == "done"
        assert len(began) == 2


async def test_a_paused_workflow_that_is_cancelled_cleans_up(app: App) -> None:
    cleaned: list[str] = []

    async def clean() -> None:
        cleaned.append("up")

    @app.workflow
    async def flow() -> None:
        try:
            await wait_signal("never")
        except asyncio.CancelledError:
            await step(clean)
            raise

    async with app:
        handle = await flow.start()
        await until(handle, Status.SUSPENDED)
        await handle.pause()
        await until(handle, Status.PAUSED)
        await handle.cancel()
        with pytest.raises(CallCancelled):
            await handle.result()
        assert cleaned == ["up"]


async def test_one_that_is_terminated_or_has_not_begun_just_ends(app: App) -> None:
    @app.workflow
    async def flow() -> None:
        await wait_signal("never")

    async with app:
        begun, later = await flow.start(), await flow.options(delay=3600).start()
        await until(begun, Status.SUSPENDED)
        for handle in (begun, later):
            await handle.pause()
            await until(handle, Status.PAUSED)
        await begun.terminate()
        await later.cancel()
        for handle in (begun, later):
            with pytest.raises(CallCancelled):
                await handle.result()


async def test_who_waits_for_a_paused_child_waits(app: App) -> None:
    @app.workflow
    async def child() -> int:
        return await wait_signal("go", int)

    @app.workflow
    async def parent() -> int:
        return await child.options(id="child")()

    async with app:
        waiting = await parent.start()
        inner = child.handle("child")
        async with asyncio.timeout(20):
            while True:
                try:
                    await until(inner, Status.SUSPENDED)
                    break
                except CallNotFound:
                    await asyncio.sleep(0)
        await inner.pause()
        await until(inner, Status.PAUSED)
        await inner.signal("go", 5)
        await inner.resume()
        assert await waiting.result() == 5


def test_instants_that_come_while_it_is_paused() -> None:
    app = App("paused", url="memory:")

    @app.workflow
    async def flow(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        sleeps = await flow.start(100.0)
        early = await flow.options(delay=1000.0).start(0.0)
        late = await flow.options(delay=10.0).start(0.0)
        await asyncio.sleep(1.0)
        for handle in (sleeps, early, late):
            await handle.pause()
            await until(handle, Status.PAUSED)
        await asyncio.sleep(500.0)
        for handle in (sleeps, early, late):
            assert await handle.status() is Status.PAUSED
            await handle.resume()
        # What was due meanwhile comes at once, and what was not, then.
        assert await sleeps.result() == 100.0
        assert await late.result() == 0.0
        assert 501 <= loop.time() - began < 505
        assert await early.result() == 0.0
        assert 1000 <= loop.time() - began < 1005

    run(app, scenario)


def test_one_whose_time_is_over_when_it_is_resumed_has_timed_out() -> None:
    app = App("pauses", url="memory:")
    done: list[str] = []

    async def cleanup() -> None:
        done.append("cleaned up")

    @app.workflow(timeout=60)
    async def flow() -> str:
        try:
            return await wait_signal("go", str)
        finally:
            await step(cleanup)

    @app.task(timeout=60)
    async def work() -> None:
        done.append("begun")
        await asyncio.sleep(40)

    async def scenario() -> None:
        waiting, working = await flow.start(), await work.start()
        await asyncio.sleep(10)
        for each in (waiting, working):
            await each.pause()
            await until(each, Status.PAUSED)
        await waiting.signal("go", "in time, and not read in time")
        await asyncio.sleep(100)
        for each in (waiting, working):
            assert await each.status() is Status.PAUSED
            await each.resume()
            with pytest.raises(CallTimedOut):
                await each.result()
        assert done == ["begun", "cleaned up"]

    run(app, scenario)


async def test_what_cannot_be_paused(app: App) -> None:
    @app.entity
    class Stock(Entity):
        async def wait(self) -> None:
            await wait_signal("go")

    @app.task
    async def done() -> int:
        return 1

    async with app:
        operation = await Stock("s").wait.start()
        with pytest.raises(UsageError, match="is an operation, and cannot be paused"):
            await operation.pause()
        await operation.signal("go")
        await operation.result()
        ended = await done.start()
        await ended.result()
        await ended.pause()
        await ended.resume()
        assert await ended.status() is Status.COMPLETED
        with pytest.raises(CallNotFound):
            await app.handle("nobody").pause()

    @app.workflow
    async def pauses() -> None:
        await done.handle("x").pause()

    async with app:
        with pytest.raises(UsageError, match="are for operators"):
            await pauses()
