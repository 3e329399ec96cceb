"""Hints: what one process writes wakes the others, soon and without asking the database all the time."""

from __future__ import annotations

import asyncio

from fenbu._core.message import Call, Retry
from tests.fixture.postgres import about_hints
from tests.fixture.row import call, finished, write

LONG = 30.0
"""Far longer than any of these waits takes; the test's own timeout is its alarm."""


async def settled(storage) -> None:
    """What happened up to here is no news any more."""
    while await storage.wait_for_change(0.0):
        pass


async def test_a_clients_message_wakes_the_node(storage, connect):
    client = await connect()
    await settled(storage)
    waiting = asyncio.create_task(storage.wait_for_change(LONG))
    await asyncio.sleep(0)
    await client.enqueue([Retry(1, "a")])
    assert await waiting


async def test_a_commit_of_the_node_wakes_a_client(storage, connect):
    client = await connect()
    await settled(client)
    waiting = asyncio.create_task(client.wait_for_change(LONG))
    await asyncio.sleep(0)
    await write(storage, inserted=[finished("a", 1.0)])
    assert await waiting


async def test_what_happens_between_two_waits_ends_the_second(storage, connect):
    client = await connect()
    await settled(storage)
    await settled(client)
    await client.enqueue([Call(call("a"))])
    assert await storage.wait_for_change(LONG)
    await settled(client)
    await write(storage, inserted=[finished("b", 1.0)])
    assert await client.wait_for_change(LONG)


@about_hints
async def test_a_node_is_not_woken_by_its_own_commits(storage):
    await settled(storage)
    await write(storage, inserted=[finished("a", 1.0)])
    assert not await storage.wait_for_change(0.1)


@about_hints
async def test_silence_ends_after_its_time(storage, connect):
    client = await connect()
    for each in (storage, client):
        await settled(each)
        assert not await each.wait_for_change(0.05)


async def test_a_wait_can_be_cancelled_and_begun_again(storage, connect):
    client = await connect()
    await settled(storage)
    waiting = asyncio.create_task(storage.wait_for_change(LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    await client.enqueue([Retry(1, "a")])
    assert await storage.wait_for_change(LONG)
