"""Permits are held by so many at a time, under faults and whatever crashes."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App, CallCancelled, Unavailable, step
from fenbu.contrib import Mutex, Semaphore
from fenbu.testing import crash_everywhere, run, simulate


class Room:
    """Counts who is in it."""

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self.most = 0
        self.order: list[str] = []

    def enter(self, who: str) -> None:
        self.inside.add(who)
        self.most = max(self.most, len(self.inside))
        self.order.append(who)

    def leave(self, who: str) -> None:
        self.inside.discard(who)


def service(permits: int = 1, lease_seconds: float | None = None) -> tuple[App, Semaphore, Room]:
    app, room = App("locks", url="memory:"), Room()
    lock = Semaphore(app, "lock", permits=permits, lease_seconds=lease_seconds)

    async def work(who: str) -> None:
        room.enter(who)
        await asyncio.sleep(0.5)
        room.leave(who)

    @app.workflow(name="visit")
    async def visit(who: str) -> int:
        async with lock.hold("room") as number:
            await step(work, who)
            return number

    app.visit = visit  # type: ignore[attr-defined]
    return app, lock, room


@pytest.mark.parametrize("permits", [1, 2])
def test_no_more_than_so_many_hold_it_and_all_get_their_turn(permits: int) -> None:
    app, _, room = service(permits)

    async def scenario() -> list[int]:
        handles = [await app.visit.options(id=f"v{n}").start(f"v{n}") for n in range(6)]
        return [await each.result() for each in handles]

    assert sorted(run(app, scenario)) == [1, 2, 3, 4, 5, 6]
    assert room.most == permits
    assert sorted(room.order) == [f"v{n}" for n in range(6)]


def test_it_survives_crashes_anywhere() -> None:
    app, _, room = service()

    async def scenario() -> list[int]:
        handles = [await app.visit.options(id=f"v{n}").start(f"v{n}") for n in range(2)]
        return sorted([await each.result() for each in handles])

    assert crash_everywhere(app, scenario) >= 4
    assert room.inside == set()


def test_it_holds_under_faults() -> None:
    app, lock, _ = service()
    holds: list[str] = []

    @app.task(name="enter")
    async def enter(who: str) -> None:
        holds.append(who)

    @app.workflow(name="pass_by")
    async def pass_by(who: str) -> int:
        async with lock.hold("room") as number:
            await enter(f"+{who}")
            await asyncio.sleep(0.2)
            await enter(f"-{who}")
            return number

    async def patient(who: str) -> int:
        while True:
            try:
                return await pass_by.options(id=who)(who)
            except Unavailable:
                await asyncio.sleep(1)

    async def scenario() -> None:
        holds.clear()
        numbers = await asyncio.gather(*(patient(f"p{n}") for n in range(4)))
        assert len(set(numbers)) == 4
        # A task may run twice: what counts is that none begins while another one is inside.
        seen = list(dict.fromkeys(holds))
        for first, second in zip(seen[::2], seen[1::2], strict=True):
            assert (first[0], second) == ("+", f"-{first[1:]}"), holds

    simulate(app, scenario, seeds=40)


def test_who_is_cancelled_while_he_waits_or_holds_gives_it_back() -> None:
    app, lock, _ = service()

    @app.workflow(name="stay")
    async def stay() -> None:
        async with lock.hold("room"):
            await asyncio.sleep(1_000)

    async def scenario() -> int:
        first = await stay.start()
        await asyncio.sleep(1)
        second = await stay.start()
        await asyncio.sleep(1)
        for each in (second, first):
            await each.cancel()
            with pytest.raises(CallCancelled):
                await each.result()
        third = await stay.start()
        await asyncio.sleep(1)
        await third.cancel()
        return await lock.acquire("room")

    assert run(app, scenario) <= 5


def test_a_permit_is_taken_from_who_has_vanished() -> None:
    app, lock, _ = service(lease_seconds=30)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        lost = await lock.acquire("room")
        begin = loop.time()
        for _ in range(3):
            await asyncio.sleep(20)
            assert await lock.renew(lost, "room")
        other = await lock.acquire("room")
        assert loop.time() - begin >= 89
        assert other > lost
        assert not await lock.renew(lost, "room")
        assert not await lock.release(lost, "room")
        assert await lock.release(other, "room")
        # Keys are independent of each other.
        await lock.acquire("attic")
        await lock.acquire("cellar")

    run(app, scenario)


def test_a_client_that_loses_patience_leaves_the_queue() -> None:
    app, lock, _ = service()

    async def scenario() -> None:
        first = await lock.acquire("room")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await lock.acquire("room")
        await lock.release(first, "room")
        async with asyncio.timeout(5):
            await lock.acquire("room")

    run(app, scenario)


def test_a_mutex_has_one_permit() -> None:
    app = App("mutex", url="memory:")
    mutex = Mutex(app, lease_seconds=None)

    async def scenario() -> list[int]:
        async with mutex.hold() as first:
            pass
        async with mutex.hold() as second:
            pass
        return [first, second]

    assert run(app, scenario) == [1, 2]
