"""Middleware around queries and updates: where they are asked, and where they are served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import fenbu
from fenbu import App, Middleware, Running, Starting, Status, on_query, on_update, step
from fenbu._core.history import History
from fenbu._core.rehearsal import rehearse
from fenbu.testing import crash_everywhere

tenant: ContextVar[str] = ContextVar("tenant", default="-")


class Records(Middleware):
    """Says who asks, and sets a variable that code, queries and updates see."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def start(self, call: Starting) -> Iterator[None]:
        call.context["asker"] = f"{call.context.get('asker', '')}/{call.name}"
        self.seen.append(f"start {call.kind} {call.name} {call.id}")
        yield
        self.seen.append(f"started {call.kind} {call.name}")

    @contextmanager
    def run(self, what: Running) -> Iterator[None]:
        replay = " replay" if what.is_replay else ""
        self.seen.append(
            f"run{replay} {what.kind} {what.name} {what.id} {what.context.get('asker')}"
        )
        token = tenant.set(what.kind)
        try:
            yield
        except ValueError as error:
            self.seen.append(f"error {what.kind} {what.name}")
            raise KeyError(str(error)) from error
        finally:
            if tenant.get() == what.kind:
                tenant.reset(token)

    def of(self, *names: str) -> list[str]:
        found = [
            each
            for each in self.seen
            if each.split()[-1] in names or set(names) & set(each.split())
        ]
        self.seen.clear()
        return found


async def look_up(sku: str) -> str:
    return f"{sku} {fenbu.current_context().get('asker')}"


def carts(app: App) -> Any:
    @app.workflow(name="cart")
    async def cart() -> list[str]:
        items: list[str] = [tenant.get()]

        @on_query
        def count(more: int = 0) -> str:
            if more < 0:
                raise ValueError(more)
            return f"{len(items) + more} {tenant.get()}"

        @on_update
        async def add(sku: str) -> str:
            if sku == "bad":
                raise ValueError(sku)
            items.append(f"{await step(look_up, sku)} {tenant.get()}")
            return items[-1]

        await fenbu.wait_signal("close")
        return items

    return cart


async def test_a_query_is_seen_where_it_is_asked_and_sees_what_code_sees(app: App) -> None:
    records = Records()
    app.middleware(records)
    cart = carts(app)
    async with app:
        handle = await cart.options(id="c").start()
        records.seen.clear()
        assert await handle.query("count", 2, result=str) == "3 query"
        assert records.of("count") == [
            "start query count c", "run query count c /count", "started query count",
        ]  # fmt: skip
        # What code had seen when it ran is seen when it is run for a query, and errors pass through.
        with pytest.raises(KeyError, match="-1"):
            await handle.query("count", -1)
        assert "error query count" in records.seen
        await handle.signal("close")
        assert await handle.result() == ["workflow"]
        assert await handle.query("count", result=str) == "1 query"


async def test_an_update_is_seen_on_both_sides(app: App) -> None:
    records = Records()
    app.middleware(records)
    cart = carts(app)
    async with app:
        handle = await cart.options(id="c").start()
        records.seen.clear()
        assert await handle.update("add", "tea", result=str) == "tea /cart update"
        assert records.of("add") == [
            "start update add c", "run update add c /add", "started update add",
        ]  # fmt: skip
        with pytest.raises(KeyError, match="bad"):
            await handle.update("add", "bad")
        assert records.of("error") == ["error update add"]
        started = await handle.start_update("add", "cup", id="1")
        assert records.of("start", "started") == ["start update add c", "started update add"]
        await started.result()
        await cart.options(id="d").and_update("add", "pot", id="2")()
        found = records.of("start", "run")
        assert "start call cart d" in found
        assert "start update add d" in found
        assert "run update add d /add" in found
        await handle.signal("close")
        assert (await handle.result())[1:] == ["tea /cart update", "cup /cart update"]


async def test_a_replay_asks_for_nothing_again(app: App) -> None:
    records = Records()
    app.middleware(records)
    cart = carts(app)

    @app.workflow(name="asks")
    async def asks(cart_id: str) -> str:
        found = await cart.handle(cart_id).update("add", "tea", result=str)
        await fenbu.wait_signal("go")
        return found

    async with app:
        await cart.options(id="c").start()
        handle = await asks.options(id="a").start("c")
        async with asyncio.timeout(20):
            for id_ in ("a", "c"):
                while await app.handle(id_).status() is not Status.SUSPENDED:
                    await asyncio.sleep(0)
        assert "run update add c /asks/add" in records.seen
        assert records.seen.count("start update add c") == 1
        records.seen.clear()
        await handle.signal("go")
        assert await handle.result() == "tea /cart update"
        await cart.handle("c").signal("close")
        assert await cart.handle("c").result() == ["workflow", "tea /cart update"]
    assert "run replay update add c None" in records.seen
    assert "start update add c" not in records.seen


async def test_it_travels_through_nodes_without_middleware(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    node, client = App("node", url=url), App("client", url=url)
    carts(node)
    client.middleware(Records)
    cart = carts(client)
    async with node, client.client():
        handle = await cart.options(id="c").start()
        await handle.update("add", "tea", id="u")
        (loaded,) = await node.runtime.gateway.storage.load_calls(["c/@u"])
        assert loaded.invocation.context == {"asker": "/add"}


async def test_a_replay_by_hand_has_around_it_what_the_call_had(app: App) -> None:
    app.middleware(Records())

    @app.workflow(name="fails")
    async def fails() -> None:
        raise ValueError(tenant.get())

    async with app:
        with pytest.raises(KeyError, match="workflow"):
            await fails.options(id="f")()
        (loaded,) = await app.runtime.gateway.storage.load_calls(["f"])
    assert rehearse(app.registry, History(loaded)) is None


def test_a_crash_anywhere_changes_nothing() -> None:
    app = App("asks", url="memory:")
    app.middleware(Records())
    cart = carts(app)

    async def scenario() -> Any:
        handle = await cart.options(id="c").start()
        added = await handle.update("add", "tea", id="1", result=str)
        count = await handle.query("count", result=str)
        await handle.signal("close")
        return added, count, await handle.result()

    assert crash_everywhere(app, scenario) >= 3
