"""Streams of calls whose node crashes after each commit in turn: no reader notices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fenbu import App, UsageError, step, stream
from fenbu.testing import crash_everywhere
from tests.scenario.crash import Fault, crash_after_each_commit

pytestmark = pytest.mark.timeout(120)


def program_of(app: App) -> Any:
    async def body(count: int) -> None:
        out = stream("n", str)
        for number in range(count):
            await out.write(f"body {number}")

    @app.task
    async def task(count: int) -> None:
        out = stream("n", str)
        for number in range(len(await out.resume()), count):
            await out.write(f"task {number}")

    @app.workflow
    async def program(count: int) -> list[str]:
        out = stream("n", str)
        await out.write("begins")
        await step(body, count)
        await out.write("goes on")
        child = task.options(id="child")
        await child(count)
        found = await step(tell)
        await out.write("ends")
        return found

    async def tell() -> list[str]:
        return [each async for each in task.handle("child").stream("n", str)]

    return program


@pytest.mark.guarantee("stream-once")
def test_a_crash_anywhere_is_not_seen_by_readers() -> None:
    app = App("crashing", url="memory:")
    program = program_of(app)

    async def scenario() -> Any:
        handle = await program.options(id="p").start(3)
        seen = [each async for each in handle.stream("n", str)]
        return seen, await handle.result()

    assert crash_everywhere(app, scenario) >= 8


@pytest.mark.guarantee("stream-once")
@pytest.mark.parametrize("fault", Fault)
async def test_the_same_on_every_disk(fault: Fault, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        app = App("crashing", url="memory:")
        program = program_of(app)
        seen: list[Any] = []

        async def scenario(program: Any = program, seen: list[Any] = seen) -> None:
            handle = await program.options(id="p").start(2)
            seen.append([each async for each in handle.stream("n", str)])

        assert await crash_after_each_commit(app, scenario, folder, fault=fault) >= 6
        expected = ["begins", "body 0", "body 1", "goes on", "ends"]
        assert seen == [expected] * len(seen)


def test_a_closed_stream_stays_closed_wherever_the_process_dies() -> None:
    app = App("crashing", url="memory:")

    async def late() -> None:
        await stream("n", str).write("step")

    @app.workflow
    async def program() -> list[str]:
        out, refused = stream("n", str), list[str]()
        await out.write("code")
        await out.close()
        await asyncio.sleep(1)
        for attempt in (lambda: out.write("late"), lambda: step(late)):
            try:
                await attempt()
            except UsageError as error:
                refused.append(str(error).split("closed ")[1][:9])
            await asyncio.sleep(1)
        return refused

    async def scenario() -> None:
        handle = await program.options(id="p").start()
        assert await handle.result() == ["already", "by the co"]
        assert [value async for value in handle.stream("n", str)] == ["code"]

    assert crash_everywhere(app, scenario) >= 4
