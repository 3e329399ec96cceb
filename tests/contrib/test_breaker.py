"""What does not answer is left alone for a while."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App, CallCancelled, step
from fenbu.contrib import CircuitBreaker, CircuitOpen
from fenbu.testing import crash_everywhere, run


class Service:
    def __init__(self) -> None:
        self.works = True
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if not self.works:
            raise ConnectionError("down")
        return "ok"


@pytest.fixture
def service() -> Service:
    return Service()


def made(service: Service):
    app = App("breaker", url="memory:")
    breaker = CircuitBreaker(app, failures=3, reset_seconds=60)

    @app.workflow(name="ask")
    async def ask() -> str:
        async with breaker.guard("bank"):
            return await step(service.ask)

    return app, breaker, ask


async def outcome(call) -> str:
    try:
        return await call
    except (ConnectionError, CircuitOpen) as error:
        return type(error).__name__


def test_it_opens_after_failures_in_a_row_and_one_tries_again(service: Service) -> None:
    app, _, ask = made(service)

    async def scenario() -> None:
        service.works = False
        assert [await outcome(ask()) for _ in range(2)] == ["ConnectionError"] * 2
        service.works = True
        assert await outcome(ask()) == "ok"  # Not in a row.
        service.works = False
        assert [await outcome(ask()) for _ in range(5)] == ["ConnectionError"] * 3 + [
            "CircuitOpen"
        ] * 2
        asked = service.asked
        await asyncio.sleep(61)
        # One is let through, the others are not.
        assert sorted(await asyncio.gather(*(outcome(ask()) for _ in range(3)))) == [
            "CircuitOpen", "CircuitOpen", "ConnectionError",
        ]  # fmt: skip
        assert service.asked == asked + 1
        service.works = True
        assert await outcome(ask()) == "CircuitOpen"
        await asyncio.sleep(61)
        assert [await outcome(ask()) for _ in range(3)] == ["ok"] * 3

    run(app, scenario)


def test_a_cancellation_says_nothing(service: Service) -> None:
    app, breaker, ask = made(service)

    @app.workflow(name="hangs")
    async def hangs() -> None:
        async with breaker.guard("bank"):
            await asyncio.sleep(1_000)

    async def scenario() -> None:
        for _ in range(4):
            handle = await hangs.start()
            await asyncio.sleep(1)
            await handle.cancel()
            with pytest.raises(CallCancelled):
                await handle.result()
        assert await outcome(ask()) == "ok"

    run(app, scenario)


def test_it_survives_crashes_anywhere(service: Service) -> None:
    app, _, ask = made(service)
    service.works = False

    async def scenario() -> list[str]:
        return [await outcome(ask.options(id=f"a{n}")()) for n in range(5)]

    assert crash_everywhere(app, scenario) >= 5
