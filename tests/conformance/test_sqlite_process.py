"""Several processes on one file: one node, and clients beside it."""

from __future__ import annotations

import asyncio
import multiprocessing
import platform
import sqlite3
import sys
from contextlib import closing

import pytest

from fenbu._core.message import Call, Retry
from fenbu._core.model import Outcome, Status
from fenbu._storage.protocol import UNPLACED, Open
from fenbu._storage.sqlite.storage import SQLiteStorage
from fenbu.errors import OwnershipLost, UsageError
from tests.fixture.row import call, finished, own, received, stored, write

OWN = """
storage = await opened(path, owner=True)
await write(storage, inserted=[call("a")])
say("owns")
hear()
await storage.close()
say("closed")
"""

BE_CLIENT = """
storage = await opened(path)
while (id := hear()):
    await storage.enqueue([Call(call(id))])
    say((await storage.outcomes([id, "row"])))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fenbu.db"


@pytest.fixture
def storage(path, runner):
    storage = SQLiteStorage(path)
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@pytest.mark.guarantee("no-split-brain")
async def test_a_second_node_is_told_who_the_first_is(path, storage, spawn):
    child = spawn(OWN, path)
    assert child.line() == "owns"
    with pytest.raises(OwnershipLost) as raised:
        await own(storage)
    assert f"process {child.process.pid} on {platform.node()}" in str(raised.value)
    child.tell()
    assert child.line() == "closed"
    assert await own(storage) == list(range(256))


@pytest.mark.guarantee("no-split-brain")
async def test_a_killed_node_can_be_replaced_at_once(path, storage, spawn):
    child = spawn(OWN, path)
    assert child.line() == "owns"
    child.kill()
    assert await own(storage) == list(range(256))
    assert (await stored(storage, "a")).invocation == call("a")


@pytest.mark.guarantee("no-split-brain")
async def test_a_link_to_the_file_is_the_same_file(path, storage):
    await own(storage)
    link = path.with_name("link.db")
    link.symlink_to(path)
    other = SQLiteStorage(link)
    await other.open()
    with pytest.raises(OwnershipLost):
        await own(other)
    await other.close()


async def test_a_client_sends_and_reads_while_a_node_works(path, storage, spawn):
    await own(storage)
    await write(storage, inserted=[finished("row", 1.0, result="42")])
    while await storage.wait_for_change(0.0):
        pass
    child = spawn(BE_CLIENT, path)
    waiting = asyncio.create_task(storage.wait_for_change(30.0))
    await asyncio.sleep(0)
    child.tell("sent")
    assert child.line() == str({
        "row": Outcome(Status.COMPLETED, "42"), "sent": Open(Status.PENDING, 1),
    })  # fmt: skip
    assert await waiting
    (arrived,) = await received(storage)
    assert arrived.message == Call(call("sent"))
    await write(storage, inserted=[call("sent", partition=33)], inbox_deleted=[arrived.number])
    await storage.enqueue([Retry(UNPLACED, "sent")])
    child.tell("again")
    assert "again" in child.line()


@pytest.mark.guarantee("accepted-never-lost")
async def test_what_was_committed_survives_the_death_of_its_process(path, storage, spawn):
    child = spawn(
        """
storage = await opened(path, owner=True)
for number in range(100_000):
    await write(storage, inserted=[call(f"{number:06}")], entries=[entry(f"{number:06}")])
    say(number)
""",
        path,
    )
    for last in range(200):
        assert child.line() == str(last)
    child.kill()
    await own(storage)
    found = await storage.load_calls([f"{number:06}" for number in range(200)])
    assert len(found) == 200
    assert all(len(each.entries) == 1 for each in found)


async def test_a_client_gets_its_turn_beside_a_node_that_never_pauses(path, storage):
    await own(storage)
    client = SQLiteStorage(path, busy_seconds=1.0)
    await client.open()
    count = 0

    async def work():
        nonlocal count
        while True:
            count += 1
            calls = [call(f"{count}-{number}", count) for number in range(300)]
            await write(storage, inserted=calls)

    # Two, so that one batch always waits while the other is being written.
    workers = [asyncio.create_task(work()) for _ in range(2)]
    for number in range(10):
        await client.enqueue([Retry(1, str(number))])
    for each in workers:
        each.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert await storage.inbox_count() == 10
    await client.close()


async def test_another_program_that_reads_does_not_stop_commits(path, storage):
    await own(storage)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM invocation").fetchone() == (0,)
        await write(storage, inserted=[call("a")])
        assert other.execute("SELECT count(*) FROM invocation").fetchone() == (0,)
    assert (await stored(storage, "a")).invocation == call("a")


def _try_in_fork(storage, pipe):
    try:
        asyncio.run(storage.load_calls(["a"]))
    except UsageError as error:
        pipe.send(str(error))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_neither_uses_nor_ends_the_ownership(path, storage, spawn):
    await own(storage)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_try_in_fork, args=(storage, sender))
    child.start()
    assert "open it anew" in receiver.recv()
    child.join()
    await write(storage, inserted=[call("a")])
    other = spawn(
        """
try:
    await opened(path, owner=True)
except Exception as error:
    say(type(error).__name__)
""",
        path,
    )
    assert other.line() == OwnershipLost.__name__


async def test_the_switch_interval_is_short_only_while_this_process_is_the_node(storage):
    before = sys.getswitchinterval()
    await own(storage)
    assert sys.getswitchinterval() < before
    await storage.close()
    assert sys.getswitchinterval() == before


def test_it_works_on_uvloop(path):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        node, client = SQLiteStorage(path), SQLiteStorage(path)
        await node.open()
        await own(node)
        await client.open()
        waiting = asyncio.create_task(node.wait_for_change(30.0))
        await asyncio.sleep(0)
        await client.enqueue([Retry(1, "a")])
        assert await waiting
        await asyncio.gather(*(write(node, inserted=[call(str(n))]) for n in range(20)))
        assert len(await node.load_calls([str(n) for n in range(20)])) == 20
        await client.close()
        await node.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
