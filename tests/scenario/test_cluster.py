"""Several nodes on one database, in one process: they share, hand over, lose their sessions and crash."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fenbu import App, DeadlockError, Entity, operation, step
from fenbu._core import ids
from fenbu._node import membership
from fenbu._node.clock import SystemClock
from fenbu._node.gateway import RemoteGateway
from fenbu._node.node import Node
from fenbu._node.tenure import NodeOptions
from fenbu._storage.memory.database import MemoryDatabase
from fenbu._storage.memory.storage import MemoryStorage
from tests.scenario.crash import abandon


class Cluster:
    """Nodes of one app on one database, and a client."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.database = MemoryDatabase()
        self.nodes: list[Node] = []

    def storage_of(self, node: Node) -> MemoryStorage:
        assert isinstance(node.storage, MemoryStorage)
        return node.storage

    async def start(self, options: NodeOptions | None = None, app: App | None = None) -> Node:
        storage = MemoryStorage(self.database)
        meta = await storage.open()
        registry = (app or self.app).registry
        registry.partition_count = meta.partition_count
        node = Node(registry, storage, options=options)
        await node.start()
        self.nodes.append(node)
        return node

    async def stop(self, node: Node) -> None:
        self.nodes.remove(node)
        await node.stop(5.0)

    async def kill(self, node: Node) -> None:
        self.nodes.remove(node)
        self.storage_of(node).lose_session()
        await abandon(node)
        await node.storage.close()

    def lose_session(self, node: Node) -> None:
        self.storage_of(node).lose_session()

    def shares(self) -> list[int]:
        return sorted(len(each.partitions) for each in self.database.nodes.values())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0)


@asynccontextmanager
async def cluster_of(app: App) -> AsyncIterator[Cluster]:
    cluster = Cluster(app)
    storage = MemoryStorage(cluster.database)
    await storage.open()
    client = RemoteGateway(app.registry, SystemClock(), storage)
    app.runtime.opened(client)
    try:
        yield cluster
    finally:
        for node in list(cluster.nodes):
            await cluster.stop(node)
        app.runtime.closed()
        await client.close()
        await storage.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "BEAT_SECONDS", 0.02)


@pytest.fixture
def app() -> App:
    return App("bank", url="memory:")


def bank(app: App) -> tuple[Any, Any]:
    @app.entity
    class Account(Entity):
        cents: int = 1000

        @operation
        async def add(self, cents: int) -> int:
            self.cents += cents
            return self.cents

        @operation(read_only=True)
        async def balance(self) -> int:
            return self.cents

    async def note(cents: int) -> int:
        await asyncio.sleep(0)
        return cents

    @app.workflow
    async def transfer(giver: str, taker: str, cents: int) -> None:
        await Account(giver).add(-cents)
        await step(note, cents)
        await Account(taker).add(cents)

    return Account, transfer


async def test_nodes_that_come_and_go_share_the_partitions(app: App) -> None:
    async with cluster_of(app) as cluster:
        first = await cluster.start()
        assert cluster.shares() == [256]
        await cluster.start()
        await cluster.until(lambda: cluster.shares() == [128, 128])
        third = await cluster.start()
        await cluster.until(lambda: cluster.shares() == [85, 85, 86])
        await cluster.stop(first)
        await cluster.until(lambda: cluster.shares() == [128, 128])
        await cluster.kill(third)
        await cluster.until(lambda: cluster.shares() == [256])


async def test_a_partition_with_a_long_body_stays_until_it_has_ended(app: App) -> None:
    release = asyncio.Event()
    begun: list[int] = []

    @app.task
    async def long(number: int) -> int:
        begun.append(number)
        await release.wait()
        return number

    async with cluster_of(app) as cluster:
        first = await cluster.start()
        handles = [await long.start(number) for number in range(3)]
        await cluster.until(lambda: len(begun) == 3)
        owned = {ids.partition_of(each.id, app.registry.partition_count) for each in handles}
        await cluster.start()
        await cluster.until(lambda: min(cluster.shares()) > 100)
        mine = cluster.database.nodes[cluster.storage_of(first)].partitions
        assert owned <= set(mine)
        release.set()
        assert [await each.result() for each in handles] == [0, 1, 2]
        assert begun == [0, 1, 2]


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("no-split-brain")
@pytest.mark.guarantee("entity-linear")
@pytest.mark.parametrize("seed", range(6))
async def test_books_balance_whatever_happens_to_nodes(app: App, seed: int) -> None:
    account, transfer = bank(app)
    chance = random.Random(seed)
    names = [f"a{number}" for number in range(12)]
    async with cluster_of(app) as cluster:
        await cluster.start()
        await cluster.start()
        handles = []
        expected = dict.fromkeys(names, 1000)
        for _ in range(8):
            for _ in range(25):
                giver, taker = chance.sample(names, 2)
                cents = chance.randrange(1, 50)
                expected[giver] -= cents
                expected[taker] += cents
                handles.append(await transfer.start(giver, taker, cents))
            node = chance.choice(cluster.nodes)
            match chance.choice(["start", "stop", "kill", "lose", "nothing"]):
                case "start":
                    await cluster.start()
                case "stop" if len(cluster.nodes) > 1:
                    await cluster.stop(node)
                case "kill" if len(cluster.nodes) > 1:
                    await cluster.kill(node)
                case "lose":
                    cluster.lose_session(node)
                case _:
                    for _ in range(chance.randrange(100)):
                        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            for handle in handles:
                await handle.result()
            assert {each: await account(each).balance() for each in names} == expected
        assert cluster.database.inbox == {}


async def test_operations_on_different_nodes_that_wait_for_each_other_are_refused(app: App) -> None:
    entered: set[str] = set()
    both = asyncio.Event()

    async def meet(name: str) -> None:
        entered.add(name)
        if len(entered) == 2:
            both.set()
        await both.wait()

    @app.entity
    class Cell(Entity):
        @operation
        async def cross(self, other: str) -> str:
            await step(meet, self.key)
            return await Cell(other).name()

        @operation
        async def name(self) -> str:
            return self.key

    async with cluster_of(app) as cluster:
        await cluster.start()
        await cluster.start()
        await cluster.until(lambda: cluster.shares() == [128, 128])
        one, other = _keys_on_different_nodes(cluster)
        async with asyncio.timeout(20):
            found = await asyncio.gather(
                Cell(one).cross(other), Cell(other).cross(one), return_exceptions=True
            )
        errors = [each for each in found if isinstance(each, DeadlockError)]
        assert errors
        assert f"Cell/{one}" in str(errors[0])
        assert f"Cell/{other}" in str(errors[0])
        assert await Cell(one).name() == one


def _keys_on_different_nodes(cluster: Cluster) -> tuple[str, str]:
    owners = [set(each.partitions) for each in cluster.database.nodes.values()]
    keys = [
        next(
            name
            for number in itertools.count()
            if ids.partition_of_entity("Cell", name := f"c{number}", 256) in owned
        )
        for owned in owners
    ]
    return keys[0], keys[1]
