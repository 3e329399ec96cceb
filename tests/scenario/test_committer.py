"""Group commit: who waits for a batch, and what he learns."""

from __future__ import annotations

import asyncio

import pytest

from fenbu._core.batch import CommitBatch
from fenbu._core.codec import Codec
from fenbu._core.effect import Effect, Warn
from fenbu._core.engine import Engine
from fenbu._core.handler import Registry
from fenbu._node.committer import Committer
from fenbu._node.telemetry import Telemetry
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu.errors import Unavailable


def made() -> Committer:
    return Committer(Engine(Registry(Codec())), MemoryStorage(), Telemetry(), lambda effects: None)


async def test_whoever_stops_waiting_for_a_batch_does_so_alone() -> None:
    committer = made()
    hasty, patient = (asyncio.create_task(_wait(committer)) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.sleep(0)
    await committer.flush()
    await patient
    assert hasty.cancelled()


async def test_a_batch_ends_for_nobody_after_the_end() -> None:
    committer = made()
    waiting = asyncio.create_task(_wait(committer))
    await asyncio.sleep(0)
    committer.stop(Unavailable("the disk is gone"))
    for late in (waiting, asyncio.create_task(_wait(committer))):
        with pytest.raises(Unavailable, match="the disk is gone"):
            await late


async def _wait(committer: Committer) -> None:
    await committer.durable()


async def test_the_next_batch_is_sent_before_the_effects_of_one_leave() -> None:
    """So the database writes it while calls go on here; and effects leave in the order of their batches."""
    seen: list[str] = []
    engine = Engine(Registry(Codec()))

    class Storage(MemoryStorage):
        async def commit(self, batch: CommitBatch) -> Commit:
            seen.append(f"sent {batch.inbox_deleted}")
            if batch.inbox_deleted == [1]:
                # While it is written, the next one fills.
                engine.batch.rows.inbox_deleted.append(2)
                engine.batch.effects.append(Warn("two"))
                committer.kick()
            await asyncio.sleep(0)
            return Commit(CommitOutcome.COMMITTED)

    def release(effects: list[Effect]) -> None:
        seen.extend(each.text for each in effects if isinstance(each, Warn))

    committer = Committer(engine, Storage(), Telemetry(), release)
    engine.batch.rows.inbox_deleted.append(1)
    engine.batch.effects.append(Warn("one"))
    durable = asyncio.create_task(_wait(committer))
    running = asyncio.create_task(committer.run())
    await durable
    await committer.durable()
    running.cancel()
    assert seen == ["sent [1]", "sent [2]", "one", "two"]
