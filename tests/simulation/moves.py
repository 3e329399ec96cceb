"""The workload of calls that move: from a cluster that ran before into this one, as `fenbu import` does it.

They leave at any moment of their lives, while nodes crash there, and come while nodes crash here. Where they
come from they go on as well, which an operator would not let them: so it is known how they end if they stay.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from msgspec import Struct

import fenbu
from fenbu import Handle, step
from fenbu._core import history
from fenbu._core.history import History
from fenbu._core.model import EntryKind, Loaded
from fenbu._testing.cluster import Cluster
from fenbu._testing.simulation import Plan, Report, run
from tests.simulation.service import SOON, app
from tests.simulation.tasks import begin_tasks
from tests.simulation.world import World, begin, here, patiently

STEPS = 4

RAN = "ran"
"""Prefix, in the world's table, of the steps that have run."""


async def marked(place: str) -> str:
    world = here()
    world.cluster.body_begins()
    await asyncio.sleep(0.05)
    world.cluster.database.table[f"{RAN} {place}"] = True
    return place


def child_of(id_: str) -> str:
    return f"{id_}-child"


@app.workflow
async def moves_along(number: int) -> int:
    """A child, which waits longer than its parent takes to leave."""
    return number + await fenbu.wait_signal("go", int)


@app.workflow
async def moving(name: str) -> list[str]:
    """Whatever comes from its id, its time of acceptance and its journal is in its result."""
    found = [str(fenbu.uuid4())]
    child = asyncio.create_task(moves_along.options(id=child_of(name))(len(name)))
    for number in range(STEPS):
        found.append(await step.options(retry=SOON)(marked, f"{name} {number}"))
        await asyncio.sleep(0.4)
    found += [str(await fenbu.wait_signal("go", int)), str(await child), str(fenbu.uuid4())]
    return found


class Luggage(Struct):
    """A call that has left."""

    id: str
    texts: list[bytes]
    """Its history and those of its children, as they were in one moment."""
    has_begun: bool
    recorded: int
    """How many of its steps have an outcome there."""
    result: list[str]
    """How it ended where it came from."""
    final: bytes
    """Its history after that."""


_left: dict[str, list[Luggage]] = defaultdict(list)
"""By the name of the workload."""


def depart(plan: Plan, names: list[str]) -> Report:
    """A run of another cluster, from which calls leave."""
    _left.clear()

    async def scenario(cluster: Cluster) -> None:
        world = World(cluster, plan)
        begin(world)
        begin_tasks()
        await asyncio.gather(
            *(
                cluster.client(
                    f"{name}-{number}", lambda name=name, n=number: _leave(world, name, n)
                )
                for name in names
                for number in range(1 + plan.size // 2)
            )
        )

    return run(app, scenario, plan)


async def _leave(world: World, name: str, number: int) -> None:
    id_ = f"{name}-{number}"
    call = moving.options(id=id_, delay=world.random.choice((0.0, 0.0, 0.0, 4.0)))
    handle = await patiently(lambda: call.start(id_))
    await world.pause(4.0)
    while (found := await patiently(lambda: _export(id_))) is None:
        await asyncio.sleep(0.1)
    for each in (handle, moves_along.handle(child_of(id_))):
        await _is_there(world, each.id)
        await patiently(lambda each=each: each.signal("go", 1))
    found.result = await patiently(handle.result)
    (ended,) = await patiently(lambda: app.runtime.gateway.storage.load_calls([id_]))
    found.final = _written(ended)
    _left[name].append(found)


async def _export(id_: str) -> Luggage | None:
    """What is there of a call; None if the message that makes its child is on its way."""
    loaded = await app.runtime.gateway.storage.load_calls([id_, child_of(id_)])
    by_id = {each.invocation.id: each for each in loaded}
    if id_ not in by_id:
        return None
    moved = by_id[id_]
    has_begun = moved.invocation.started_at is not None
    if has_begun and len(loaded) == 1:
        return None
    done = [each for each in moved.entries if each.kind is EntryKind.STEP_COMPLETED]
    return Luggage(id_, [_written(each) for each in loaded], has_begun, len(done), [], b"")


def _written(loaded: Loaded) -> bytes:
    # Its place among the calls of one database.
    loaded.invocation.sequence = 0
    return history.write(History(loaded))


async def moves(world: World, name: str) -> None:
    """Each ends as if it had not moved, and no step that was recorded runs again."""
    await asyncio.gather(*(_arrive(world, each) for each in _left[name]))


async def _arrive(world: World, luggage: Luggage) -> None:
    await world.pause(4.0)
    id_, asks = luggage.id, world.random.random() < 0.3
    if not luggage.has_begun and world.random.random() < 0.5:
        id_ = f"{id_}-renamed"
    for text in luggage.texts:
        read = history.read(text)
        new = id_ if read.loaded.invocation.id == luggage.id else None
        message = history.restored(read, app.registry.partition_count, id_=new, goes_on=not asks)
        # Whoever is not sure whether it has come sends it again.
        for _ in range(world.random.choice((1, 1, 2))):
            await patiently(lambda m=message: app.runtime.gateway.storage.enqueue([m]))
        await world.pause(1.0)
    handle: Handle[list[str]] = moving.handle(id_)
    for each in (handle, moves_along.handle(child_of(luggage.id))):
        await _is_there(world, each.id)
        if asks and len(luggage.texts) > (each is not handle):
            await patiently(each.retry)
        await patiently(lambda each=each: each.signal("go", 1))
    found, expected = await patiently(handle.result), luggage.result
    if id_ == luggage.id:
        world.check(found == expected, f"{id_} ended as {found}, and where it was as {expected}")
    else:
        world.check(found[1:-1] == expected[1:-1], f"{id_} ended as {found}, and not {expected}")
    table = world.cluster.database.table
    again = [each for each in range(STEPS) if f"{RAN} {luggage.id} {each}" in table]
    wanted = list(range(luggage.recorded, STEPS))
    # One whose outcome was lost there is run here; one that was recorded is not.
    world.check(again == wanted, f"{id_} has run the steps {again} here, and not {wanted}")
    await _come_ended(world, luggage)


async def _come_ended(world: World, luggage: Luggage) -> None:
    """Its end comes as well, under another id."""
    id_ = f"{luggage.id}-copy"
    message = history.restored(history.read(luggage.final), app.registry.partition_count, id_=id_)
    await patiently(lambda: app.runtime.gateway.storage.enqueue([message]))
    await _is_there(world, id_)
    found = await patiently(moving.handle(id_).result)
    world.check(found == luggage.result, f"{id_} is imported with {found}")
    loaded = await patiently(lambda: app.runtime.gateway.storage.load_calls([id_]))
    before = history.read(luggage.final).loaded
    shown = [(each.kind, each.value, each.commands) for each in loaded[0].entries]
    world.check(
        shown == [(each.kind, each.value, each.commands) for each in before.entries],
        f"{id_} has the journal {shown}",
    )


async def _is_there(world: World, id_: str) -> None:
    for _ in range(2_000):
        if id_ in world.cluster.database.invocations:
            return
        await asyncio.sleep(0.2)
    world.check(False, f"{id_} was imported, and is not there")
