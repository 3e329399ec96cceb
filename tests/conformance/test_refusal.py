"""A database that cannot write just now: nothing is lost, and the same batch may be tried again."""

from __future__ import annotations

import pytest

from fenbu._core.message import Retry
from fenbu._storage.protocol import CommitBatch, CommitOutcome
from fenbu.errors import Unavailable
from tests.fixture.row import call, entry, own, stored, write
from tests.fixture.storage import MemoryDisk, SimulatedDisk


@pytest.fixture
def impatient(disk, runner):
    storage = disk.impatient()

    async def begin():
        await storage.open()
        await own(storage)

    runner.run(begin())
    yield storage
    runner.run(storage.close())


async def test_a_refused_batch_has_written_nothing_and_can_be_tried_again(disk, impatient):
    for batch in (
        CommitBatch(inserted=[call("a")]),
        CommitBatch(inserted=[call("b")], entries=[entry("b")]),
    ):
        with disk.refusing(impatient):
            for _ in range(2):
                commit = await impatient.commit(batch)
                assert commit.outcome is CommitOutcome.REFUSED
                assert commit.error
        assert await impatient.load_calls([batch.inserted[0].id]) == []
        assert (await impatient.commit(batch)).outcome is CommitOutcome.COMMITTED
    assert (await stored(impatient, "b")).entries == [entry("b")]


@pytest.mark.guarantee("one-outcome")
async def test_what_happens_after_a_refusal_belongs_to_the_next_batch(disk, impatient):
    """Else the row would run ahead of the journal and the messages that the next batch brings."""
    mine = call("a")
    batch = CommitBatch(inserted=[mine])
    with disk.refusing(impatient):
        await impatient.commit(batch)
    mine.attempt = 5
    assert (await impatient.commit(batch)).outcome is CommitOutcome.COMMITTED
    assert (await stored(impatient, "a")).invocation.attempt == 0
    await write(impatient, updated=[mine])
    assert (await stored(impatient, "a")).invocation.attempt == 5


async def test_reads_go_on_meanwhile(disk, impatient):
    await write(impatient, inserted=[call("a")])
    with disk.refusing(impatient):
        assert (await stored(impatient, "a")).invocation == call("a")
        assert await impatient.outcomes(["a"])


async def test_a_client_hears_that_nothing_was_accepted(disk, impatient):
    if isinstance(disk, MemoryDisk | SimulatedDisk):
        pytest.skip("only commits of the fake can be refused")
    with disk.refusing(impatient), pytest.raises(Unavailable, match="locked"):
        await impatient.enqueue([Retry(1, "a")])
    assert await impatient.inbox_count() == 0
    await impatient.enqueue([Retry(1, "a")])
    assert await impatient.inbox_count() == 1
