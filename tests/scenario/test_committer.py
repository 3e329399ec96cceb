"""Group commit: who waits for a batch, and what he learns."""

from __future__ import annotations

import asyncio

import pytest

from fenbu._core.codec import Codec
from fenbu._core.engine import Engine
from fenbu._core.handler import Registry
from fenbu._node.committer import Committer
from fenbu._node.telemetry import Telemetry
from fenbu._storage.memory.storage import MemoryStorage
from fenbu.errors import Unavailable


@pytest.fixture
def committer() -> Committer:
    return Committer(Engine(Registry(Codec())), MemoryStorage(), Telemetry(), lambda effects: None)


async def test_whoever_stops_waiting_for_a_batch_does_so_alone(committer: Committer) -> None:
    hasty, patient = (asyncio.create_task(_wait(committer)) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.sleep(0)
    await committer.flush()
    await patient
    assert hasty.cancelled()


async def test_a_batch_ends_for_nobody_after_the_end(committer: Committer) -> None:
    waiting = asyncio.create_task(_wait(committer))
    await asyncio.sleep(0)
    committer.stop(Unavailable("the disk is gone"))
    for late in (waiting, asyncio.create_task(_wait(committer))):
        with pytest.raises(Unavailable, match="the disk is gone"):
            await late


async def _wait(committer: Committer) -> None:
    await committer.durable()
