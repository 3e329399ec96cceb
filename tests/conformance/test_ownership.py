from __future__ import annotations

import asyncio
import os

import pytest

from fenbu.errors import OwnershipLost, Unavailable, UsageError
from tests.fixture.row import call, stored, write
from tests.fixture.storage import MemoryDisk


async def test_the_owner_has_every_partition(connect):
    storage = await connect()
    assert await storage.take() == list(range(256))
    assert await storage.take() == list(range(256))


@pytest.mark.guarantee("no-split-brain")
async def test_there_is_one_owner_at_a_time(disk, storage, connect):
    other = await connect()
    with pytest.raises(OwnershipLost) as raised:
        await other.take()
    if not isinstance(disk, MemoryDisk):
        assert str(os.getpid()) in str(raised.value)
    await storage.close()
    assert await other.take() == list(range(256))


async def test_who_is_refused_can_still_be_a_client(storage, connect):
    other = await connect()
    with pytest.raises(OwnershipLost):
        await other.take()
    await write(storage, inserted=[call("a")])
    assert (await stored(other, "a")).invocation == call("a")


async def test_everybody_sees_the_same_database(connect):
    storages = [await connect() for _ in range(3)]
    metas = [await each.open() for each in storages]
    assert metas[0].cluster
    assert metas.count(metas[0]) == 3


async def test_what_was_written_is_there_after_opening_again(disk, connect):
    storage = await connect()
    await storage.take()
    await write(storage, inserted=[call("a")])
    await storage.close()
    again = await connect()
    assert await again.take() == list(range(256))
    assert (await stored(again, "a")).invocation == call("a")


async def test_closing_twice_is_closing_once(connect):
    storage = await connect()
    await storage.take()
    await storage.close()
    await storage.close()
    with pytest.raises(Unavailable):
        await storage.take()


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
    if isinstance(disk, MemoryDisk):
        pytest.skip("a memory database is there as soon as it has a name")
    with pytest.raises(UsageError, match=r"fenbu\.db"):
        await disk.storage().open(create=False)
    assert not disk.path.exists()
