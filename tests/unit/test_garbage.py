"""What leaves memory is gone at once: the garbage collector looks at a node's old objects hardly ever."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from fenbu import step, wait_signal, wait_until
from fenbu._core.activation import Activation
from fenbu._core.loop import DeterministicLoop
from fenbu._core.model import Kind, Status
from tests.unit.drive import Drive, bodies

HOUR = 3600.0


@pytest.fixture
def drive() -> Drive:
    return Drive()


async def double(x: int) -> int:
    return 2 * x


async def waits_for_a_signal() -> None:
    await wait_signal("go")


async def sleeps() -> None:
    await asyncio.sleep(HOUR)


async def waits_in_time() -> None:
    async with asyncio.timeout(HOUR):
        await wait_signal("go")


async def waits_for_it() -> None:
    await asyncio.wait_for(wait_signal("go"), HOUR)


async def waits_for_one_of_them() -> None:
    tasks = [asyncio.create_task(wait_signal(name)) for name in ("a", "b")]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def waits_for_all_of_them() -> None:
    await asyncio.gather(asyncio.sleep(HOUR), wait_signal("go"))


async def waits_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(HOUR))
        group.create_task(waits_in_time())


async def waits_behind_a_shield() -> None:
    await asyncio.shield(asyncio.create_task(wait_signal("go")))


async def waits_for_a_condition() -> None:
    waiting = asyncio.create_task(wait_signal("go"))
    await wait_until(waiting.done)


async def cleans_up() -> None:
    try:
        await wait_signal("go")
    finally:
        await step(double, 1)


async def three(x: int) -> int:
    for _ in range(3):
        x = await step(double, x)
    return x


@contextmanager
def nothing_left() -> Iterator[None]:
    """What is made of these inside is gone by the end, without the collector."""

    def alive() -> int:
        kinds = (Activation, DeterministicLoop, asyncio.Future)
        return sum(isinstance(each, kinds) for each in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        yield
        assert alive() == before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "waits",
    [
        waits_for_a_signal, sleeps, waits_in_time, waits_for_it, waits_for_one_of_them,
        waits_for_all_of_them, waits_in_a_group, waits_behind_a_shield, waits_for_a_condition, cleans_up,
    ],
    ids=lambda each: str(each.__name__),
)  # fmt: skip
def test_a_call_that_is_suspended(drive: Drive, waits: Callable[[], Awaitable[None]]) -> None:
    drive.register(waits, Kind.WORKFLOW)
    with nothing_left():
        drive.call(waits.__name__, id="a")
        assert drive.rows["a"].status is Status.RUNNING
        drive.tick(60.0)
        assert drive.rows["a"].status is Status.SUSPENDED


@pytest.mark.parametrize("ends", [Status.COMPLETED, Status.FAILED])
def test_a_call_that_has_ended(drive: Drive, ends: Status) -> None:
    drive.register(three, Kind.WORKFLOW)
    with nothing_left():
        effects = drive.call("three", 1, id="a")
        for value in (2, 4):
            effects = drive.completed(bodies(effects)[0], value)
        if ends is Status.COMPLETED:
            drive.completed(bodies(effects)[0], 8)
        else:
            drive.failed(bodies(effects)[0], ValueError("no"))
        del effects
        assert drive.rows["a"].status is ends
