from __future__ import annotations

import asyncio
import os

import pytest

from fenbu._core.batch import CommitBatch
from fenbu._storage.protocol import CommitOutcome
from fenbu.errors import OwnershipLost, Unavailable, UsageError
from tests.fixture.row import call, own, stored, write
from tests.fixture.storage import MemoryDisk, SimulatedDisk


async def test_the_owner_has_every_partition(connect):
    storage = await connect()
    assert await own(storage) == list(range(256))
    assert await own(storage) == list(range(256))


@pytest.mark.guarantee("no-split-brain")
async def test_there_is_one_owner_at_a_time(disk, storage, connect):
    other = await connect()
    if disk.many_nodes:
        assert await own(other) == []
    else:
        with pytest.raises(OwnershipLost) as raised:
            await own(other)
        assert str(os.getpid()) in str(raised.value)
    await storage.close()
    assert await own(other) == list(range(256))


async def test_who_is_refused_can_still_be_a_client(disk, storage, connect):
    other = await connect()
    if not disk.many_nodes:
        with pytest.raises(OwnershipLost):
            await own(other)
    await write(storage, inserted=[call("a")])
    assert (await stored(other, "a")).invocation == call("a")


async def test_everybody_sees_the_same_database(connect):
    storages = [await connect() for _ in range(3)]
    metas = [await each.open() for each in storages]
    assert metas[0].cluster
    assert metas.count(metas[0]) == 3


async def test_what_was_written_is_there_after_opening_again(disk, connect):
    storage = await connect()
    await own(storage)
    await write(storage, inserted=[call("a")])
    await storage.close()
    again = await connect()
    assert await own(again) == list(range(256))
    assert (await stored(again, "a")).invocation == call("a")


async def test_closing_twice_is_closing_once(connect):
    storage = await connect()
    await own(storage)
    await storage.close()
    await storage.close()
    with pytest.raises(Unavailable):
        await own(storage)


async def test_a_storage_can_be_opened_again(connect):
    storage = await connect()
    await storage.close()
    await storage.open()
    assert await storage.load_calls(["a"]) == []


async def test_many_that_open_a_new_database_at_once_all_get_it(connect):
    storages = await asyncio.gather(*(connect() for _ in range(5)))
    metas = [await each.open() for each in storages]
    assert metas.count(metas[0]) == 5


async def test_an_absent_database_is_not_made_for_a_client(disk):
    if isinstance(disk, MemoryDisk | SimulatedDisk):
        pytest.skip("a memory database is there as soon as it has a name")
    for _ in range(2):
        with pytest.raises(UsageError, match=disk.name):
            await disk.storage().open(create=False)


async def test_a_node_is_seen_by_everybody_for_as_long_as_it_lives(connect):
    one, other = await connect(), await connect()
    assert await one.nodes() == []
    assert await one.owner() is None
    await one.join("first", 1_700_000_000.5)
    await one.join("again", 1_800_000_000.5)
    await one.take([3, 200, 1])
    (node,) = await one.nodes()
    assert (node.name, node.started_at, node.pid) == ("first", 1_700_000_000.5, os.getpid())
    assert node.partitions == (1, 3, 200)
    assert (await one.beat()).nodes == [node]
    assert [each.name for each in await other.nodes()] == ["first"]
    assert str(os.getpid()) in str(node)
    assert await other.owner() is not None
    await one.close()
    assert await other.nodes() == []
    assert await other.owner() is None


@pytest.mark.guarantee("no-split-brain")
async def test_a_node_that_joins_again_ends_its_session_of_before(disk, connect):
    if not disk.many_nodes:
        pytest.skip("one node at a time")
    ghost, again, other = await connect(), await connect(), await connect()
    await ghost.join("node", 1.0)
    assert await ghost.take([1, 2, 3]) == [1, 2, 3]
    await other.join("other", 2.0)
    assert await other.take([3, 4]) == [4]
    await again.join("node", 3.0)
    async with asyncio.timeout(20):
        # The server takes a moment to do it.
        while len(nodes := (await again.beat()).nodes) > 2:
            await asyncio.sleep(0)
    assert [each.name for each in nodes] == ["other", "node"]
    assert (await again.beat()).node == nodes[1].id
    assert (await other.beat()).node == nodes[0].id
    assert await again.take([1, 2, 3, 4]) == [1, 2, 3]
    with pytest.raises(OwnershipLost):
        await ghost.take([5])


@pytest.mark.guarantee("entity-linear")
async def test_an_empty_batch_tells_whether_it_is_still_a_node(connect, disk):
    if not disk.many_nodes:
        pytest.skip("its one node cannot lose it")
    ghost, again = await connect(), await connect()
    await ghost.join("node", 1.0)
    assert (await ghost.commit(CommitBatch())).outcome is CommitOutcome.COMMITTED
    await again.join("node", 2.0)
    async with asyncio.timeout(20):
        while len((await again.beat()).nodes) > 1:
            await asyncio.sleep(0)
    try:
        assert (await ghost.commit(CommitBatch())).outcome is CommitOutcome.UNKNOWN
    except OwnershipLost:
        pass


async def test_partitions_are_taken_and_given_up_one_by_one(connect):
    storage = await connect()
    await storage.join("node", 1.0)
    assert await storage.take([]) == []
    assert await storage.take([7, 5]) == [5, 7]
    assert await storage.take([5, 6]) == [5, 6]
    await storage.release([5, 99])
    assert (await storage.beat()).nodes[0].partitions == (6, 7)
    await storage.release([6, 7])
    assert (await storage.beat()).nodes[0].partitions == ()


@pytest.mark.guarantee("no-split-brain")
async def test_only_a_node_owns_anything(connect):
    storage = await connect()
    for what in (storage.take([1]), storage.release([1]), storage.beat()):
        with pytest.raises(OwnershipLost):
            await what
