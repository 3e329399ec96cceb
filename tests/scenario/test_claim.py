"""Nodes that have different handlers, on one database: each call goes where its handler is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import App, Status, step, wait_signal
from fenbu._node import membership
from fenbu._node.node import Node
from fenbu._node.tenure import NodeOptions
from fenbu._storage.memory.storage import MemoryStorage
from tests.scenario.test_cluster import cluster_of
from tests.scenario.test_sharing import names_at

pytestmark = pytest.mark.guarantee("accepted-never-lost")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "BEAT_SECONDS", 0.02)


@pytest.fixture
def app() -> App:
    return App("claims", url="memory:")


def owned(node: Node) -> int:
    """How many partitions it owns."""
    return 0 if node.tenure is None else len(node.tenure.engine.partitions)


async def double(n: int) -> int:
    return 2 * n


def billing(app: App) -> Any:
    @app.workflow(name="bill")
    async def bill(n: int) -> list[Any]:
        first = await step(double, n)
        return [first, await wait_signal("word", str)]

    return bill


def shipping(app: App) -> Any:
    @app.task(name="ship")
    async def ship(n: int) -> int:
        return n

    return ship


async def test_services_join_one_database(app: App) -> None:
    """The client knows both; each node knows one of them."""
    bill, ship = billing(app), shipping(app)
    first, second = App("claims"), App("claims")
    billing(first)
    shipping(second)
    async with cluster_of(app) as cluster:
        one = await cluster.start(app=first)
        other = await cluster.start(app=second)
        await cluster.until(lambda: owned(one) == owned(other) == 128)
        misplaced = names_at(app, other, 30)
        handles = [await bill.options(id=each).start(n) for n, each in enumerate(misplaced)]
        # What is sent while nobody has the handler follows the call.
        for each in handles:
            await each.signal("word", each.id)
        results = [await each.result() for each in handles]
        assert results == [[2 * n, each] for n, each in enumerate(misplaced)]
        shipped = [
            await ship.options(id=each).start(n) for n, each in enumerate(names_at(app, one, 30))
        ]
        assert [await each.result() for each in shipped] == list(range(30))
        # Who waits at the node that does not have the handler hears of it, too.
        asked = asyncio.create_task(other.outcome(misplaced[0], -1))
        assert (await asked).status is Status.COMPLETED


async def test_a_node_with_the_new_version_serves_it_in_a_rolling_deploy(app: App) -> None:
    old = billing(app)
    new_app = App("claims")
    billing(new_app)

    async def bill_v2(n: int, word: str) -> str:
        return f"{word} {await step(double, n)}"

    new = app.workflow(name="bill", version=2)(bill_v2)
    new_app.workflow(name="bill", version=2)(bill_v2)
    old_app = App("claims")
    billing(old_app)
    async with cluster_of(app) as cluster:
        await cluster.start(app=old_app)
        before = [await old.start(n) for n in range(10)]
        waits = [await new.start(n, "new") for n in range(10)]
        await _until_status(cluster, waits, Status.UNHANDLED)
        await cluster.start(app=new_app)
        assert [await each.result() for each in waits] == [f"new {2 * n}" for n in range(10)]
        for each in before:
            await each.signal("word", "old")
        assert [await each.result() for each in before] == [[2 * n, "old"] for n in range(10)]


async def _until_status(cluster: Any, handles: list[Any], status: Status) -> None:
    async with asyncio.timeout(20):
        for each in handles:
            while await each.status() is not status:
                await asyncio.sleep(0)


async def test_a_call_that_nobody_handles_waits_and_others_go_on(app: App) -> None:
    bill, ship = billing(app), shipping(app)
    only = App("claims")
    shipping(only)
    async with cluster_of(app) as cluster:
        for _ in range(2):
            await cluster.start(app=only)
        waits = [await bill.options(id=f"bill-{n}").start(n) for n in range(10)]
        assert [await ship(n) for n in range(20)] == list(range(20))
        await _until_status(cluster, waits, Status.UNHANDLED)
        call = cluster.database.invocations["bill-0"]
        assert call.waiting == "a node that has registered bill"
        await waits[0].cancel()
        await _until_status(cluster, waits[:1], Status.CANCELLED)
        await cluster.start(app=app)
        for each in waits[1:]:
            await each.signal("word", "x")
        assert [await each.result() for each in waits[1:]] == [[2 * n, "x"] for n in range(1, 10)]


async def test_calls_are_shared_only_with_nodes_that_have_the_same_handlers(app: App) -> None:
    gate = asyncio.Event()

    async def hold(n: int) -> int:
        await gate.wait()
        return n

    held = app.task(name="hold")(hold)
    first, second = App("claims"), App("claims")
    first.task(name="hold")(hold)
    shipping(second)
    options = NodeOptions(concurrency=1)
    async with cluster_of(app) as cluster:
        one: Node = await cluster.start(options, app=first)
        other = await cluster.start(options, app=second)
        await cluster.until(lambda: owned(one) == owned(other) == 128)
        names = names_at(app, one, 10)
        handles = [await held.options(id=each).start(n) for n, each in enumerate(names)]
        tenure = one.tenure
        assert tenure is not None
        await cluster.until(lambda: tenure.executor.waiting_count == 9)
        beats = [0]
        share = membership.Membership.share

        def counted(self: Any, beat: Any) -> None:
            beats[0] += 1
            share(self, beat)

        membership.Membership.share = counted  # type: ignore[method-assign]
        try:
            await cluster.until(lambda: beats[0] > 10)
        finally:
            membership.Membership.share = share  # type: ignore[method-assign]
        assert tenure.executor.waiting_count == 9
        assert other.tenure is not None
        assert not any(
            each.status is Status.UNHANDLED for each in cluster.database.invocations.values()
        )
        gate.set()
        assert [await each.result() for each in handles] == list(range(10))


async def test_a_delayed_call_that_waited_for_its_handler_begins_in_its_time(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When something is due is only known once what was parked can run again, however long that takes."""
    revive = MemoryStorage.revive

    async def slowly(self: MemoryStorage, handlers: Any, partitions: Any) -> int:
        for _ in range(100):
            await asyncio.sleep(0)
        return await revive(self, handlers, partitions)

    monkeypatch.setattr(MemoryStorage, "revive", slowly)
    ship = shipping(app)
    first, second = App("claims"), App("claims")
    billing(first)
    shipping(second)
    async with cluster_of(app) as cluster:
        one = await cluster.start(app=first)
        call = await ship.options(delay=1.0).start(7)
        rows = cluster.database.invocations
        await cluster.until(lambda: call.id in rows and rows[call.id].status is Status.UNHANDLED)
        await cluster.stop(one)
        await cluster.start(app=second)
        async with asyncio.timeout(10):
            assert await call.result() == 7
