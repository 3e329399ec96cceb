"""What is ready to use, on each storage: in workflows and in clients."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest

from fenbu import App, CallCancelled, Retry, step
from fenbu.contrib import (
    Cache,
    CircuitBreaker,
    CircuitOpen,
    Leader,
    Mutex,
    Outbox,
    RateLimited,
    RateLimiter,
    Semaphore,
    Webhook,
)
from tests.fixture.receiver import receiver

pytestmark = pytest.mark.timeout(60)


class Room:
    """Counts who is in it."""

    def __init__(self) -> None:
        self.inside = self.most = self.visits = 0

    async def visit(self) -> None:
        self.inside += 1
        self.visits += 1
        self.most = max(self.most, self.inside)
        # As long as others need to come in, if they may.
        for _ in range(20):
            await asyncio.sleep(0)
        self.inside -= 1


@pytest.mark.parametrize("permits", [1, 3])
async def test_so_many_hold_a_permit_at_a_time(app: App, permits: int) -> None:
    lock, room = Semaphore(app, "lock", permits=permits, lease_seconds=None), Room()

    @app.workflow
    async def visit() -> int:
        async with lock.hold("room") as number:
            await step(room.visit)
            return number

    async with app:
        numbers = await asyncio.gather(*(visit() for _ in range(8)))
        async with lock.hold("room") as last:
            await room.visit()
    assert sorted(numbers) == list(range(1, 9))
    assert last == 9
    assert room.visits == 9
    assert 1 <= room.most <= permits


async def test_a_client_that_gives_up_leaves_the_queue(app: App) -> None:
    mutex = Mutex(app, lease_seconds=None)
    async with app:
        first = await mutex.acquire()
        waiting = asyncio.create_task(mutex.acquire())
        queue = mutex._permits("-")
        async for seen in app.watch(queue):
            if seen is not None and seen.state.queue:
                break
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert await mutex.release(first)
        assert await mutex.acquire() > first


@pytest.mark.parametrize("turns", range(0, 48, 3))
async def test_wherever_a_client_gives_up_others_get_the_permit(app: App, turns: int) -> None:
    """Before it has asked, while it asks, while it waits, or when it has got it and does not know."""
    mutex = Mutex(app, lease_seconds=None)
    async with app:
        for held in (True, False):
            first = await mutex.acquire() if held else 0
            waiting = asyncio.create_task(mutex.acquire())
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            got = (await asyncio.gather(waiting, return_exceptions=True))[0]
            if isinstance(got, int):
                assert await mutex.release(got)
            if held:
                assert await mutex.release(first)
            last = await mutex.acquire()
            assert last > first
            assert await mutex.release(last)


@pytest.mark.parametrize("turns", range(0, 48, 3))
async def test_wherever_a_workflow_gives_up_others_get_the_permit(app: App, turns: int) -> None:
    mutex = Mutex(app, lease_seconds=None)

    @app.workflow
    async def visit() -> None:
        async with mutex.hold():
            pass

    async with app:
        first = await mutex.acquire()
        waiting = await visit.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await waiting.cancel()
        with pytest.raises(CallCancelled):
            await waiting.result()
        assert await mutex.release(first)
        assert await mutex.acquire() > first


async def test_a_lease_that_is_not_renewed_ends(app: App) -> None:
    mutex = Mutex(app, lease_seconds=1)
    async with app:
        lost = await mutex.acquire("a")
        other = await mutex.acquire("a")
        assert other > lost
        assert not await mutex.renew(lost, "a")
        assert await mutex.renew(other, "a")


async def test_a_value_is_fetched_once_and_again_when_it_is_forgotten(app: App) -> None:
    asked: list[str] = []

    async def load(key: str) -> str:
        asked.append(key)
        return f"{key}-{asked.count(key)}"

    cache = Cache(app, "rates", load, ttl_seconds=3600)

    @app.workflow
    async def asks() -> str:
        return await cache.get("EUR")

    async with app:
        got = await asyncio.gather(*(asks() for _ in range(5)), cache.get("EUR"), cache.get("USD"))
        assert got == ["EUR-1"] * 6 + ["USD-1"]
        await cache.forget("EUR")
        assert await cache.get("EUR") == "EUR-2"
    assert sorted(asked) == ["EUR", "EUR", "USD"]


async def test_a_burst_passes_and_who_does_not_want_to_wait_fails(app: App) -> None:
    limiter = RateLimiter(app, per_second=0.001, burst=2)

    @app.workflow
    async def passes() -> str:
        await limiter.turn("a", max_wait_seconds=5)
        return "passed"

    async with app:
        found = await asyncio.gather(*(passes() for _ in range(3)), return_exceptions=True)
        assert [each for each in found if isinstance(each, str)] == ["passed"] * 2
        assert sum(isinstance(each, RateLimited) for each in found) == 1
        await limiter.turn("b")


async def test_what_has_failed_too_often_is_not_tried(app: App) -> None:
    breaker, tried = CircuitBreaker(app, failures=2, reset_seconds=3600), 0

    async def charge() -> None:
        nonlocal tried
        tried += 1
        raise ConnectionError("down")

    @app.workflow
    async def pay() -> None:
        async with breaker.guard("bank"):
            await step.options(retry=Retry(attempts=1))(charge)

    async with app:
        for error in (ConnectionError, ConnectionError, CircuitOpen):
            with pytest.raises(error):
                await pay()
        async with breaker.guard("other"):
            pass
    assert tried == 2


async def test_one_leads_after_the_other(app: App) -> None:
    leader, leading, led = Leader(app, lease_seconds=15), 0, list[int]()

    async def work(number: int) -> None:
        nonlocal leading
        leading += 1
        assert leading == 1
        for _ in range(20):
            await asyncio.sleep(0)
        leading -= 1
        led.append(number)

    async with app:
        await asyncio.gather(*(leader.run(work) for _ in range(3)))
    assert led == [1, 2, 3]


async def test_a_webhook_of_a_workflow_arrives_after_failures(app: App) -> None:
    outbox = Outbox(
        app, retry=Retry(attempts=5, first_seconds=0.01, max_seconds=0.1), secret=b"not a secret"
    )

    @app.workflow
    async def order(url: str, number: int) -> int:
        return await outbox.send(Webhook(url, {"id": number}))

    with receiver((500, {}), (503, {"retry-after": "0"})) as server:
        async with app:
            assert await order(server.url, 7) == 204
    assert [json.loads(body) for _, body in server.got] == [{"id": 7}] * 3
    assert len({headers["webhook-id"] for headers, _ in server.got}) == 1
