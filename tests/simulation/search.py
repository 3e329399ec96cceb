"""A workload: calls are found by their search attributes, and these are what their code has set last."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fenbu import set_attributes, step
from fenbu._core.attribute import condition, decoded
from fenbu._storage.observer import CallFilter
from tests.simulation.service import app, some_work
from tests.simulation.world import World, patiently

STAGES = 3


@app.workflow
async def staged(number: int, *, drop: bool) -> int:
    """It says how far it is, between steps that may run twice."""
    for stage in range(STAGES):
        set_attributes(stage=stage, seen=number)
        await step(some_work, 0.05 * stage)
    set_attributes(stage=STAGES, draft=None if drop else False)
    return number


async def search(world: World, name: str) -> None:
    """Each of several calls is found by what it was given and has set, and by nothing that it had before."""
    count = world.plan.size

    async def one(number: int) -> None:
        await world.pause(4.0)
        given = {"batch": name, "number": number, "draft": True}
        call = staged.options(id=f"{name}-{number}", attributes=given)
        found = await patiently(lambda: call(number, drop=number % 2 == 0))
        world.check(found == number, f"{name}-{number} gave {found}")

    await asyncio.gather(*(one(number) for number in range(count)))
    for number in range(count):
        row = world.cluster.database.invocations[f"{name}-{number}"]
        expected: dict[str, Any] = {
            "batch": name, "number": number, "stage": STAGES, "seen": number,
        }  # fmt: skip
        if number % 2:
            expected["draft"] = False
        found = decoded(row.attributes)
        world.check(found == expected, f"{row.id} has {found}, and not {expected}")
    where = (condition("batch", "=", name), condition("stage", "<", STAGES))
    storage = cast("Any", world.cluster.machine().storage)
    late = await patiently(lambda: storage.list_calls(CallFilter(where=where)))
    world.check(not late, f"still found by what they were: {[each.id for each in late]}")
