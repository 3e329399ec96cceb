"""What stands around code while it is driven, and after it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from fenbu._api.signal import wait_signal
from fenbu._api.step import step
from fenbu._core.model import Kind, Status
from tests.unit.drive import Drive, bodies

LOOPS: list[asyncio.AbstractEventLoop] = []
CLOSED: list[str] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    LOOPS.clear()
    CLOSED.clear()


async def act(number: int) -> int:
    return number


async def workflow(number: int) -> int:
    LOOPS.append(asyncio.get_running_loop())
    number = await step(act, number)
    LOOPS.append(asyncio.get_running_loop())
    return number


async def numbers() -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        CLOSED.append("generator")


async def halfway() -> None:
    async for _ in numbers():
        break
    await step(act, 0)


async def tidies_up() -> None:
    try:
        await wait_signal("go")
    finally:
        asyncio.create_task(act(1))  # noqa: RUF006


async def test_many_calls_are_driven_each_on_its_own_loop_and_the_nodes_is_back_then(
    drive: Drive,
) -> None:
    outer, hooks = asyncio.get_running_loop(), sys.get_asyncgen_hooks()
    drive.register(workflow, Kind.WORKFLOW)
    asked = [bodies(drive.call("workflow", n, id=f"w{n}", waited=True))[0] for n in range(2)]
    assert asyncio.get_running_loop() is outer
    with drive.engine.stage:
        for body in asked:
            drive.completed(body, 5)
    assert asyncio.get_running_loop() is outer
    assert sys.get_asyncgen_hooks() == hooks
    first, second = LOOPS[:2]
    assert len({first, second, outer}) == 3
    assert [first, second, first, second] == LOOPS
    assert {drive.rows[f"w{n}"].status for n in range(2)} == {Status.COMPLETED}


async def test_a_generator_that_is_left_is_closed_there_and_not_by_a_task_outside(
    drive: Drive,
) -> None:
    drive.register(halfway, Kind.WORKFLOW)
    with drive.engine.stage:
        drive.call("halfway", id="w", waited=True)
        assert CLOSED == ["generator"]


async def test_code_that_is_dropped_makes_no_task_on_the_loop_driven_before(drive: Drive) -> None:
    drive.register(tidies_up, Kind.WORKFLOW)
    drive.register(workflow, Kind.WORKFLOW)
    drive.call("tidies_up", id="t", waited=True)
    tasks = asyncio.all_tasks()
    with drive.engine.stage:
        drive.call("workflow", 1, id="w", waited=True)
        driven = LOOPS[-1].tasks  # type: ignore[attr-defined]
        assert len(driven) == 1
        resident = drive.engine.partitions[0].residents["t"]
        resident.suspend(drive.now)  # type: ignore[attr-defined]
        assert len(driven) == 1
    assert asyncio.all_tasks() == tasks
