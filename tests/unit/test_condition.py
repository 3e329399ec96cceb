"""`wait_until`: conditions over what a workflow has in its variables."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import UsageError, now, wait_signal, wait_until
from fenbu._core.message import Signal
from fenbu._core.model import Kind, Status
from tests.unit.drive import Drive


@pytest.fixture
def drive() -> Drive:
    return Drive()


async def collects(price: int) -> list[int]:
    paid: list[int] = []

    async def collect() -> None:
        while True:
            paid.append(await wait_signal("n", int))

    collecting = asyncio.create_task(collect())
    await wait_until(lambda: sum(paid) >= price)
    collecting.cancel()
    return paid


def pay(drive: Drive, cents: int) -> None:
    drive.message(Signal(0, "a", "n", str(cents)))


@pytest.mark.guarantee("replay-same")
def test_a_condition_is_looked_at_after_everything_that_happens(drive: Drive) -> None:
    drive.register(collects, Kind.WORKFLOW)
    drive.call("collects", 10, id="a")
    pay(drive, 4)
    assert drive.rows["a"].finished_at is None
    drive.start()
    drive.load_ready("a")
    pay(drive, 5)
    pay(drive, 3)
    assert drive.rows["a"].result == "[4,5,3]"


def test_what_holds_already_waits_for_nothing(drive: Drive) -> None:
    drive.register(collects, Kind.WORKFLOW)
    drive.call("collects", 0, id="a")
    assert drive.rows["a"].result == "[]"


def test_one_condition_lets_another_hold(drive: Drive) -> None:
    async def chain() -> list[int]:
        seen: list[int] = []

        async def after(n: int) -> None:
            await wait_until(lambda: len(seen) == n)
            seen.append(n)

        async with asyncio.TaskGroup() as group:
            for n in (2, 1, 0):
                group.create_task(after(n))
        return seen

    drive.register(chain, Kind.WORKFLOW)
    drive.call("chain", id="a")
    assert drive.rows["a"].result == "[0,1,2]"


def test_it_can_be_given_up_and_can_fail(drive: Drive) -> None:
    async def impatient() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await wait_until(lambda: False)
        calm = now()
        with pytest.raises(ZeroDivisionError):
            # The time in a condition is that of the workflow.
            await wait_until(lambda: now() > calm and 1 / 0)
        return "ok"

    async def wake() -> None:
        await asyncio.sleep(1)

    async def both() -> str:
        task = asyncio.create_task(impatient())
        while not task.done():
            await wake()
        return await task

    drive.register(both, Kind.WORKFLOW)
    drive.call("both", id="a")
    for _ in range(10):
        drive.tick(1.0)
    assert drive.rows["a"].result == '"ok"'


def test_a_condition_that_nothing_can_change_is_stuck_and_explained(drive: Drive) -> None:
    async def hopeless() -> None:
        await wait_until(lambda: False)

    drive.register(hopeless, Kind.WORKFLOW)
    drive.call("hopeless", id="a")
    assert drive.rows["a"].status is Status.STUCK


def test_it_belongs_into_workflow_code() -> None:
    with pytest.raises(UsageError, match=r"wait_until\(\) belongs into the code of a workflow"):
        asyncio.run(wait_until(lambda: True))
