"""The workload of pauses: calls that stand still now and then end as if they had not."""

from __future__ import annotations

import asyncio

from fenbu import CallCancelled, Handle
from tests.simulation import service
from tests.simulation.service import Account
from tests.simulation.world import World, patiently


async def pauses(world: World, name: str) -> None:
    """Transfers that are paused and resumed, now and again, end as if they had not been."""
    giver, taker = f"{name}-giver", f"{name}-taker"
    count = 1 + world.plan.size

    async def disturb(handle: Handle[None]) -> None:
        for _ in range(1 + world.random.randrange(3)):
            await world.pause(3.0)
            await patiently(lambda: handle.pause("now and again"), anywhere=False)
            await world.pause(3.0)
            await patiently(handle.resume, anywhere=False)

    async def move(number: int) -> None:
        await world.pause(3.0)
        call = service.transfer.options(
            id=f"{name}-{number}", delay=world.random.choice((0.0, 0.0, 4.0))
        )
        seconds = world.random.choice((0.0, 0.5, 5.0))
        handle = await patiently(lambda: call.start(giver, taker, 1, seconds))
        disturbing = asyncio.create_task(disturb(handle))
        if number == 0:
            await disturbing
            await patiently(lambda: handle.pause("until it is cancelled"))
            await patiently(handle.cancel)
        await disturbing
        try:
            await patiently(handle.result)
        except CallCancelled:
            world.check(number == 0, f"transfer {number} was cancelled by nobody")

    await asyncio.gather(*map(move, range(count)))
    given = 1000 - await patiently(Account(giver).balance)
    taken = await patiently(Account(taker).balance) - 1000
    # The first may have been cancelled between its halves, which its code does not undo.
    world.check(count - 1 <= taken <= given <= count, f"{given} given, {taken} taken, of {count}")
