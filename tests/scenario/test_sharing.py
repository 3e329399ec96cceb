"""Calls that wait for a free place go to nodes that have one; messages to them find their way."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from fenbu import App, CallCancelled, Status, callback, step, wait_signal
from fenbu._api.bulk import message_for
from fenbu._core import ids
from fenbu._core.engine import Engine
from fenbu._core.model import Invocation
from fenbu._core.resident import Resident
from fenbu._node import membership
from fenbu._node.node import Node
from fenbu._node.tenure import NodeOptions
from tests.scenario.test_cluster import Cluster, cluster_of

PLACES = 2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "BEAT_SECONDS", 0.02)


@pytest.fixture
def app() -> App:
    return App("sharing", url="memory:")


class Gate:
    """Bodies wait behind it; it counts who passes."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.passed: Counter[str] = Counter()

    async def __call__(self, name: str) -> str:
        await self.open.wait()
        self.passed[name] += 1
        return name.upper()


def names_at(app: App, node: Node, count: int) -> list[str]:
    """Ids that are placed at one node."""
    tenure = node.tenure
    assert tenure is not None
    names = (f"call-{number}" for number in range(100_000))
    placed = (
        each
        for each in names
        if ids.partition_of(each, app.registry.partition_count) in tenure.engine.partitions
    )
    return [next(placed) for _ in range(count)]


def running(node: Node) -> int:
    return 0 if node.tenure is None else node.tenure.executor.running_count


async def start(cluster: Cluster, count: int) -> list[Node]:
    nodes = [
        await cluster.start(options=NodeOptions(concurrency=PLACES, idle_seconds=0.05))
        for _ in range(count)
    ]
    await cluster.until(lambda: len(set(cluster.shares())) <= 2 and min(cluster.shares()) > 0)
    return nodes


async def test_tasks_go_where_there_is_room(app: App) -> None:
    gate = Gate()

    @app.task(name="pass")
    async def go(name: str) -> str:
        return await gate(name)

    async with cluster_of(app) as cluster:
        nodes = await start(cluster, 3)
        names = names_at(app, nodes[0], 30)
        handles = [await go.options(id=each).start(each) for each in names]
        await cluster.until(lambda: all(running(each) == PLACES for each in nodes))
        gate.open.set()
        assert [await each.result() for each in handles] == [each.upper() for each in names]
        assert gate.passed == Counter(names)
        # A call that exists is found by its id, wherever it went.
        again = [await go.options(id=each).start("again") for each in names]
        assert [await each.result() for each in again] == [each.upper() for each in names]
        for node in nodes:
            tenure = node.tenure
            assert tenure is not None
            await cluster.until(lambda tenure=tenure: tenure.load == -PLACES)


def workflow(app: App, gate: Gate) -> Any:
    @app.workflow(name="order")
    async def order(name: str) -> list[str]:
        first = await step(gate, name)
        word = str(await wait_signal("word"))
        return [first, word, await step(gate, name + "!")]

    return order


async def test_messages_follow_workflows(app: App) -> None:
    gate = Gate()
    order = workflow(app, gate)

    @app.workflow(name="parent")
    async def parent(name: str) -> list[str]:
        return await order.handle(name).result()

    async with cluster_of(app) as cluster:
        nodes = await start(cluster, 2)
        names = names_at(app, nodes[0], 20)
        handles = [await order.options(id=each).start(each) for each in names]
        # Who asks for the result at the node to which the id belongs is not forgotten there.
        owner = nodes[0]
        asked = [asyncio.create_task(owner.outcome(each, -1)) for each in names]
        parents = [await parent.start(each) for each in names]
        await cluster.until(lambda: all(running(each) == PLACES for each in nodes))
        for each in handles:
            await each.signal("word", each.id)
        cancelled = handles.pop()
        await cancelled.cancel()
        late = [asyncio.create_task(owner.outcome(each, -1)) for each in names]
        gate.open.set()
        for each in handles:
            assert await each.result() == [each.id.upper(), each.id, each.id.upper() + "!"]
        with pytest.raises(CallCancelled):
            await cancelled.result()
        for each in parents[:-1]:
            assert len(await each.result()) == 3
        with pytest.raises(CallCancelled):
            await parents[-1].result()
        wanted = [Status.COMPLETED] * len(handles) + [Status.CANCELLED]
        assert [(await each).status for each in asked] == wanted
        assert [(await each).status for each in late] == wanted
        assert max(gate.passed.values()) == 1
        await cluster.until(lambda: not cluster.database.inbox)


@pytest.mark.guarantee("message-once-in-order")
async def test_a_call_is_given_once(app: App) -> None:
    """From a third partition on, what is sent to it could overtake what is still on its way to the second."""
    gate = Gate()
    order = workflow(app, gate)

    def home(call: Invocation) -> int:
        return call.home(app.registry.partition_count)

    def given_to(engine: Engine) -> list[Resident]:
        found = [call for part in engine.partitions.values() for call in part.residents.values()]
        return [each for each in found if each.invocation.partition != home(each.invocation)]

    async with cluster_of(app) as cluster:
        nodes = await start(cluster, 2)
        handles = [await order.options(id=each).start(each) for each in names_at(app, nodes[0], 20)]
        engines = [node.tenure.engine for node in nodes if node.tenure is not None]
        await cluster.until(lambda: any(given_to(each) for each in engines))
        taker = next(each for each in engines if given_to(each))
        resident, elsewhere = given_to(taker)[0], next(iter(engines[0].partitions))
        call = resident.invocation
        await cluster.until(lambda: resident.bodies and resident.marked and not resident.mail)
        assert not taker.give(call.partition, call.id, set(resident.bodies), elsewhere, 0.0)
        # All that it is told takes one way.
        for action in ("cancel", "terminate", "retry", "pause", "resume"):
            told = message_for(action, call, "", app.registry.partition_count)
            assert told.partition == home(call)
        gate.open.set()
        for each in handles:
            await each.signal("word", each.id)
        for each in handles:
            await each.result()


async def test_the_token_of_a_callback_is_the_same_wherever_its_call_is(app: App) -> None:
    gate = Gate()
    tokens: dict[str, str] = {}

    async def mail(name: str, token: str) -> None:
        await gate(name)
        tokens[name] = token

    @app.workflow(name="order")
    async def order(name: str) -> str:
        asked = await callback(str)
        await step(mail, name, asked.token)
        return await asked.result()

    async with cluster_of(app) as cluster:
        nodes = await start(cluster, 2)
        handles = [await order.options(id=each).start(each) for each in names_at(app, nodes[0], 20)]
        count = app.registry.partition_count

        def any_is_given() -> bool:
            calls = cluster.database.invocations.values()
            return any(each.partition != ids.partition_of(each.id, count) for each in calls)

        await cluster.until(any_is_given)
        gate.open.set()
        for each in handles:
            await cluster.until(lambda each=each: each.id in tokens)
            home = ids.partition_of(each.id, count)
            assert ids.read_callback_token(tokens[each.id]) == ("callback 1", home, each.id)
            await app.complete(tokens[each.id], each.id)
            assert await each.result() == each.id


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.parametrize("lost", ["giver", "receiver"])
async def test_a_node_dies_after_calls_were_given(app: App, lost: str) -> None:
    gate = Gate()
    order = workflow(app, gate)
    async with cluster_of(app) as cluster:
        nodes = await start(cluster, 3)
        names = names_at(app, nodes[0], 40)
        handles = [await order.options(id=each).start(each) for each in names]
        await cluster.until(lambda: all(running(each) == PLACES for each in nodes))
        for each in handles:
            await each.signal("word", each.id)
        await cluster.kill(nodes[0] if lost == "giver" else nodes[1])
        gate.open.set()
        for each in handles:
            assert await each.result() == [each.id.upper(), each.id, each.id.upper() + "!"]
        await cluster.until(lambda: not cluster.database.inbox)


@pytest.mark.guarantee("accepted-never-lost")
async def test_calls_change_nodes_again_and_again(app: App) -> None:
    """Nodes that come and go, and give calls to each other all the time."""
    gate = Gate()
    gate.open.set()
    order = workflow(app, gate)
    async with cluster_of(app) as cluster:
        nodes = await start(cluster, 3)
        handles = [
            await order.options(id=each).start(each) for each in names_at(app, nodes[0], 200)
        ]
        for number in range(6):
            await cluster.kill(cluster.nodes[number % 2])
            await start(cluster, 1)
            for each in handles[number::6]:
                await each.signal("word", each.id)
        for each in handles:
            assert await each.result() == [each.id.upper(), each.id, each.id.upper() + "!"]
        await cluster.until(lambda: not cluster.database.inbox)
