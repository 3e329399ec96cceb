"""A full disk: the commit is refused and says why, and the same batch goes through once there is room."""

from __future__ import annotations

import os
import subprocess

import pytest

from fenbu._core.message import Call, Cancel, Restore
from fenbu._storage.protocol import CommitBatch, CommitOutcome
from fenbu._storage.sqlite.storage import SQLiteStorage
from fenbu.errors import Unavailable
from tests.fixture.row import call, entry, own, stored, write

BIG = "x" * 1_000_000


async def test_a_file_at_its_limit(tmp_path):
    storage = SQLiteStorage(tmp_path / "fenbu.db", pages_max=100)
    await storage.open()
    await own(storage)
    await write(storage, inserted=[call("before")])
    one = CommitBatch(inserted=[call("one", args=BIG)])
    many = CommitBatch(inserted=[call("many", args=BIG)], entries=[entry("many")])
    for batch in (one, many):
        commit = await storage.commit(batch)
        assert commit.outcome is CommitOutcome.REFUSED
        assert "no room left" in str(commit.error)
    with pytest.raises(Unavailable, match="no room left"):
        await storage.enqueue([Call(call("client", args=BIG))])
    coming = [
        Restore(call("small"), []),
        Restore(call("big", args=BIG), []),
        Cancel(1, "small", ""),
    ]
    with pytest.raises(Unavailable, match="no room left"):
        await storage.enqueue_new(coming)
    assert await storage.outcomes(["small", "big"]) == {}
    assert await storage.inbox_count() == 0
    assert await storage.load_calls(["one", "many"]) == []
    await write(storage, inserted=[call("small")])
    await storage._writer.run(
        lambda connection: connection.execute("PRAGMA max_page_count = 10000")
    )
    assert await storage.enqueue_new(coming[1:]) == []
    for batch in (many, one):
        assert (await storage.commit(batch)).outcome is CommitOutcome.COMMITTED
    assert (await stored(storage, "many")).entries == [entry("many")]
    await storage.close()


@pytest.fixture
def small_disk(tmp_path):
    """A real one, of two MiB in memory, where this user may mount it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting needs more rights")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


async def test_a_disk_without_room(small_disk):
    storage = SQLiteStorage(small_disk / "fenbu.db")
    await storage.open()
    await own(storage)
    await write(storage, inserted=[call("before")])
    ballast = small_disk / "ballast"
    ballast.write_bytes(os.urandom(1_400_000))
    batches = [
        CommitBatch(inserted=[call("one", args=BIG)]),
        CommitBatch(inserted=[call("many", args=BIG)], entries=[entry("many")]),
    ]
    for batch in batches:
        commit = await storage.commit(batch)
        assert commit.outcome is CommitOutcome.REFUSED
        assert "no room left" in str(commit.error)
    assert await storage.load_calls(["one", "many"]) == []
    ballast.unlink()
    assert (await storage.commit(batches[1])).outcome is CommitOutcome.COMMITTED
    assert (await stored(storage, "many")).entries == [entry("many")]
    assert (await stored(storage, "before")).invocation == call("before")
    await storage.close()


async def test_an_input_output_error_in_commit_leaves_the_outcome_open(tmp_path, spawn):
    """The file may not grow, which the system reports as an I/O error and not as a full disk."""
    child = spawn(
        """
storage = await opened(path, owner=True)
await write(storage, inserted=[call("before")])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
batch = CommitBatch(inserted=[call("a", args="x" * 1_000_000)], entries=[entry("a")])
commit = await storage.commit(batch)
say(commit.outcome.value, commit.error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
say(len(await storage.load_calls(["a"])), len(await storage.load_calls(["before"])))
say((await storage.commit(batch)).outcome.value)
await storage.close()
""",
        tmp_path / "fenbu.db",
    )
    assert child.line().startswith("unknown")
    assert child.line() == "0 1"
    assert child.line() == "committed"
