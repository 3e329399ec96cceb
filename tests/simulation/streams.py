"""The workload of streams: every reader sees what was written, once, in order and to its end."""

from __future__ import annotations

import asyncio
from typing import Any

from fenbu import CallCancelled, Entity, Handle, Unavailable, step, stream
from tests.simulation.service import SOON, app
from tests.simulation.world import World, here, patiently

PAUSE_SECONDS = 0.5


async def _pause() -> None:
    await asyncio.sleep(here().random.choice((0.0, 0.0, 0.01, 0.3)))


def _trips() -> None:
    """Now and then an attempt ends half-way."""
    if here().random.random() < 0.15:
        raise RuntimeError("half-way")


async def same_again(name: str, count: int) -> None:
    """Each attempt produces all of it."""
    here().cluster.body_begins()
    out = stream("n", str)
    for number in range(count):
        await out.write(f"{name} {number}")
        await _pause()
        _trips()


async def goes_on(name: str, count: int) -> None:
    """Each attempt goes on behind the one before, and says how it came there."""
    here().cluster.body_begins()
    out = stream("n", str)
    done = await out.resume()
    expected = [f"{name} {number}" for number in range(len(done))]
    here().check(done == expected, f"an attempt was given {done}")
    for number in range(len(done), count):
        await out.write(f"{name} {number}")
        await _pause()
        _trips()


@app.workflow
async def narrator(name: str, count: int) -> None:
    """Its own code, and steps, in turn."""
    out = stream("n", str)
    await out.write(f"{name} begins")
    await step.options(retry=SOON)(same_again, f"{name} a", count)
    await out.write(f"{name} goes on")
    await asyncio.sleep(0.3)
    await step.options(retry=SOON)(goes_on, f"{name} b", count)
    await out.write(f"{name} ends")


def narration(name: str, count: int) -> list[str]:
    return [
        f"{name} begins",
        *(f"{name} a {number}" for number in range(count)),
        f"{name} goes on",
        *(f"{name} b {number}" for number in range(count)),
        f"{name} ends",
    ]


@app.task(retry=SOON)
async def teller(name: str, count: int) -> None:
    await goes_on(name, count)
    await stream("n", str).close()
    await _pause()
    _trips()


@app.entity
class Notebook(Entity):
    notes: int = 0

    async def note(self, name: str, count: int, fails: bool) -> None:
        out = stream("n", str)
        for number in range(count):
            await out.write(f"{name} {number}")
            await step(_pause)
        self.notes += 1
        if fails:
            raise ValueError("all of it is void")


async def _read(world: World, handle: Handle[Any], seen: list[str]) -> None:
    """Reads to the end, and loses its place in between: it goes on from its last offset."""
    offset, patience = 0, 60.0
    while True:
        try:
            async with asyncio.timeout(patience):
                async for chunk in handle.stream("n", str).chunks(offset):
                    offset = chunk.offset
                    seen.append(chunk.value)
                    if world.random.random() < 0.1:
                        await world.pause(2.0)
                    if world.random.random() < 0.1:
                        break
                else:
                    return
        except (TimeoutError, Unavailable):
            await asyncio.sleep(PAUSE_SECONDS)


async def _watch(world: World, handle: Handle[Any], expected: list[str]) -> None:
    """Clients, and somebody in the process of a node, which may go down."""
    cluster, chance = world.cluster, world.random
    clients: list[list[str]] = [[] for _ in range(1 + chance.randrange(2))]
    inside: list[str] = []
    nodes = [each for each in cluster.nodes if each.gateway is not None]
    if nodes:
        process = chance.choice(nodes).process
        cluster.loop.spawn(process, _read(world, handle, inside))
    await asyncio.gather(*(_read(world, handle, seen) for seen in clients))
    for seen in clients:
        world.check(seen == expected, f"a reader of {handle.id} saw {seen} and not {expected}")
    world.check(inside == expected[: len(inside)], f"beside a node {handle.id} read {inside}")
    again: list[str] = []
    await _read(world, handle, again)
    world.check(again == expected, f"{handle.id} holds {again} and not {expected}")


async def streams(world: World, name: str) -> None:
    """Writers that crash and fail half-way, readers that come late and go on from their offset."""
    count = 1 + world.plan.size // 2

    async def told(kind: str) -> None:
        await world.pause(4.0)
        id_ = f"{name}-{kind}"
        match kind:
            case "workflow":
                call: Any = narrator.options(id=id_).bind(id_, count)
                expected = narration(id_, count)
            case "task":
                call = teller.options(id=id_).bind(id_, count)
                expected = [f"{id_} {number}" for number in range(count)]
            case _:
                fails = kind == "void"
                call = Notebook(name).note.options(id=id_).bind(id_, count, fails)
                expected = [] if fails else [f"{id_} {number}" for number in range(count)]
        (handle,) = await patiently(lambda: app.start_many([call]))
        await world.pause(2.0)
        await _watch(world, handle, expected)

    async def cancelled() -> None:
        """What was read of a call that is cancelled is a beginning."""
        id_ = f"{name}-cancelled"
        handle = await patiently(lambda: narrator.options(id=id_).start(id_, count))
        seen: list[str] = []
        reading = asyncio.create_task(_read(world, handle, seen))
        await world.pause(3.0)
        await patiently(handle.cancel)
        try:
            await patiently(handle.result)
        except CallCancelled:
            pass
        await reading
        expected = narration(id_, count)
        world.check(seen == expected[: len(seen)], f"cancelled: {seen} of {expected}")

    await asyncio.gather(
        told("workflow"), told("task"), told("operation"), told("void"), cancelled()
    )
