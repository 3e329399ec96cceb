"""Every example workflow is struck at each of its commits in turn, and must end the same.

Its process is gone, or its session with the database. Each journal entry is written by a commit of its own or
together with its neighbours, so this strikes at every journal position, and also before its first and after
its last.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.crash import Fault, crash_after_each_commit

pytestmark = pytest.mark.guarantee("replay-same")


def example(name: str) -> Any:
    return importlib.import_module(f"examples.{name}")


async def outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except Exception as error:
        return repr(error)


def shop(country: str, units: int) -> Callable[[], Awaitable[Any]]:
    module = example("shop_checkout")
    order = module.Order("o", [module.Line("tea", 2), module.Line("cup", units)], country)

    async def scenario() -> None:
        await module.Stock("tea").add.options(id="tea")(10)
        await module.Stock("cup").add.options(id="cup")(3)
        handle = await module.checkout.options(id="order").start(order)
        await outcome(handle.result())
        if country == "SE" and units == 1:
            receipts = [each for each in await _children("order") if each == "send_receipt"]
            assert receipts

    async def _children(id_: str) -> list[str]:
        node = module.app.runtime.gateway
        children = await node.storage.children(id_, limit=100)
        for child in children:
            await outcome(module.app.handle(child.id).result())
        return [each.handler for each in children]

    return scenario


def approval(*, answered: bool) -> Callable[[], Awaitable[Any]]:
    module = example("human_approval")

    async def scenario() -> None:
        handle = await module.expense.options(id="e").start("ann", 120, 5.0 if answered else 0.05)
        if answered and await handle.status() != "completed":
            await handle.signal("decision", value=True)
        await handle.result()

    return scenario


def payment(cents: int) -> Callable[[], Awaitable[Any]]:
    module = example("payment_webhook")

    async def scenario() -> None:
        module.requests = asyncio.Queue()  # Each run has an event loop of its own.
        bank = asyncio.create_task(module.bank())
        try:
            await (
                await module.pay.options(id="p").start(cents, 0.05 if cents == 13 else 5.0)
            ).result()
        finally:
            bank.cancel()

    return scenario


def crawler(port: int) -> Callable[[], Awaitable[Any]]:
    module = example("web_crawler")

    async def scenario() -> None:
        await (await module.crawl.options(id="c").start(f"http://127.0.0.1:{port}", 3)).result()

    return scenario


def without_a_second_signal(found: dict[str, Any]) -> Any:
    """The scenario signals again after a crash, as a person would: what it led to is compared."""
    return {
        key: value[:4] if key == "e" else value for key, value in found.items() if key != "inbox"
    }


@pytest.fixture(params=["memory", "sqlite"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "sqlite" else None


@pytest.fixture(params=list(Fault), ids=lambda fault: fault.name.lower())
def fault(request: pytest.FixtureRequest) -> Fault:
    return request.param


@pytest.mark.parametrize(("country", "units"), [("SE", 1), ("XX", 1), ("SE", 9)])
def test_checkout(folder: Path | None, fault: Fault, country: str, units: int) -> None:
    app = example("shop_checkout").app
    scenario = shop(country, units)
    assert (
        asyncio.run(
            crash_after_each_commit(app, scenario, folder, fault=fault, comparable=_unordered)
        )
        >= 4
    )


def _unordered(found: dict[str, Any]) -> Any:
    """Reservations run side by side: after a crash they may end, or be cancelled, in another order."""
    return found["entities"], found["inbox"], found["order"][:4]


@pytest.mark.parametrize("answered", [True, False])
def test_approval(folder: Path | None, fault: Fault, *, answered: bool) -> None:
    app = example("human_approval").app
    scenario = approval(answered=answered)
    places = asyncio.run(
        crash_after_each_commit(
            app, scenario, folder, fault=fault, comparable=without_a_second_signal
        )
    )
    assert places >= 3


@pytest.mark.parametrize("cents", [500, 50_000, 13])
def test_payment(folder: Path | None, fault: Fault, cents: int) -> None:
    app = example("payment_webhook").app
    places = asyncio.run(
        crash_after_each_commit(app, payment(cents), folder, fault=fault, comparable=_paid)
    )
    assert places >= 3


def _paid(found: dict[str, Any]) -> Any:
    """The bank may be asked twice, and answers twice."""
    return found["p"][:4]


def test_crawl(fault: Fault) -> None:
    module = example("web_crawler")
    server = ThreadingHTTPServer(("127.0.0.1", 0), module.Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        scenario = crawler(server.server_port)
        places = asyncio.run(
            crash_after_each_commit(module.app, scenario, None, fault=fault, comparable=_results)
        )
        # The start and four levels of pages, each known from the one before, however answers come together.
        assert places >= 5
    finally:
        server.shutdown()
        server.server_close()


def _results(found: dict[str, Any]) -> Any:
    """Pages are fetched side by side, and one of them fails at first."""
    return {key: value[:4] for key, value in found.items() if key not in ("entities", "inbox")}


def test_lookup(folder: Path | None, fault: Fault) -> None:
    module = example("rate_limited_api")

    async def scenario() -> None:
        handles = [await module.lookup.options(id=f"l{n}").start(n) for n in range(3)]
        assert [await each.result() for each in handles] == ["item 0", "item 1", "item 2"]

    def comparable(found: dict[str, Any]) -> Any:
        return {key: value[1:3] for key, value in found.items() if key in ("l0", "l1", "l2")}

    assert (
        asyncio.run(
            crash_after_each_commit(
                module.app, scenario, folder, fault=fault, comparable=comparable
            )
        )
        >= 4
    )


def test_conversation(folder: Path | None, fault: Fault) -> None:
    module = example("chat_agent")

    async def scenario() -> None:
        handle = await module.conversation.options(id="chat").start(1)
        if await handle.status() != "completed":
            await handle.signal("question", "What to wear in Oslo and Rome?")
        await handle.result()

    def comparable(found: dict[str, Any]) -> Any:
        return found["chat"][:3]

    assert (
        asyncio.run(
            crash_after_each_commit(
                module.app, scenario, folder, fault=fault, comparable=comparable
            )
        )
        >= 4
    )
