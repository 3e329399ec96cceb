"""What workloads share: the cluster they run on, clients that do not give up, and chance from the seed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from fenbu import CallCancelled, Handle, Status, TerminalError, Unavailable
from fenbu._testing.cluster import Cluster, Machine
from fenbu._testing.simulation import Plan

T = TypeVar("T")

PAUSE_SECONDS = 0.5


class World:
    """One run, as its workloads see it."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self.cluster = cluster
        self.plan = plan
        # Its own, so that a shorter plan of faults leaves the work as it is.
        self.random = Random(f"work {plan.seed}")
        self.places = Random(f"places {plan.seed}")
        self.asks_at_nodes = self.places.random() < 0.3
        """Half of what its clients do, others do in the processes of nodes."""
        self.looks: Counter[str] = Counter()
        """How often somebody has looked whether something is there."""
        self.mended: set[str] = set()
        """What fails no longer, by the names of workloads."""

    @property
    def now(self) -> float:
        return self.cluster.loop.time()

    @property
    def nodes(self) -> list[Machine]:
        """Those that run."""
        return [each for each in self.cluster.nodes if each.gateway is not None]

    def place(self) -> Machine | None:
        """The node in whose process something is to be done; None if in none."""
        nodes = self.nodes
        if not self.asks_at_nodes or not nodes or self.places.random() < 0.5:
            return None
        return self.places.choice(nodes)

    def check(self, holds: bool, text: str) -> None:
        if not holds:
            self.cluster.violation(text)

    def has_quarantined(self, part: str) -> bool:
        """Whether a call with this in its id was quarantined: those behind it on an entity go first."""
        calls = self.cluster.database.invocations.values()
        parked = {each.id for each in calls if each.status is Status.QUARANTINED}
        return any(part in each for each in self.cluster.revived | parked)

    async def pause(self, most: float) -> None:
        await asyncio.sleep(self.random.random() * most)


_worlds: list[World] = []


def begin(world: World) -> None:
    """Handlers find it from now on."""
    _worlds[:] = [world]


def here() -> World:
    """The world that handlers run in."""
    return _worlds[0]


async def went_well(world: World, operation: Handle[None], what: str) -> bool:
    """Wait for an operation that is to `fail`, that somebody is to `end`, or that does what it should."""
    if what == "end":
        await world.pause(1.0)
        await patiently(operation.terminate if world.random.random() < 0.5 else operation.cancel)
    try:
        await patiently(operation.result)
    except TerminalError as error:
        overtaken = operation.id in world.cluster.revived and "has been changed since" in str(error)
        world.check(what == "fail" or overtaken, f"{operation.id} failed: {error}")
    except CallCancelled:
        ended = what == "end" or operation.id in world.cluster.ended
        world.check(ended, f"{operation.id} was cancelled by nobody")
    else:
        world.check(what != "fail", "an operation went well that should have failed")
        return True
    return False


async def patiently(work: Callable[[], Awaitable[T]], *, anywhere: bool = True) -> T:
    """Try again for as long as the database is away; the work must be safe to repeat.

    If its order matters it is all done by one client, and not anywhere.
    """
    while True:
        try:
            return await (somewhere(work) if anywhere else work())
        except Unavailable:
            await asyncio.sleep(PAUSE_SECONDS)


async def somewhere(work: Callable[[], Awaitable[T]]) -> T:
    """Here, or in some seeds as often by a client in the process of a node, which may crash meanwhile."""
    world = _worlds[0] if _worlds else None
    if world is None or Cluster.open_one is not world.cluster:
        return await work()
    return await at(world, world.place(), work)


async def at(world: World, machine: Machine | None, work: Callable[[], Awaitable[T]]) -> T:
    """Do it in the process of a node, if one is given, which may crash meanwhile."""
    if machine is None:
        return await work()
    if machine not in world.nodes:
        raise Unavailable(f"{machine.name} has gone")
    loop = world.cluster.loop
    death: asyncio.Future[None] = loop.create_future()
    machine.mourners.append(death)

    async def ask() -> T:
        return await work()

    task = loop.spawn(machine.process, ask())
    try:
        await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Unavailable(f"{machine.name} has crashed")
        return task.result()
    finally:
        machine.mourners.remove(death)
        task.cancel()
