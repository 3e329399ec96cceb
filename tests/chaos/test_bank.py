"""Transfers between accounts on a cluster that is being broken all the time; then every sum must be exact.

pytest tests/chaos --minutes 10 --seed 3
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fenbu import Handle
from tests.chaos.rig import patiently, rig_of
from tests.end_to_end import bank
from tests.fixture.postgres import Server

log = logging.getLogger(__name__)

BANK = Path(bank.__file__)

ACCOUNTS = 1000
OPEN_MAX = 200


async def transfers(seed: int, expected: Counter[str], until: float) -> int:
    """Start one transfer after the other, so many at a time, and wait for all of them."""
    chance = random.Random(seed)
    room = asyncio.Semaphore(OPEN_MAX)

    async def transfer(number: int) -> None:
        async with room:
            source, target = (f"a{chance.randrange(ACCOUNTS)}" for _ in range(2))
            cents = chance.randrange(1, 100)
            expected[source] -= cents
            expected[target] += cents
            call = bank.transfer.options(id=f"t{number}")
            handle: Handle[str] = await patiently(lambda: call.start(source, target, cents))
            if cents % 7 == 0:
                await patiently(lambda: handle.signal("approved", cents))
            assert await patiently(handle.result) == "done"

    started = 0
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            if time.monotonic() >= until:
                break
            await room.acquire()
            room.release()
            group.create_task(transfer(number))
            started += 1
            await asyncio.sleep(0)
    return started


async def balances() -> AsyncIterator[tuple[str, int]]:
    names = [f"a{number}" for number in range(ACCOUNTS)]
    for start in range(0, ACCOUNTS, 100):
        some = names[start : start + 100]
        moves = (patiently(lambda name=name: bank.Account(name).move(0)) for name in some)
        for name, cents in zip(some, await asyncio.gather(*moves), strict=True):
            yield name, cents


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("one-outcome")
@pytest.mark.guarantee("no-split-brain")
@pytest.mark.guarantee("message-once-in-order")
@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "at_node", [False, True], ids=["clients in a process", "clients at a node"]
)
def test_a_bank_balances(
    server: Server, tmp_path: Path, minutes: float, seed: int, *, at_node: bool
) -> None:
    asyncio.run(_rage_and_check(server, tmp_path, minutes * 60, seed, at_node=at_node))


async def _rage_and_check(
    server: Server, folder: Path, seconds: float, seed: int, *, at_node: bool
) -> None:
    expected: Counter[str] = Counter()
    async with rig_of(bank.app, BANK, server, folder, seed, at_node=at_node) as rig:
        load = asyncio.create_task(transfers(seed, expected, time.monotonic() + seconds))
        await rig.rage(seconds)
        async with asyncio.timeout(120):
            count = await load
            found = {name: cents async for name, cents in balances()}
        log.info("%d transfers", count)
        assert found == {name: expected[name] for name in found}
        assert await bank.Account("log").move(0) == count
        await rig.stop()
        rig.check()
        assert rig.completed("transfer") == count
