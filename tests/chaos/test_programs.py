"""Random programs on a cluster that is being broken all the time: every cell must hold what was predicted.

pytest tests/chaos/test_programs.py --minutes 10 --seed 3
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from pathlib import Path

import msgspec
import pytest

from fenbu._core.model import FINISHED
from fenbu._storage.observer import Observer
from fenbu._storage.open import storage_of
from tests.chaos import programs as service
from tests.chaos.rig import patiently, rig_of
from tests.fixture.postgres import Server
from tests.simulation.program import Cell, Prediction, Programs

log = logging.getLogger(__name__)

KEYS = 1000
"""Cells per layer. A client writes to those of the first layer, programs to the others."""
OPEN_MAX = 50
CELLS_MAX = 100_000


async def run_programs(seed: int, prediction: Prediction, until: float) -> int:
    """Start one program after the other, so many at a time, and wait for all of them."""
    drawn = Programs(random.Random(seed), "", KEYS)
    room = asyncio.Semaphore(OPEN_MAX)

    async def run(number: int) -> None:
        key, program = drawn.key(1), drawn.draw()
        prediction.run(key, program)
        call = service.interpreter.start.options(id=f"program-{number}")
        handle = await patiently(lambda: call.start(key, program))
        await patiently(handle.result)
        room.release()

    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            await room.acquire()
            if time.monotonic() >= until:
                return number
            group.create_task(run(number))
    raise AssertionError("there is always a next number")


async def drained(observer: Observer) -> None:
    """Until all has ended that nobody waits for."""
    while await observer.inbox_count() or any(
        status not in FINISHED for _, status in await observer.count_calls()
    ):
        await asyncio.sleep(0.2)


async def cells(observer: Observer) -> dict[str, Cell]:
    """What the cells hold, by key: those that hold anything."""
    found = await observer.list_entities("Cell", limit=CELLS_MAX)
    decoded = {each.key: msgspec.json.decode(each.state or b"{}", type=Cell) for each in found}
    return {key: cell for key, cell in decoded.items() if cell != Cell()}


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("one-outcome")
@pytest.mark.guarantee("message-once-in-order")
@pytest.mark.guarantee("no-split-brain")
@pytest.mark.end_to_end
def test_every_cell_holds_what_was_predicted(
    server: Server, tmp_path: Path, minutes: float, seed: int
) -> None:
    asyncio.run(_rage_and_check(server, tmp_path, minutes * 60, seed))


async def _rage_and_check(server: Server, folder: Path, seconds: float, seed: int) -> None:
    prediction = Prediction()
    path = Path(service.__file__)
    async with rig_of(service.app, path, server, folder, seed) as rig:
        load = asyncio.create_task(run_programs(seed, prediction, time.monotonic() + seconds))
        await rig.rage(seconds)
        observer = storage_of(rig.url)
        await observer.open()
        async with asyncio.timeout(120):
            count = await load
            await drained(observer)
            found = await cells(observer)
        await observer.close()
        expected = prediction.cells()
        log.info("%d programs, %d cells", count, len(expected))
        assert found.keys() == expected.keys()
        assert {
            key: (found[key], cell) for key, cell in expected.items() if found[key] != cell
        } == {}
        await rig.stop()
        rig.check()
        assert rig.completed("start") == count
