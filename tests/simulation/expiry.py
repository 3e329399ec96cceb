"""The workloads of entities that are forgotten, and of those that are watched."""

from __future__ import annotations

import asyncio

from fenbu import Unavailable
from tests.simulation.service import TTL_SECONDS, Board, Lease, app, observed
from tests.simulation.world import PAUSE_SECONDS, World, patiently

CLOCKS_SECONDS = 25.0
"""So far apart the clocks of nodes may be: those of a seed are set again and again."""

GONE_SECONDS = 3_000.0
"""When it must be gone, by nodes that crash and come back."""

SEEN_SECONDS = 3_000.0
"""When the last state must have been seen by all."""


async def leases(world: World, name: str) -> None:
    """What a client has written is there as long as it was promised, whole, and then it is gone."""

    async def one(key: str) -> None:
        seen: list[int] = []
        changed = world.now
        for number in range(2 + world.plan.size // 2):
            # Most come when it is just being looked for, or right after that.
            about = world.random.uniform(TTL_SECONDS - 1.0, TTL_SECONDS + 11.0)
            await asyncio.sleep(world.random.choice((0.0, 0.2, 1.0, 20.0, about, about, about)))
            seconds = world.random.choice((0.0, 0.0, 1.0, 2 * TTL_SECONDS))
            call = Lease(key).put.options(id=f"{key}-{number}")
            began = world.now
            found = await patiently(lambda c=call, n=number, s=seconds: c(n, s))
            world.check(found[-1] == number, f"{found} does not end with {number}")
            if found != [*seen, number]:
                world.check(found == [number], f"{found} is neither {seen} nor new")
                # It began before the operation was seen to have ended, and ended after that.
                idle = world.now - changed - seconds
                early = TTL_SECONDS - CLOCKS_SECONDS - idle
                world.check(early <= 0, f"forgotten {early} s early: {seen} at {began}")
            seen, changed = found, began + seconds
        for _ in range(int(GONE_SECONDS / 10)):
            if not await patiently(Lease(key).all):
                return
            await asyncio.sleep(10.0)
        world.check(False, f"{key} has not been forgotten")

    await asyncio.gather(*(one(f"{name}-{each}") for each in range(2)))


async def watches(world: World, name: str) -> None:
    """Who watches sees no state after a newer one, none that never was, and the last one in the end."""
    count = 3 + world.plan.size

    async def write() -> None:
        for number in range(1, count + 1):
            await world.pause(4.0)
            # Again and again until it is known to be there; a second time it changes nothing.
            await patiently(lambda n=number: Board(name).put.options(id=f"{name}-{n}")(n))

    async def watch() -> None:
        seen = 0
        while seen < count:
            try:
                async for each in app.watch(Board(name)):
                    number = 0 if each is None else each.state.number
                    world.check(number >= seen, f"{number} was seen after {seen}")
                    world.check(number <= count, f"{number} was never written")
                    seen = number
                    if seen == count:
                        break
            except Unavailable:
                await asyncio.sleep(PAUSE_SECONDS)

    async def on_a_node() -> None:
        seen = await patiently(lambda: observed.options(id=f"{name}-observed")(name, count))
        world.check(seen == sorted(set(seen)), f"a node has seen {seen}")

    async with asyncio.timeout(SEEN_SECONDS):
        await asyncio.gather(
            write(), watch(), world.cluster.client(f"{name}-watch", watch), on_a_node()
        )
