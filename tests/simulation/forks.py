"""The workload of forks: what was done before the fork is not done again, and what comes behind it, once."""

from __future__ import annotations

import asyncio

from fenbu import AlreadyExists, CallNotFound, TerminalError, step
from tests.simulation.service import Log, app, some_work
from tests.simulation.world import World, patiently


async def named(number: int) -> int:
    await some_work(0.01)
    return number


async def ends() -> str:
    raise TerminalError("it cannot end so")


@app.workflow
async def project(log: str, parts: int) -> str:
    """Parts that are done one after the other and two at a time, and an end that is refused."""
    for part in range(parts):
        number = await step(named, part)
        await asyncio.gather(Log(log).append(f"a{number}"), Log(log).append(f"b{number}"))
        await asyncio.sleep(0.05)
    said = await step(ends)
    await Log(log).append(said)
    return said


async def forks(world: World, name: str) -> None:
    """A project is refused, and goes on with another answer: from its end, and from one of its parts."""
    parts = 1 + world.plan.size // 3
    id_, log = f"{name}-project", f"{name}-log"
    try:
        await patiently(lambda: project.options(id=id_)(log, parts))
    except TerminalError:
        pass
    once = sorted(f"{side}{part}" for side in "ab" for part in range(parts))
    lines = await patiently(Log(log).all)
    world.check(sorted(lines) == once, f"the project has done {lines}")

    handle = project.handle(id_)

    async def forked(place: int | str, results: dict[int | str, object], new_id: str) -> str | None:
        async def begin() -> None:
            try:
                await handle.fork(place, results=results, id=new_id)
            except AlreadyExists:
                pass  # It was accepted, and nobody said so.

        await patiently(begin)
        while True:
            try:
                return await patiently(project.handle(new_id).result)
            except CallNotFound:
                await asyncio.sleep(0.5)
            except TerminalError:
                return None

    said = await forked("ends", {"ends": "agreed"}, f"{name}-agreed")
    lines = await patiently(Log(log).all)
    world.check(said == "agreed", f"the end said {said}")
    world.check(
        sorted(lines) == sorted([*once, "agreed"]), f"forked at its end it has done {lines}"
    )

    part = world.random.randrange(parts)
    said = await forked(1 + 4 * part, {}, f"{name}-part")
    again = [f"{side}{each}" for side in "ab" for each in range(part, parts)]
    lines = await patiently(Log(log).all)
    world.check(said is None, f"the end said {said}")
    world.check(
        sorted(lines) == sorted([*once, "agreed", *again]),
        f"forked at part {part} it has done {lines}",
    )

    # What was forked is forked again, at the same place or another.
    handle = project.handle(f"{name}-part")
    other = world.random.choice((part, world.random.randrange(part, parts)))
    said = await forked(1 + 4 * other, {}, f"{name}-again")
    more = [f"{side}{each}" for side in "ab" for each in range(other, parts)]
    lines = await patiently(Log(log).all)
    world.check(said is None, f"the end said {said}")
    world.check(
        sorted(lines) == sorted([*once, "agreed", *again, *more]),
        f"forked at part {part} and then at {other} it has done {lines}",
    )
