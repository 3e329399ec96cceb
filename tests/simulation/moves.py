"""The workload of calls that move: from a cluster that ran before into this one, as `fenbu import` does it.

They leave at any moment of their lives, with the calls that they have started and what is on the way to them,
while nodes crash there, and come while nodes crash here. Where they come from they go on as well, which an
operator would not let them: so it is known how they end if they stay.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

import fenbu
from fenbu import AlreadyExists, CallCancelled, Handle, Status, step
from fenbu._core import history
from fenbu._core.history import Histories
from fenbu._core.message import Signal
from fenbu._core.model import FINISHED, EntryKind
from fenbu._testing.cluster import Cluster
from fenbu._testing.simulation import Plan, Report, run
from tests.simulation.service import SOON, app
from tests.simulation.tasks import begin_tasks
from tests.simulation.world import World, begin, here, patiently

STEPS = 4
NUMBERS = 5

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
    """A child whose id its parent has chosen."""
    return number + await fenbu.wait_signal("go", int)


@app.workflow
async def sprouts(name: str) -> str:
    """The child of a child."""
    await asyncio.sleep(0.6)
    found = await step.options(retry=SOON)(marked, f"{name} sprout")
    await asyncio.sleep(0.9)
    return found


@app.workflow
async def grows(name: str) -> str:
    await asyncio.sleep(0.3)
    return f"({await sprouts(name)})"


@app.workflow
async def stays(name: str) -> str:
    """One that nobody waits for at first."""
    await asyncio.sleep(2.0)
    return f"{name} stayed"


async def _numbers() -> str:
    """Whoever sends them does not always know whether one has come, and sends it again."""
    found: list[int] = []
    while len(found) < NUMBERS:
        number = await fenbu.wait_signal("number", int)
        if not found or found[-1] != number:
            found.append(number)
    return str(found)


@app.workflow
async def moving(name: str) -> list[str]:
    """Whatever comes from its id, its time of acceptance and its journal is in its result."""
    found = [str(fenbu.uuid4())]
    stayed = await stays.start(name)
    async with asyncio.TaskGroup() as group:
        child = group.create_task(moves_along.options(id=child_of(name))(len(name)))
        grown = group.create_task(grows(name))
        numbers = group.create_task(_numbers())
        for number in range(STEPS):
            found.append(await step.options(retry=SOON)(marked, f"{name} {number}"))
            await asyncio.sleep(0.4)
    found += [await numbers, await grown, str(await child), await stayed.result()]
    found.append(str(fenbu.uuid4()))
    return found


PLACES = [*(str(each) for each in range(STEPS)), "sprout"]
"""The steps of one."""


class Luggage(Struct):
    """A call that has left."""

    id: str
    text: bytes
    """It and the calls that it has started, as they were in one moment."""
    result: list[str] = []
    """How it ended where it came from."""
    final: bytes = b""
    """Its history after that."""

    @property
    def found(self) -> Histories:
        return history.read(self.text)

    @property
    def has_begun(self) -> bool:
        return self.found.root.loaded.invocation.started_at is not None

    def recorded(self) -> set[str]:
        """Its steps that have an outcome there."""
        return {
            msgspec.json.decode(entry.value or "")
            for each in self.found.calls
            for entry in each.loaded.entries
            if entry.kind is EntryKind.STEP_COMPLETED
        }

    def signals(self, id_: str, name: str) -> list[int]:
        """Those that a call has received there, and those that it was about to."""
        found = self.found
        received = [
            entry.value
            for each in found.calls
            if each.loaded.invocation.id == id_
            for entry in each.loaded.entries
            if entry.kind is EntryKind.SIGNAL_RECEIVED and entry.name == name
        ]
        coming = [
            each.value
            for each in found.messages
            if isinstance(each, Signal) and each.id == id_ and each.name == name
        ]
        return [msgspec.json.decode(each or "") for each in (*received, *coming)]


_left: dict[str, list[Luggage]] = defaultdict(list)
"""By the name of the workload."""


def depart(plan: Plan, names: list[str]) -> Report:
    """A run of another cluster, from which calls leave. Its database has other partitions."""
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

    return run(app, scenario, replace(plan, partition_count=plan.partition_count + 3))


async def _leave(world: World, name: str, number: int) -> None:
    id_ = f"{name}-{number}"
    call = moving.options(id=id_, delay=world.random.choice((0.0, 0.0, 0.0, 4.0)))
    handle = await patiently(lambda: call.start(id_))
    mail = asyncio.create_task(_write_to(world, handle, range(NUMBERS), [1]))
    await world.pause(4.0)
    luggage = Luggage(id_, await patiently(lambda: app.export_call(id_)))
    await mail
    luggage.result = await patiently(handle.result)
    luggage.final = await patiently(lambda: app.export_call(id_, alone=True))
    _left[name].append(luggage)


async def _write_to(world: World, handle: Handle[Any], numbers: range, go: list[int]) -> None:
    """What a call and its child wait for."""
    for number in numbers:
        await world.pause(0.8)
        await patiently(lambda n=number: handle.signal("number", n), anywhere=False)
    child = moves_along.handle(child_of(handle.id.removesuffix(RENAMED)))
    for number in go:
        await _is_there(world, child.id)
        await patiently(lambda n=number: child.signal("go", n), anywhere=False)


RENAMED = "+"


async def moves(world: World, name: str) -> None:
    """Each ends as if it had not moved, and no step that was recorded runs again."""
    await asyncio.gather(*(_arrive(world, each) for each in _left[name]))


async def _arrive(world: World, luggage: Luggage) -> None:
    await world.pause(4.0)
    id_, asks = luggage.id, world.random.random() < 0.3
    if not luggage.has_begun and world.random.random() < 0.5:
        id_ += RENAMED
    # Whoever is not sure whether it has come sends it again, also while it comes.
    senders = [
        _bring(luggage.text, id=id_, go_on=not asks) for _ in range(world.random.choice((1, 1, 2)))
    ]
    await asyncio.gather(*senders)
    handle: Handle[list[str]] = moving.handle(id_)
    await _is_there(world, id_)
    if asks:
        await _let_go(world, luggage, handle)
    if world.random.random() < 0.25:
        await _cancelled(world, luggage, handle)
    else:
        await _ends_as_there(world, luggage, handle)
    await _come_ended(world, luggage)


async def _bring(data: bytes, **options: Any) -> None:
    async def bring() -> None:
        try:
            await app.import_calls(data, **options)
        except AlreadyExists:
            return

    await patiently(bring)


async def _let_go(world: World, luggage: Luggage, handle: Handle[Any]) -> None:
    await patiently(handle.retry)
    if handle.id != luggage.id:
        return
    for each in luggage.found.calls[1:]:
        if each.loaded.invocation.status not in FINISHED:
            await world.pause(1.0)
            id_ = each.loaded.invocation.id
            await _is_there(world, id_)
            await patiently(app.handle(id_).retry)


async def _ends_as_there(world: World, luggage: Luggage, handle: Handle[list[str]]) -> None:
    id_, is_same = handle.id, handle.id == luggage.id
    came = luggage.signals(id_, "number") if is_same else []
    following = came[-1] + 1 if came else 0
    has_gone = is_same and (
        bool(luggage.signals(child_of(id_), "go"))
        or any(
            each.loaded.invocation.id == child_of(id_) and each.loaded.invocation.status in FINISHED
            for each in luggage.found.calls
        )
    )
    await _write_to(world, handle, range(following, NUMBERS), [] if has_gone else [1])
    found, expected = await patiently(handle.result), luggage.result
    if is_same:
        world.check(found == expected, f"{id_} ended as {found}, and where it was as {expected}")
    else:
        world.check(found[1:-1] == expected[1:-1], f"{id_} ended as {found}, and not {expected}")
    ran = _ran_here(world, luggage.id)
    wanted = {f"{luggage.id} {each}" for each in PLACES} - luggage.recorded()
    # One whose outcome was lost there is run here; one that was recorded is not.
    world.check(ran == wanted, f"{id_} has run the steps {ran} here, and not {wanted}")
    if luggage.found.root.loaded.invocation.status not in FINISHED:
        (loaded,) = await patiently(lambda: app.runtime.gateway.storage.load_calls([id_]))
        entries = [each for each in loaded.entries if each.name == "number"]
        got = [msgspec.json.decode(each.value or "") for each in entries]
        # Message-once-in-order.
        world.check(got[: len(came)] == came, f"{id_} got {got}, and took {came} along")
        later = got[len(came) :]
        world.check(later == sorted(later), f"{id_} got {got}")
        world.check(not later or later[0] >= following, f"{id_} got {got}, and {came} before")


def _ran_here(world: World, id_: str) -> set[str]:
    names = (f"{id_} {each}" for each in PLACES)
    return {each for each in names if f"{RAN} {each}" in world.cluster.database.table}


async def _cancelled(world: World, luggage: Luggage, handle: Handle[list[str]]) -> None:
    """Who is cancelled here takes its children with it, but not the call that it has only started."""
    await world.pause(1.0)
    await patiently(lambda: handle.cancel("it has moved"))
    try:
        found = await patiently(handle.result)
    except CallCancelled:
        pass
    else:
        world.check(
            found == luggage.result, f"{handle.id} ended as {found} before its cancellation"
        )
        return
    for id_, name in _tree_here(world, handle.id):
        status = await _outcome(world, id_)
        wanted = {Status.COMPLETED} if name == "stays" else {Status.CANCELLED, Status.COMPLETED}
        world.check(status in wanted, f"{id_} ({name}) of {handle.id} is {status}")
    again = _ran_here(world, luggage.id) & luggage.recorded()
    world.check(not again, f"{handle.id} has run the steps {again} again")


def _tree_here(world: World, id_: str) -> Iterator[tuple[str, str]]:
    for each in list(world.cluster.database.invocations.values()):
        if each.id.startswith(f"{id_}/") or each.id == child_of(id_):
            yield each.id, each.handler


async def _outcome(world: World, id_: str) -> Status:
    for _ in range(2_000):
        call = world.cluster.database.invocations.get(id_)
        if call is not None and call.status in FINISHED:
            return call.status
        await asyncio.sleep(0.2)
    return Status.RUNNING


async def _come_ended(world: World, luggage: Luggage) -> None:
    """Its end comes as well, under another id."""
    id_ = f"{luggage.id}-copy"
    await _bring(luggage.final, id=id_)
    await _is_there(world, id_)
    found = await patiently(moving.handle(id_).result)
    world.check(found == luggage.result, f"{id_} is imported with {found}")
    loaded = await patiently(lambda: app.runtime.gateway.storage.load_calls([id_]))
    before = history.read(luggage.final).root.loaded
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
