"""So many per second, in bursts of so many."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App, Unavailable
from fenbu.contrib import RateLimited, RateLimiter
from fenbu.testing import crash_everywhere, run, simulate


def test_a_burst_passes_at_once_and_the_rest_at_the_rate() -> None:
    app = App("rates", url="memory:")
    limiter = RateLimiter(app, per_second=2, burst=3)

    @app.workflow
    async def passes(n: int) -> float:
        await limiter.turn("a")
        return asyncio.get_running_loop().time()

    async def scenario() -> list[float]:
        handles = [await passes.start(n) for n in range(7)]
        times = sorted([await each.result() for each in handles])
        return [each - times[0] for each in times]

    assert run(app, scenario) == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5, 2.0], abs=0.05)


def test_who_does_not_want_to_wait_takes_no_place() -> None:
    app = App("rates", url="memory:")
    limiter = RateLimiter(app, per_second=0.1)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await limiter.turn("a")
        for _ in range(3):
            with pytest.raises(RateLimited, match="later than in 5 s"):
                await limiter.turn("a", max_wait_seconds=5)
        await limiter.turn("b", max_wait_seconds=0)
        await limiter.turn("a", max_wait_seconds=11)
        assert loop.time() - begin == pytest.approx(10, abs=0.2)
        await asyncio.sleep(1_000)
        begin = loop.time()
        await limiter.turn("a")
        assert loop.time() - begin < 1  # A long pause saves up a burst, and no more.
        await limiter.turn("a", count=2)
        assert loop.time() - begin == pytest.approx(20, abs=0.2)

    run(app, scenario)


def test_a_crash_takes_no_second_place() -> None:
    app = App("rates", url="memory:")
    limiter = RateLimiter(app, per_second=1)

    @app.workflow
    async def passes() -> None:
        for _ in range(3):
            await limiter.turn("a")

    assert crash_everywhere(app, passes) >= 3


def test_it_holds_under_faults() -> None:
    app = App("rates", url="memory:")
    limiter = RateLimiter(app, per_second=1)

    @app.workflow
    async def passes(n: int) -> int:
        await limiter.turn("a")
        return n

    async def patient(n: int) -> int:
        while True:
            try:
                return await passes.options(id=f"p{n}")(n)
            except Unavailable:
                await asyncio.sleep(1)

    async def scenario() -> None:
        assert await asyncio.gather(*map(patient, range(5))) == [0, 1, 2, 3, 4]

    simulate(app, scenario, seeds=30)
