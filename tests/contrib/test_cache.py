"""A value is fetched once, however many ask, and kept for a while."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App, Retry
from fenbu.contrib import Cache
from fenbu.testing import crash_everywhere, run


class Source:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failures = 0

    async def load(self, key: str) -> str:
        self.asked.append(key)
        await asyncio.sleep(1)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("not now")
        return f"{key}-{self.asked.count(key)}"


@pytest.fixture
def source() -> Source:
    return Source()


def test_it_is_fetched_once_and_again_when_it_is_too_old(source: Source) -> None:
    app = App("cached", url="memory:")
    cache = Cache(app, "rates", source.load, ttl_seconds=60)

    async def scenario() -> None:
        assert await asyncio.gather(*(cache.get("EUR") for _ in range(5))) == ["EUR-1"] * 5
        assert await cache.get("USD") == "USD-1"
        await asyncio.sleep(30)
        assert await cache.get("EUR") == "EUR-1"
        await asyncio.sleep(40)
        assert await cache.get("EUR") == "EUR-2"
        await cache.forget("EUR")
        assert await cache.get("EUR") == "EUR-3"
        assert source.asked == ["EUR", "USD", "EUR", "EUR"]

    run(app, scenario)


def test_an_error_is_everybodys_own_and_is_not_kept(source: Source) -> None:
    app = App("cached", url="memory:")
    cache = Cache(app, "rates", source.load, ttl_seconds=60)
    patient = Cache(
        app, "patient", source.load, ttl_seconds=60, retry=Retry(attempts=3, first_seconds=1)
    )

    async def scenario() -> None:
        source.failures = 1
        with pytest.raises(ConnectionError):
            await cache.get("EUR")
        assert await cache.get("EUR") == "EUR-2"
        source.failures = 2
        assert await patient.get("GBP") == "GBP-3"

    run(app, scenario)


def test_it_survives_crashes_anywhere() -> None:
    app = App("cached", url="memory:")

    async def load(key: str) -> str:
        return key.lower()

    cache = Cache(app, "rates", load, ttl_seconds=5)

    @app.workflow
    async def asks() -> list[str]:
        first = await cache.get("EUR")
        await asyncio.sleep(20)
        return [first, await cache.get("EUR")]

    assert crash_everywhere(app, asks) >= 3
