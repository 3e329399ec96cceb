"""Where code may ask to begin anew: it arrives, or it is refused."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import fenbu
from fenbu import App, UsageError, saga, step, wait_signal
from fenbu.testing import crash_everywhere
from tests.scenario.test_continue import Log

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize("way", ["group", "nested", "gather", "await"])
async def test_it_comes_through_the_tasks_that_are_waited_for(app: App, log: Log, way: str) -> None:
    @app.workflow(name="grouped")
    async def grouped(n: int) -> int:
        async def beside() -> None:
            try:
                await wait_signal("never")
            finally:
                await step(log.write, f"{n} cleaned up")

        async def anew() -> None:
            await step(log.write, f"{n}")
            grouped.continue_as_new(n + 1)

        async def inner() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(beside())
                group.create_task(anew())

        if n == 2:
            return n
        match way:
            case "group":
                await inner()
            case "nested":
                async with asyncio.TaskGroup() as group:
                    group.create_task(inner())
            case "gather":
                await asyncio.gather(anew())
            case _:
                await asyncio.create_task(anew())
        return -1

    async with app:
        assert await grouped(0) == 2
    cleaned = way in ("group", "nested")
    assert log.lines == (["0", "0 cleaned up", "1", "1 cleaned up"] if cleaned else ["0", "1"])


def test_it_comes_through_a_group_also_when_crashes_strike_anywhere() -> None:
    app, log = App("anew", url="memory:"), Log()

    @app.workflow(name="grouped")
    async def grouped(n: int) -> int:
        async def beside() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                await step(log.write, "cleaned up")

        async def anew() -> None:
            await step(log.write, f"{n}")
            grouped.continue_as_new(n + 1)

        if n == 2:
            return n
        async with asyncio.TaskGroup() as group:
            group.create_task(beside())
            group.create_task(anew())
        return -1

    assert crash_everywhere(app, grouped, 0) >= 4


async def test_another_error_beside_it_is_not_lost(app: App, log: Log) -> None:
    @app.workflow(name="torn")
    async def torn() -> None:
        async def fails() -> None:
            try:
                await wait_signal("never")
            finally:
                raise ValueError("beside it")

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await step(log.write, "first")
            torn.continue_as_new()

    async with app:
        with pytest.raises(ExceptionGroup) as raised:
            await torn()
        assert "beside it" in str(raised.value.exceptions[0])


async def test_it_is_never_ignored(app: App) -> None:
    @app.workflow(name="careless")
    async def careless(way: str) -> str:
        async def anew() -> None:
            careless.continue_as_new("")

        @fenbu.on_query
        def look() -> None:
            careless.continue_as_new("")

        @fenbu.on_update
        async def renew() -> None:
            await asyncio.gather(anew())

        match way:
            case "background":
                task = asyncio.create_task(anew())
                await asyncio.sleep(0.01)
                return f"{task.done()}"
            case "caught":
                with contextlib.suppress(BaseException):
                    careless.continue_as_new("")
                return "went on"
            case "condition":
                later = asyncio.create_task(asyncio.sleep(0.01))
                await fenbu.wait_until(lambda: later.done() and careless.continue_as_new(""))
            case _:
                await wait_signal("end")
        return "done"

    async with app:
        for way in ("background", "caught"):
            with pytest.raises(UsageError, match="in a task that it did not wait for, or caught"):
                await careless(way)
        with pytest.raises(UsageError, match="not into an update, a query or a condition"):
            await careless("condition")
        handle = await careless.start("asked")
        with pytest.raises(UsageError, match="not into an update, a query or a condition"):
            await handle.update("renew")
        with pytest.raises(UsageError):
            await handle.query("look")
        await handle.signal("end")
        assert await handle.result() == "done"


async def test_nothing_is_forgotten_that_a_saga_would_undo(app: App, log: Log) -> None:
    @app.workflow(name="undoing")
    async def undoing() -> None:
        async def anew() -> None:
            undoing.continue_as_new()

        async with saga() as undo, asyncio.TaskGroup() as group:
            undo(log.write, "undone")
            group.create_task(anew())

    async with app:
        with pytest.raises(UsageError, match="would forget what is to be undone"):
            await undoing()
    assert log.lines == ["undone"]
