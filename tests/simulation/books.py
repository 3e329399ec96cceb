"""The workload of lazy fields: they and the state are changed together, or not at all."""

from __future__ import annotations

import asyncio

from tests.simulation.service import Book
from tests.simulation.world import World, patiently, went_well


async def books(world: World, name: str) -> None:
    """One book gets everything that goes well, once; the other one is burnt now and then, and never torn."""
    await asyncio.gather(_kept(world, name), _burnt(world, f"{name}-burnt"))


async def _kept(world: World, name: str) -> None:
    lines: list[str] = []
    index: dict[str, int] = {}

    async def one(number: int) -> None:
        await world.pause(4.0)
        notes = await _visit(world, name, number)
        if notes is not None:
            lines.extend([f"{number} in", f"{number} out"])
            index[str(number)] = 1 + notes
            for each in range(notes):
                lines.extend([f"{number} note {each}", f"{number} end {each}"])

    await asyncio.gather(*(one(number) for number in range(2 + world.plan.size // 2)))
    await patiently(lambda: Book(name).pass_by.options(id=f"{name}-by")(1000))
    found, counted = await patiently(Book(name).all)
    world.check(sorted(found) == sorted(lines), f"{sorted(found)} and not {sorted(lines)}")
    world.check(counted == index | {"1000": 1}, f"{counted} and not {index}")


async def _burnt(world: World, name: str) -> None:
    async def one(number: int) -> None:
        await world.pause(4.0)
        if number % 3 == 2:
            await patiently(Book(name).burn.options(id=f"{name}-{number}"))
        else:
            await _visit(world, name, number)
            await patiently(Book(name).all)

    await asyncio.gather(*(one(number) for number in range(3 + world.plan.size // 2)))
    await patiently(Book(name).burn.options(id=f"{name}-last"))
    found, index = await patiently(Book(name).all)
    world.check((found, index) == ([], {}), f"a burnt book has {found} and {index}")
    left = [each for each in world.cluster.database.fields if each[1] == name]
    world.check(not left, f"rows of a burnt book are left: {left}")


async def _visit(world: World, name: str, number: int) -> int | None:
    """How many notes it has made; None if it is void."""
    chance = world.random
    what, notes = chance.choice(("visit", "visit", "visit", "fail", "end")), chance.randrange(3)
    call = Book(name).visit.options(id=f"{name}-{number}")
    handle = await patiently(lambda: call.start(number, notes, what == "fail"))
    return notes if await went_well(world, handle, what) else None
