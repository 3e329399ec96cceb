"""All calls that fulfil a condition are told something at once."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App, CallCancelled, Entity, Handle, Status, UsageError, wait_signal
from fenbu._core import limit
from fenbu._core.message import Cancel, Retry

pytestmark = pytest.mark.timeout(60)


async def settled(handles: list[Handle[int]], status: Status) -> None:
    async with asyncio.timeout(20):
        for each in handles:
            while await each.status() is not status:
                await asyncio.sleep(0)


async def test_cancelled_and_paused_and_resumed_by_a_condition(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "BULK_CALLS", 3)

    @app.workflow
    async def flow(number: int) -> int:
        await wait_signal("go")
        return number

    @app.entity
    class Stock(Entity):
        async def wait(self) -> None:
            await wait_signal("go")

    async with app:
        handles = [
            await flow.options(attributes={"group": number % 2}).start(number)
            for number in range(10)
        ]
        operation = await Stock("s").wait.start()
        await settled(handles, Status.SUSPENDED)
        told: list[int] = []
        where = [("group", "=", 0)]
        count = await app.steer_calls("pause", where=where, progress=told.append)
        assert (count, told[-1]) == (5, 5)
        assert len(told) > 1
        await settled(handles[::2], Status.PAUSED)
        await settled(handles[1::2], Status.SUSPENDED)
        assert await app.steer_calls("resume", where=[("group", "=", 1)]) == 0
        assert await app.steer_calls("resume", handler=flow.name) == 5
        await settled(handles, Status.SUSPENDED)
        # An operation cannot be paused.
        assert await app.steer_calls("pause", reason="all") == 10
        await settled(handles, Status.PAUSED)
        assert await app.steer_calls("resume") == 10
        for each in handles[1:]:
            await each.signal("go")
        assert [await each.result(20) for each in handles[1:]] == list(range(1, 10))
        assert await app.steer_calls("cancel", handler=flow.name) == 1
        with pytest.raises(CallCancelled):
            await handles[0].result(20)
        await operation.signal("go")
        await operation.result(20)


async def test_failed_calls_are_tried_again(app: App) -> None:
    broken = True

    @app.task
    async def work(number: int) -> int:
        if broken:
            raise ValueError("not yet")
        return number

    async with app:
        handles = await work.start_many((number,) for number in range(5))
        await settled(handles, Status.FAILED)
        broken = False
        assert await app.steer_calls("retry", handler=work.name) == 5
        async with asyncio.timeout(20):
            for number, each in enumerate(handles):
                while await each.status() is not Status.COMPLETED:
                    await asyncio.sleep(0)
                assert await each.result() == number
        assert await app.steer_calls("retry") == 0


async def test_what_was_parked_and_has_ended_since_is_not_tried_again(app: App) -> None:
    @app.workflow
    async def hopeless() -> None:
        await asyncio.Event().wait()

    async with app:
        handles = [await hopeless.start() for _ in range(2)]
        await settled(handles, Status.STUCK)
        gateway = app.runtime.gateway
        places = await gateway.storage.outcomes([each.id for each in handles])
        # Of each of the two, somebody else's cancellation comes first.
        messages = [
            message
            for id_, place in places.items()
            for message in (
                Cancel(place.partition, id_, "meanwhile"),
                Retry(place.partition, id_, parked=id_ == handles[0].id),
            )
        ]
        await gateway.send_many(messages)
        await settled(handles[:1], Status.CANCELLED)
        async with asyncio.timeout(20):
            while (loaded := await gateway.load(handles[1].id)) is None or (
                loaded.invocation.attempt == 0
            ):
                await asyncio.sleep(0)
        await settled(handles[1:], Status.STUCK)
        assert await handles[0].status() is Status.CANCELLED


async def test_what_makes_no_sense(app: App) -> None:
    @app.workflow
    async def steers() -> None:
        await app.steer_calls("cancel")

    async with app:
        with pytest.raises(UsageError, match="action must be one of cancel, terminate, retry"):
            await app.steer_calls("stop")  # pyright: ignore[reportArgumentType]
        with pytest.raises(UsageError, match="step is for fork: cancel is about whole calls"):
            await app.steer_calls("cancel", step="charge")
        with pytest.raises(UsageError, match="reason is for cancel, terminate and pause"):
            await app.steer_calls("retry", reason="why not")
        with pytest.raises(UsageError, match="resume is for calls that are paused"):
            await app.steer_calls("resume", statuses=[Status.COMPLETED])
        with pytest.raises(UsageError, match="ask for it in a step"):
            await steers()
