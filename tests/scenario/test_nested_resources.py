"""Resources that need others, and what becomes of the others if one does not close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from fenbu import INJECTED, App, Resource, UsageError
from fenbu._core.need import Needed
from fenbu._node.resource import Resources

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


async def settings() -> AsyncIterator[str]:
    log.append("open settings")
    yield "settings"
    log.append("close settings")


@asynccontextmanager
async def pool(of: Annotated[str, Resource(settings)], *, size: int = 3) -> AsyncIterator[str]:
    log.append("open pool")
    yield f"pool({of}, {size})"
    log.append("close pool")


def cache(of: Annotated[str, Resource(settings)] = INJECTED) -> Iterator[str]:
    log.append("open cache")
    yield f"cache({of})"
    log.append("close cache")


class Shop:
    def __init__(
        self,
        pool: Annotated[str, Resource(pool)] = INJECTED,
        cache: Annotated[str, Resource(cache)] = INJECTED,
    ) -> None:
        self.text = f"shop({pool}, {cache})"


async def test_a_resource_gets_what_it_needs_once_and_closes_before_it(app: App) -> None:
    @app.task
    async def ask(shop: Annotated[Shop, Resource(Shop)] = INJECTED) -> str:
        return shop.text

    @app.task
    async def ask_pool(pool: Annotated[str, Resource(pool)] = INJECTED) -> str:
        return pool

    async with app:
        found = await asyncio.gather(ask(), ask_pool(), ask())
        expected = "shop(pool(settings, 3), cache(settings))"
        assert found == [expected, "pool(settings, 3)", expected]
    assert log == [
        "open settings", "open pool", "open cache", "close cache", "close pool", "close settings",
    ]  # fmt: skip


async def test_an_override_reaches_those_that_need_it(app: App) -> None:
    @app.task
    async def ask(pool: Annotated[str, Resource(pool)] = INJECTED) -> str:
        return pool

    async with app:
        assert await ask() == "pool(settings, 3)"
        with app.override(settings, lambda: "fake"):
            assert await ask() == "pool(fake, 3)"
        assert await ask() == "pool(settings, 3)"


def first(of: Annotated[str, Resource(lambda: second)] = INJECTED) -> str:
    return of


def second(of: Annotated[str, Resource(first)] = INJECTED) -> str:
    return of


async def test_a_circle_is_refused(app: App) -> None:
    @app.task
    async def ask(it: Annotated[str, Resource(second)] = INJECTED) -> str:
        return it

    def fake(of: Annotated[str, Resource(second)] = INJECTED) -> str:
        return of

    async with app:
        with (
            app.override(first, fake),
            pytest.raises(UsageError, match=r"Resource\(second\) needs Resource\(first\) needs"),
        ):
            await ask()


async def failing() -> AsyncIterator[str]:
    yield "failing"
    raise OSError("did not close")


async def failing_too() -> AsyncIterator[str]:
    yield "failing too"
    raise asyncio.CancelledError


async def outer(of: Annotated[str, Resource(settings)] = INJECTED) -> AsyncIterator[str]:
    yield of
    log.append("close outer")


async def test_one_that_does_not_close_keeps_no_other_from_it(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    async def use(
        a: Annotated[str, Resource(outer)] = INJECTED,
        b: Annotated[str, Resource(failing)] = INJECTED,
        c: Annotated[str, Resource(cache)] = INJECTED,
        d: Annotated[str, Resource(failing_too)] = INJECTED,
        e: Annotated[str, Resource(failing)] = INJECTED,
    ) -> str:
        return a + b + c + d + e

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
        Needed("a", 0, Resource(outer)),
        Needed("b", 1, Resource(slow)),
    )
    resources = Resources({})
    with ThreadPoolExecutor(1) as threads:
        body: Any = SimpleNamespace(args=(), kwargs={}, work=SimpleNamespace(needs=needs))
        assert await resources.fill_in(body, threads) == {"a": "settings", "b": "slow"}
    closing = asyncio.create_task(resources.close())
    async with asyncio.timeout(20):
        while "closing" not in log:
            await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert log[-3:] == ["closing", "close outer", "close settings"]
