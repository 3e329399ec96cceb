"""Workloads of what entities have besides operations."""

from __future__ import annotations

import asyncio
import contextlib

from fenbu import TerminalError
from tests.simulation.service import Clock, Desk
from tests.simulation.world import World, patiently, went_well


async def alarms(world: World, name: str) -> None:
    """An alarm rings once, and only the last one that an operation has set which went well."""
    chance = world.random
    for number in range(2 + world.plan.size // 2):
        await world.pause(4.0)
        seconds = chance.choice((0.0, 0.5, 3.0, 20.0))
        what = chance.choice(("set", "set", "set", "cancel", "fail"))
        if what == "cancel":
            await patiently(lambda n=number: Clock(name).stop.options(id=f"{name}-{n}")())
        else:
            call = Clock(name).set.options(id=f"{name}-{number}")
            with contextlib.suppress(TerminalError):
                await patiently(lambda c=call, n=number, s=seconds, w=what: c(n, s, w == "fail"))
    await patiently(lambda: Clock(name).set.options(id=f"{name}-last")(1000, 5.0, False))
    lines: list[str] = []
    for _ in range(400):
        lines = await patiently(Clock(name).all)
        if lines[-1] == "ring 1000":
            break
        await asyncio.sleep(0.5)
    armed: str | None = None
    for line in lines:
        what, _, number = line.partition(" ")
        if what == "ring":
            world.check(number == armed, f"an alarm rang that was not set: {lines}")
            armed = None
        else:
            armed = number if what == "set" else None
    world.check(armed is None, f"an alarm did not ring: {lines}")


async def visits(world: World, name: str) -> None:
    """Operations that are called back in their own turn: all of a visit is there, or nothing."""
    chance = world.random
    expected: list[str] = []

    async def one(number: int) -> None:
        await world.pause(4.0)
        desk, id_ = Desk(name), f"{name}-{number}"
        what = chance.choice(("visit", "visit", "fail", "end", "pass", "pass"))
        if what == "pass":
            delay = chance.choice((None, 0.5, 1.5, 3.0))
            await patiently(lambda: desk.pass_by.options(id=id_, delay=delay)(number))
            expected.append(f"{number} passed")
            return
        notes = chance.randrange(3)
        call = desk.visit.options(id=id_)
        handle = await patiently(lambda: call.start(number, notes, what == "fail"))
        if await went_well(world, handle, what):
            expected.extend([f"{number} in", f"{number} out"])
            for each in range(notes):
                expected.extend([f"{number} note {each}", f"{number} end {each}"])

    await asyncio.gather(*(one(number) for number in range(2 + world.plan.size // 2)))
    lines = await patiently(Desk(name).all)
    world.check(sorted(lines) == sorted(expected), f"{sorted(lines)} and not {sorted(expected)}")
    inside: str | None = None
    for line in lines:
        number, _, what = line.partition(" ")
        world.check(inside in (None, number), f"{line} within the visit of {inside}: {lines}")
        inside = None if what in ("out", "passed") else number
