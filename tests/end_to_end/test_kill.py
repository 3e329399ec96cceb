"""Real processes, killed: nothing that was accepted is lost, and every sum is exact."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fenbu import Handle, Status
from tests.end_to_end import bank
from tests.end_to_end.process import NodeProcess

pytestmark = pytest.mark.end_to_end

TRANSFERS = 300
KILLS = 6


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/bank.db"
    bank.app.url = url
    return url


async def until(handle: Handle[Any], status: Status) -> None:
    """A status has no event to await from another process: look until it is so."""
    async with asyncio.timeout(20):
        while await handle.status() is not status:
            await asyncio.sleep(0)


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("message-once-in-order")
def test_a_bank_whose_node_is_killed_balances_to_the_cent(url: str) -> None:
    chance = random.Random(7)
    expected: Counter[str] = Counter()

    async def work(node: NodeProcess) -> None:
        handles = []
        for n in range(TRANSFERS):
            source, target = (f"a{chance.randrange(20)}" for _ in range(2))
            cents = chance.randrange(1, 100)
            expected[source] -= cents
            expected[target] += cents
            handle = await bank.transfer.options(id=f"t{n}").start(source, target, cents)
            if cents % 7 == 0:
                await handle.signal("approved", cents)
            handles.append(handle)
        for kill in range(1, KILLS + 1):
            # Some more have ended: it has got further since the last time.
            await handles[kill * TRANSFERS // (KILLS + 2)].result(timeout=60)
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(node.start)
        assert [await each.result(timeout=60) for each in handles] == ["done"] * TRANSFERS
        found = {name: await bank.Account(name).move(0) for name in expected}
        assert found == dict(expected)
        assert await bank.Account("log").move(0) == TRANSFERS

    async def main() -> None:
        with NodeProcess(url) as node:
            async with bank.app.client():
                await work(node)
            assert node.stop() == 0

    asyncio.run(main())


def test_sigterm_lets_bodies_end(url: str) -> None:
    async def main() -> None:
        async with bank.app.client():
            with NodeProcess(url) as node:
                handle = await bank.long.start(0.5)
                await until(handle, Status.RUNNING)
                assert await asyncio.to_thread(node.stop) == 0
                assert await handle.status() is Status.COMPLETED

    asyncio.run(main())


def test_sigterm_stops_within_its_deadline_and_the_rest_runs_again(url: str) -> None:
    async def main() -> None:
        async with bank.app.client():
            with NodeProcess(url, "--drain", "0.2") as node:
                handle = await bank.long.start(2.0)
                await until(handle, Status.RUNNING)
                assert await asyncio.to_thread(node.stop) == 0
                assert await handle.status() is Status.RUNNING
                await asyncio.to_thread(node.start)
                assert await handle.result(timeout=20) == "ended"

    asyncio.run(main())


def test_a_task_that_takes_its_process_down_is_quarantined_and_the_others_go_on(url: str) -> None:
    async def main() -> None:
        async with bank.app.client():
            neighbours = await bank.innocent.start_many([(n,) for n in range(20)])
            murder = await bank.murder.start()
            with NodeProcess(url) as node:
                for _ in range(4):
                    assert await asyncio.to_thread(node.wait) == 9
                    await asyncio.to_thread(node.start)
                results = [await each.result(timeout=20) for each in neighbours]
                assert results == list(range(20))
                await until(murder, Status.QUARANTINED)
                assert await asyncio.to_thread(node.stop) == 0

    asyncio.run(main())


@pytest.mark.guarantee("no-split-brain")
def test_a_second_node_is_refused_and_says_why(url: str) -> None:
    with NodeProcess(url) as node:
        with pytest.raises(AssertionError, match=f"already has a node: process {node.process.pid}"):
            NodeProcess(url)
        assert node.stop() == 0
