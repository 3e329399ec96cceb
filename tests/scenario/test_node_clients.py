"""Who waits in a node's own process, while partitions go elsewhere and the session is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fenbu import App, Entity, Status, Unavailable, operation, wait_signal
from fenbu._core.batch import CommitBatch
from fenbu._core.ids import partition_of, partition_of_entity
from fenbu._node.callers import Callers
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu.errors import OwnershipLost
from tests.fixture.postgres import new_url

pytestmark = [pytest.mark.timeout(30), pytest.mark.guarantee("accepted-never-lost")]


class Service:
    def __init__(self, app: App) -> None:
        @app.entity
        class Counter(Entity):
            n: int = 0

            @operation
            async def add(self, n: int) -> int:
                self.n += n
                return self.n

            @operation(read_only=True)
            async def get(self) -> int:
                return self.n

        @app.workflow
        async def told() -> str:
            return await wait_signal("word", str)

        @app.workflow(retention=0)
        async def forgotten() -> str:
            return await wait_signal("word", str)

        self.Counter, self.told, self.forgotten = Counter, told, forgotten


@pytest.fixture
def app() -> App:
    return App("clients", url="memory:")


@pytest.fixture
def service(app: App) -> Service:
    return Service(app)


def storage_of(app: App) -> Any:
    assert app.node is not None
    return app.node.storage


async def all_told() -> bool:
    return True


async def turns(count: int) -> None:
    """Everything in memory has time to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def again(work: Callable[[], Awaitable[None]]) -> None:
    """Until the node has joined again."""
    while True:
        try:
            return await work()
        except Unavailable:
            await asyncio.sleep(0)


def lose_next(storage: Any) -> None:
    """The session is lost before the next batch is written; the node joins again."""
    commit = storage.commit

    async def lost(batch: CommitBatch) -> Commit:
        del batch
        storage.commit = commit
        return Commit(CommitOutcome.UNKNOWN, "the cable")

    storage.commit = lost


async def test_a_call_that_is_on_its_way_when_partitions_leave_is_not_missed(
    app: App, service: Service
) -> None:
    async with app:
        assert await service.Counter("a").add(1) == 1
        storage, tenure = storage_of(app), app.node.tenure  # type: ignore[union-attr]
        written = asyncio.Event()
        commit, release = storage.commit, storage.release
        calls: list[asyncio.Future[int]] = []

        async def slow(batch: CommitBatch) -> Commit:
            await written.wait()
            return await commit(batch)

        async def release_and_call(numbers: list[int]) -> None:
            await release(numbers)
            storage.commit = slow
            calls.append(asyncio.ensure_future(service.Counter("a").add(1)))
            await turns(20)

        storage.release = release_and_call
        count = app.registry.partition_count
        other = (partition_of_entity("Counter", "a", count) + 1) % count
        giving = asyncio.ensure_future(tenure.give_up([other], 1.0))
        await turns(500)
        written.set()
        assert await calls[0] == 2
        assert await giving
        storage.release = release


async def test_who_replaces_a_call_of_another_node_gets_the_new_result(
    request: pytest.FixtureRequest,
) -> None:
    url = new_url(request.getfixturevalue("postgres"))
    nodes = [App("replacing", url=url) for _ in range(2)]

    def made(app: App) -> Any:
        @app.task(name="echo")
        async def echo(n: int) -> int:
            return n

        return echo

    here, there = map(made, nodes)
    async with nodes[0], nodes[1]:
        for name in "abcdef":
            for n, echo in enumerate((here, there, here, there)):
                assert await echo.options(id=name, if_exists="replace")(n) == n


async def test_a_call_that_keeps_nothing_and_stays_while_other_partitions_leave_is_not_missed(
    app: App, service: Service
) -> None:
    async with app:
        storage, tenure = storage_of(app), app.node.tenure  # type: ignore[union-attr]
        count = app.registry.partition_count
        handle = await service.forgotten.options(id="t").start()
        result = asyncio.ensure_future(handle.result())
        await turns(50)
        other = (partition_of("t", count) + 1) % count
        read, ended = asyncio.Event(), asyncio.Event()
        signals: list[asyncio.Future[None]] = []
        commit, outcomes = storage.commit, storage.outcomes

        async def slow(batch: CommitBatch) -> Commit:
            done = await commit(batch)
            if "t" in batch.deleted:
                # It has ended, and all the node knows is that the batch is on its way.
                ended.set()
                await read.wait()
                await turns(50)
            return done

        async def look(ids: list[str]) -> Any:
            if not read.is_set():
                signals.append(asyncio.ensure_future(handle.signal("word", "now")))
                await ended.wait()
            found = await outcomes(ids)
            read.set()
            return found

        storage.commit, storage.outcomes = slow, look
        assert await tenure.give_up([other], 1.0)
        assert await result == "now"
        await asyncio.gather(*signals)


async def test_what_lies_in_the_inbox_of_a_partition_that_has_left_is_accepted() -> None:
    callers = Callers(MemoryStorage(), lambda _: None, tuple, all_told)
    future = callers.expect("mine", 3)
    callers.left([4])
    assert not future.done()
    callers.left([3, 4])
    await future


@pytest.mark.parametrize("what", ["to take a place", "to bring a signal"])
async def test_what_was_sent_when_the_session_was_lost_is_in_doubt(
    app: App, service: Service, what: str
) -> None:
    async with app:
        handle = await service.told.options(id="t").start()
        lose_next(storage_of(app))
        if what == "to take a place":
            start = service.told.options(id="t", if_exists="replace").start
        else:
            start = service.told.options(id="t").and_signal("word", "lost").start
        with pytest.raises(Unavailable, match="may or may not have been accepted"):
            await start()
        await again(lambda: handle.signal("word", "sent"))
        assert await handle.result() == "sent"


async def test_a_start_that_is_looked_up_when_its_partition_leaves_is_accepted(
    app: App, service: Service
) -> None:
    async with app:
        storage, tenure = storage_of(app), app.node.tenure  # type: ignore[union-attr]
        asked, answer, load = asyncio.Event(), asyncio.Event(), storage.load_calls

        async def slow(ids: list[str]) -> Any:
            asked.set()
            await answer.wait()
            return await load(ids)

        storage.load_calls = slow
        starting = asyncio.ensure_future(service.told.options(id="t").start())
        await asked.wait()
        partition = partition_of("t", app.registry.partition_count)
        assert await tenure.give_up([partition], 1.0)
        handle = await starting
        answer.set()
        assert await handle.status() is Status.PENDING


@pytest.mark.guarantee("entity-linear")
async def test_who_has_lost_the_session_answers_nothing_from_memory(
    app: App, service: Service
) -> None:
    async with app:
        assert await service.Counter("a").add(1) == 1
        storage = storage_of(app)
        commit = storage.commit

        async def gone(batch: CommitBatch) -> Commit:
            assert batch.is_empty()
            storage.commit = commit
            raise OwnershipLost("the session has ended")

        storage.commit = gone
        with pytest.raises(Unavailable):
            await service.Counter("a").get()
        assert await service.Counter("a").get() == 1


async def test_who_has_lost_the_session_cannot_tell_all_that_has_ended(
    app: App, service: Service
) -> None:
    async with app:
        storage, node = storage_of(app), app.node
        assert node is not None
        commit, told = storage.commit, list[asyncio.Future[bool]]()

        async def gone(batch: CommitBatch) -> Commit:
            del batch
            storage.commit = commit
            told.append(asyncio.ensure_future(node._all_told()))
            await turns(5)
            raise OwnershipLost("the session has ended")

        storage.commit = gone
        with pytest.raises(Unavailable):
            await service.Counter("a").add(1)
        assert not await told[0]


async def test_after_the_end_nobody_waits_for_a_batch(app: App, service: Service) -> None:
    del service
    async with app:
        tenure = app.node.tenure  # type: ignore[union-attr]
        assert tenure is not None
    with pytest.raises(Unavailable, match="stopped before"):
        await tenure.committer.durable()


async def test_who_gives_up_waiting_leaves_nothing_behind(app: App, service: Service) -> None:
    async with app:
        node = app.node
        assert node is not None
        assert node.tenure is not None

        async def lost() -> None:
            raise ValueError("an error on the way")

        node.tenure.committer.durable = lost  # type: ignore[assignment]
        with pytest.raises(ValueError, match="on the way"):
            await service.told.handle("nobody").result()
        del node.tenure.committer.durable
        waiting = [each for futures in node._callers._waiting.values() for each in futures]
        assert all(each.done() for each in waiting)
