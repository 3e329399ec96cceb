"""Pauses, RetryLater, limits of time and bulk forks end the same wherever a node crashes."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import (
    App,
    CallNotFound,
    CallTimedOut,
    Handle,
    Retry,
    RetryLater,
    SoftTimeout,
    Status,
    step,
    wait_signal,
)
from fenbu.testing import crash_everywhere

pytestmark = [pytest.mark.timeout(60), pytest.mark.guarantee("replay-same")]


async def one_of(handle: Handle[int], *statuses: Status) -> None:
    while await handle.status() not in statuses:
        await asyncio.sleep(1)


def test_a_paused_workflow_goes_on_where_it_stood() -> None:
    app = App("paused", url="memory:")

    async def work(number: int) -> int:
        await asyncio.sleep(1)
        return number

    @app.workflow
    async def flow() -> list[int]:
        found = [await step(work, number) for number in range(3)]
        return [*found, await wait_signal("more", int)]

    async def scenario() -> list[int]:
        handle = await flow.options(id="f").start()
        await asyncio.sleep(1.5)
        await handle.pause("the bank is closed")
        await one_of(handle, Status.PAUSED, Status.COMPLETED)
        await handle.signal("more", 7)
        await asyncio.sleep(10)
        await handle.resume()
        return await handle.result()

    assert crash_everywhere(app, scenario) >= 4


def test_a_paused_task_begins_again() -> None:
    app = App("paused", url="memory:")

    @app.task
    async def work() -> str:
        await asyncio.sleep(5)
        return "done"

    async def scenario() -> str:
        handle = await work.options(id="w").start()
        await asyncio.sleep(1)
        await handle.pause()
        await one_of(handle, Status.PAUSED, Status.COMPLETED)
        await asyncio.sleep(100)
        await handle.resume()
        return await handle.result()

    assert crash_everywhere(app, scenario) >= 3


def test_what_is_to_run_again_later_does() -> None:
    app = App("later", url="memory:")
    # What is outside does not go when a node does; each scenario brings it back to its beginning.
    looks: list[float] = []

    async def ready() -> str:
        looks.append(asyncio.get_running_loop().time())
        if looks[-1] - looks[0] < 50:
            raise RetryLater(after=20)
        return "report"

    @app.task(retry=Retry(attempts=1))
    async def report() -> str:
        return await ready()

    @app.workflow
    async def publish() -> list[str]:
        first = await step.options(retry=Retry(attempts=1))(ready)
        return [first, await report()]

    async def scenario() -> list[str]:
        looks.clear()
        return await publish.options(id="p")()

    assert crash_everywhere(app, scenario) >= 4
    assert len(looks) >= 2


@pytest.mark.parametrize("saves", [True, False])
def test_limits_of_time(saves: bool) -> None:
    app = App("limits", url="memory:")

    async def slow() -> str:
        try:
            await asyncio.sleep(3600)
        except SoftTimeout:
            if saves:
                return "what it has"
            raise
        return "all"

    @app.task(soft_timeout=10, attempt_timeout=20, retry=Retry(attempts=2, first_seconds=5))
    async def limited() -> str:
        return await slow()

    @app.workflow(timeout=300)
    async def flow() -> list[str]:
        try:
            found = await limited()
        except CallTimedOut:
            found = "out of time"
        try:
            await step.options(timeout=5)(slow)
        except CallTimedOut:
            return [found, "step out of time"]
        return [found, "never"]

    async def scenario() -> list[str]:
        found = await flow.options(id="f")()
        assert found == ["what it has" if saves else "out of time", "step out of time"]
        return found

    assert crash_everywhere(app, scenario) >= 4


def test_a_bulk_fork_that_is_cut_off_is_done_again() -> None:
    app = App("bulk", url="memory:")

    async def charge(number: int) -> int:
        raise ValueError("no money")

    @app.workflow(name="checkout")
    async def checkout(number: int) -> int:
        try:
            return await step(charge, number)
        except ValueError:
            if await wait_signal("patience", bool):
                raise
            return -1

    async def scenario() -> list[str]:
        handles = [await checkout.options(id=f"c{number}").start(number) for number in range(3)]
        # A signal that comes before the step has failed would go with the fork.
        await asyncio.sleep(5)
        for each in handles:
            await each.signal("patience", value=True)
            await one_of(each, Status.FAILED)
        await app.steer_calls("fork", handler="checkout")
        forks = [checkout.handle(f"{each.id}/fork-1") for each in handles]
        for each in forks:
            while True:
                try:
                    await one_of(each, Status.SUSPENDED, Status.RUNNING, Status.COMPLETED)
                    break
                except CallNotFound:
                    await asyncio.sleep(1)
            await each.signal("patience", value=False)
            assert await each.result() == -1
        return sorted(each.id for each in (await app.list_calls()).calls)

    assert crash_everywhere(app, scenario) >= 4
