"""The workload of bodies that call: what runs on a node waits for calls there, wherever these run.

Nobody hears that a call does not exist which is on its way, while partitions move and sessions are lost.
"""

from __future__ import annotations

import asyncio

from fenbu import (
    AlreadyExists,
    CallCancelled,
    Entity,
    FenbuError,
    Handle,
    Retry,
    Unavailable,
    operation,
    wait_signal,
)
from fenbu._core.model import FINISHED
from tests.simulation.service import app
from tests.simulation.world import World, at, here, patiently

ROUNDS = 4
BODIES_MIN = 100
WRITES = 20


@app.entity
class Tally(Entity):
    """Who was told that it was counted."""

    numbers: list[int] = []

    @operation
    async def count(self, number: int) -> None:
        self.numbers.append(number)

    @operation(read_only=True)
    async def all(self) -> list[int]:
        return self.numbers


@app.workflow
async def squared(number: int) -> int:
    """No body: those that wait for it leave no room for others, where there is little."""
    return number * number


@app.workflow
async def told() -> int:
    return await wait_signal("word", int)


@app.task(retry=Retry(attempts=1000, first_seconds=0.5, max_seconds=0.5))
async def asks(name: str, number: int) -> list[int]:
    return await _asks(name, number)


async def _asks(name: str, number: int) -> list[int]:
    """Gives those of which it has heard that they were counted, by this run of it."""
    counted: list[int] = []
    for each in range(number * ROUNDS, (number + 1) * ROUNDS):
        try:
            await patiently(lambda each=each: _ask(name, each, counted))
            await patiently(lambda each=each: _steer(name, each))
        except FenbuError as error:
            here().check(False, f"who asks heard {type(error).__name__}: {error}")
    return counted


async def _ask(name: str, number: int, counted: list[int]) -> None:
    found = await squared(number)
    here().check(found == number * number, f"squared({number}) gave {found}")
    await Tally(f"{name}-{number % 3}").count(number)
    counted.append(number)
    handle: Handle[int] = await squared.options(id=f"{name}-{number}").start(number)
    found = await handle.result()
    here().check(found == number * number, f"{handle.id} gave {found}")
    call = squared.options(id=f"{name}-once-{number}", if_exists="reject")
    try:
        handle = await call.start(number)
    except AlreadyExists:
        handle = squared.handle(f"{name}-once-{number}")
    found = await handle.result()
    here().check(found == number * number, f"{handle.id} gave {found}")


async def _steer(name: str, number: int) -> None:
    """What comes for a call from the node that has started it, or from another one."""
    handle = await told.options(id=f"{name}-told-{number}").start()
    if await handle.status() not in FINISHED:
        await handle.signal("word", number)
    here().check(await handle.result() == number, f"{handle.id} gave something else")
    handle = await told.options(id=f"{name}-ended-{number}").start()
    await (handle.cancel() if number % 2 else handle.terminate())
    try:
        await handle.result()
    except CallCancelled:
        return
    here().check(False, f"{handle.id} has not been cancelled")


async def asking(world: World, name: str) -> None:
    """What bodies were told has happened."""

    async def one(number: int) -> list[int]:
        await world.pause(8.0)
        if world.plan.calls_max < BODIES_MIN:
            # Bodies that wait for calls keep their places, and there are few: no body does it.
            return await _asks(name, number)
        call = asks.options(id=f"{name}-{number}-asks")
        return await patiently(lambda: call(name, number))

    found = await asyncio.gather(*(one(number) for number in range(1 + world.plan.size // 2)))
    tallies = [await patiently(Tally(f"{name}-{each}").all) for each in range(3)]
    there = {number for numbers in tallies for number in numbers}
    lost = {number for counted in found for number in counted} - there
    world.check(not lost, f"counted, it was said, and not there: {sorted(lost)}")


async def seeing(world: World, name: str) -> None:
    """Who asks after a write was acknowledged sees it: no node answers from what was once its own."""
    written: list[int] = []

    async def write() -> None:
        for number in range(WRITES):
            await patiently(lambda number=number: Tally(name).count(number))
            written.append(number)
            await world.pause(2.0)

    async def read() -> None:
        while not writing.done():
            await world.pause(1.0)
            before = set(written)
            try:
                found = await at(world, world.random.choice(world.nodes), Tally(name).all)
            except (IndexError, Unavailable):
                continue  # No node runs, or this one has no session.
            world.check(before <= set(found), f"{found} was seen after {before} was written")

    writing = asyncio.ensure_future(write())
    await asyncio.gather(writing, *(read() for _ in range(3)))
