"""What becomes of the other resources if one does not close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from fenbu import INJECTED, App, Resource
from fenbu._core.need import Needed
from fenbu._node.resource import Resources

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


async def settings() -> AsyncIterator[str]:
    yield "settings"
    log.append("close settings")


def cache() -> Iterator[str]:
    yield "cache"
    log.append("close cache")


async def outer() -> AsyncIterator[str]:
    yield "outer"
    log.append("close outer")


async def failing() -> AsyncIterator[str]:
    yield "failing"
    raise OSError("did not close")


async def failing_too() -> AsyncIterator[str]:
    yield "failing too"
    raise asyncio.CancelledError


async def test_one_that_does_not_close_keeps_no_other_from_it(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    async def use(
        s: Annotated[str, Resource(settings)] = INJECTED,
        a: Annotated[str, Resource(outer)] = INJECTED,
        b: Annotated[str, Resource(failing)] = INJECTED,
        c: Annotated[str, Resource(cache)] = INJECTED,
        d: Annotated[str, Resource(failing_too)] = INJECTED,
        e: Annotated[str, Resource(failing)] = INJECTED,
    ) -> str:
        return s + a + b + c + d + e

    caplog.set_level(logging.WARNING, "fenbu")
    async with app:
        assert (await use()).startswith("settings")
    assert log[-3:] == ["close cache", "close outer", "close settings"]
    warnings = [each.getMessage() for each in caplog.records if "closed" in each.getMessage()]
    assert warnings == [
        "Resource(failing_too) could not be closed: it was cancelled",
        "Resource(failing) could not be closed: did not close",
    ]


async def slow() -> AsyncIterator[str]:
    yield "slow"
    log.append("closing")
    await asyncio.Event().wait()


async def test_who_does_not_wait_for_one_still_closes_the_others() -> None:
    needs = (
        Needed("a", 0, Resource(settings)),
        Needed("b", 1, Resource(slow)),
    )
    resources = Resources({})
    with ThreadPoolExecutor(1) as threads:
        body: Any = SimpleNamespace(args=(), kwargs={}, needs=needs)
        assert await resources.fill_in(body, threads) == {"a": "settings", "b": "slow"}
    closing = asyncio.create_task(resources.close())
    async with asyncio.timeout(20):
        while "closing" not in log:
            await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert log[-2:] == ["closing", "close settings"]
