"""The workload of random programs: in the end every cell holds what was predicted."""

from __future__ import annotations

import asyncio
from random import Random

import msgspec

from fenbu._storage.seal import Seal
from tests.simulation.interpreter import Interpreter
from tests.simulation.program import Cell, Prediction, Programs
from tests.simulation.service import app
from tests.simulation.world import World, here, patiently


def _begins() -> None:
    here().cluster.body_begins()


interpreter = Interpreter(app, _begins)

WAIT_SECONDS = 600.0
"""How long what nobody waits for may take when the clients have gone."""


async def programs(world: World, name: str) -> None:
    """Programs with predicted results, over a few cells, that call and signal and cancel each other."""
    chance = Random(f"programs {world.plan.seed} {name}")
    drawn = Programs(chance, f"{name}-", keys=3)
    prediction = Prediction()

    async def one(number: int) -> None:
        key, program = drawn.key(1), drawn.draw(most=4)
        prediction.run(key, program)
        await world.pause(4.0)
        call = interpreter.start.options(id=f"{name}-program-{number}")
        await patiently(lambda: call(key, program))

    await asyncio.gather(*(one(number) for number in range(1 + world.plan.size // 4)))
    expected = prediction.cells()
    end = world.now + WAIT_SECONDS
    while (found := _cells(world, name)) != expected and world.now < end:
        await asyncio.sleep(1.0)
    world.check(found == expected, f"cells hold {found} and not {expected}")


def _cells(world: World, name: str) -> dict[str, Cell]:
    states, hook = world.cluster.database.entities, world.cluster.registry.hook
    open_ = (lambda state: state) if hook is None else Seal(hook).open
    return {
        key: cell
        for (entity, key), each in list(states.items())
        if entity == "Cell" and key.startswith(f"{name}-")
        if (cell := msgspec.json.decode(open_(each.state), type=Cell)) != Cell()
    }
