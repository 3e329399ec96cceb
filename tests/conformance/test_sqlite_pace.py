"""Small commits on a quick disk are made by the event loop's own thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from fenbu._storage.protocol import CommitBatch, CommitOutcome
from fenbu._storage.sqlite import commit
from fenbu._storage.sqlite.storage import SQLiteStorage
from tests.fixture.row import call, stored


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fenbu.db"


@pytest.fixture
def storage(path, runner, monkeypatch):
    monkeypatch.setattr(commit, "QUICK_SECONDS", 60.0)
    storage = SQLiteStorage(path)
    runner.run(storage.open())
    yield storage
    runner.run(storage.close())


@pytest.fixture
def threads(monkeypatch):
    """The threads in which commits are made."""
    found: list[threading.Thread] = []
    write = commit.write

    def spy(*args):
        found.append(threading.current_thread())
        return write(*args)

    monkeypatch.setattr(commit, "write", spy)
    return found


async def test_a_small_commit_needs_no_other_thread(storage, threads):
    done = await storage.commit(CommitBatch(inserted=[call("a")]))
    assert done.outcome is CommitOutcome.COMMITTED
    assert threads == [threading.current_thread()]
    assert (await stored(storage, "a")).invocation == call("a")


async def test_a_large_commit_goes_to_the_writer(storage, threads):
    many = [call(f"c{number}", number) for number in range(50)]
    await storage.commit(CommitBatch(inserted=many))
    assert threading.current_thread() not in threads


async def test_a_slow_disk_is_left_to_the_writer(storage, threads, monkeypatch):
    monkeypatch.setattr(commit, "QUICK_SECONDS", 0.0)
    await storage.commit(CommitBatch(inserted=[call("a")]))
    assert threading.current_thread() not in threads


async def test_behind_other_work_it_goes_to_the_writer(storage, threads):
    first = asyncio.create_task(storage.revive(["checkout"], [1]))
    await asyncio.sleep(0)
    await storage.commit(CommitBatch(inserted=[call("a")]))
    assert threading.current_thread() not in threads
    await first


async def test_it_does_not_hold_the_loop_while_another_process_writes(path, storage, threads):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        committing = asyncio.create_task(storage.commit(CommitBatch(inserted=[call("a")])))
        while len(threads) < 2:
            await asyncio.sleep(0)
        assert not committing.done()
        other.execute("COMMIT")
    assert (await committing).outcome is CommitOutcome.COMMITTED
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


async def test_an_interrupt_in_the_middle_leaves_nothing_open(path, storage, monkeypatch):
    def interrupted(session, todo, path):
        del path
        session.begin()
        session.execute(*todo[0])
        raise KeyboardInterrupt

    write = commit.write
    monkeypatch.setattr(commit, "write", interrupted)
    committing = storage.commit(CommitBatch(inserted=[call("a")]))
    with pytest.raises(KeyboardInterrupt):
        committing.send(None)
    monkeypatch.setattr(commit, "write", write)
    assert (
        await storage.commit(CommitBatch(inserted=[call("a")]))
    ).outcome is CommitOutcome.COMMITTED
