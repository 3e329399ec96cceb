"""The workload of families: however a parent is ended, those that are to end with it do, and others go on."""

from __future__ import annotations

import asyncio

from fenbu import CallCancelled, CallNotFound
from tests.simulation.service import app, collector, nap
from tests.simulation.world import World, patiently

ENDLESS = 1_000_000.0


@app.workflow
async def family(name: str) -> None:
    """Waits for some, and has started others that are to end with it, or are not."""
    await collector.options(id=f"{name}-bound", on_parent_end="cancel").start(1)
    await collector.options(id=f"{name}-joined", on_parent_end="wait").start(1)
    await nap.options(id=f"{name}-free").start(0.5)
    async with asyncio.TaskGroup() as group:
        group.create_task(collector(1))
        group.create_task(collector.options(id=f"{name}-chosen")(1))
        group.create_task(asyncio.sleep(ENDLESS))


async def families(world: World, name: str) -> None:
    """Some parents are cancelled, some terminated, and some of these while they stand still."""

    async def one(id_: str) -> None:
        handle = await patiently(lambda: family.options(id=id_).start(id_))
        await world.pause(2.0)
        how = world.random.choice(("cancelled", "terminated", "paused"))
        if how == "paused":
            await patiently(lambda: handle.pause("before it ends"))
            await world.pause(2.0)
        await patiently(handle.cancel if how == "cancelled" else handle.terminate)
        try:
            await patiently(handle.result)
        except CallCancelled:
            pass
        else:
            world.check(False, f"{id_} was {how}, and has ended by itself")
        # A child that is not there was not asked for yet, or is on its way: then it is in nobody's hands, and
        # is left over at the end if it does not end.
        for child in ("-bound", "-joined", "-chosen", "/4"):
            try:
                await patiently(collector.handle(f"{id_}{child}").result)
            except (CallCancelled, CallNotFound):
                continue
            world.check(False, f"{id_}{child} has ended by itself, and its parent was {how}")
        try:
            await patiently(nap.handle(f"{id_}-free").result)
        except CallNotFound:
            return

    await asyncio.gather(*(one(f"{name}-{number}") for number in range(1 + world.plan.size // 2)))
