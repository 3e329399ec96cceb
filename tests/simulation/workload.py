"""The workloads: what clients do, and what must be true when they have done it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any

from fenbu import (
    AlreadyExists,
    CallCancelled,
    CallNotFound,
    Status,
    TerminalError,
    Unavailable,
)
from fenbu._testing.linearizability import UNKNOWN, Observed, is_linearizable
from fenbu._testing.simulation import Plan
from tests.simulation import service
from tests.simulation.asks import asking, seeing
from tests.simulation.batches import batches
from tests.simulation.books import books
from tests.simulation.deploy import deploys
from tests.simulation.entities import alarms, visits
from tests.simulation.expiry import leases, watches
from tests.simulation.families import families
from tests.simulation.forks import forks
from tests.simulation.moves import moves
from tests.simulation.pauses import pauses
from tests.simulation.programs import programs
from tests.simulation.search import search
from tests.simulation.service import Account, Log, Register
from tests.simulation.steering import steering
from tests.simulation.streams import streams
from tests.simulation.tasks import beats, contexts, limits, loans
from tests.simulation.topics import topics_
from tests.simulation.updates import fates, updates
from tests.simulation.world import World, at, patiently, somewhere

DELETED_SECONDS = 3_000.0
"""When a finished call must be gone, by the slow rounds of those who delete."""

Workload = Callable[[World, str], Awaitable[None]]
"""Runs in a client process of its own. The name makes its ids and keys."""


async def bank(world: World, name: str) -> None:
    """Money moves, and none comes or goes."""
    names = [f"{name}-{number}" for number in range(4)]
    expected = dict.fromkeys(names, 1000)

    async def move(number: int) -> None:
        giver, taker = world.random.sample(names, 2)
        cents = world.random.randrange(1, 50)
        expected[giver] -= cents
        expected[taker] += cents
        seconds = world.random.choice((0.0, 0.02, 0.5))
        await world.pause(6.0)
        call = service.transfer.options(id=f"{name}-transfer-{number}")
        await patiently(lambda: call(giver, taker, cents, seconds))

    await asyncio.gather(*(move(number) for number in range(2 * world.plan.size)))
    found = {each: await patiently(lambda each=each: Account(each).balance()) for each in names}
    world.check(found == expected, f"books: {found} and not {expected}")


def register_model(state: Any, what: Any) -> tuple[Any, Any]:
    """What a register does that nobody else uses."""
    match what:
        case ("write", value):
            return state, value
        case ("swap", old, new):
            return (True, new) if state == old else (False, state)
    return state, state


async def register(world: World, name: str) -> None:
    """Several clients at one key, with no patience: what they saw must have an order."""
    history: list[Observed] = []
    process = world.cluster

    async def ask(what: Any) -> Any:
        operations = Register(name)
        match what:
            case ("write", value):
                return await operations.write(value)
            case ("swap", old, new):
                return await operations.swap(old, new)
            case ("look", seconds):
                return await operations.look(seconds)
        return await operations.read()

    async def client(number: int) -> None:
        chance = world.random
        for turn in range(2 + world.plan.size // 2):
            await world.pause(2.0)
            value = number * 100 + turn
            what: Any = chance.choice(
                [
                    ("write", value),
                    ("read",),
                    ("look", chance.choice((0.01, 0.3, 1.5))),
                    ("swap", chance.randrange(3) * 100, value),
                ]
            )
            called = world.now
            try:
                answer = await somewhere(partial(ask, what))
            except Unavailable:
                history.append(Observed(called, UNKNOWN, what))
            except CallCancelled:
                # The operator had to end it: it has changed nothing.
                world.check(bool(process.ended), "an operation was cancelled by nobody")
            else:
                history.append(Observed(called, world.now, what, answer))

    await asyncio.gather(
        *(process.client(f"{name}-{each}", lambda each=each: client(each)) for each in range(3))
    )
    ok = is_linearizable(history, register_model, 0)
    world.check(ok, f"no order explains {history}")


async def naps(world: World, name: str) -> None:
    """Timers do not ring early."""

    async def one(number: int) -> None:
        seconds = world.random.choice((0.0, 0.05, 1.0, 7.0))
        late = await patiently(lambda: service.nap.options(id=f"{name}-{number}")(seconds))
        world.check(late >= -1e-3, f"a timer of {seconds} s was {-late} s early")

    await asyncio.gather(*(one(number) for number in range(world.plan.size)))


async def signals(world: World, name: str) -> None:
    """Signals sent early, late, or before the call was loaded come all, once, and in order."""
    count = 4 + world.plan.size // 2
    call = service.collector.options(id=name)
    handle = await patiently(lambda: call.start(count))
    await _send_numbers(world, handle, count)


async def renewals(world: World, name: str) -> None:
    """They also come once and in order to a call that continues as new; no child of its runs is left."""
    count = 4 + world.plan.size
    call = service.renewing.options(id=name)
    handle = await patiently(lambda: call.start(0, [], count))
    await _send_numbers(world, handle, count)
    ended = world.cluster.database.invocations[name]
    for run in range(ended.attempt + 1):
        child = service.collector.handle(f"{name}-{run}")
        try:
            await patiently(child.result)
        except CallCancelled:
            continue
        except CallNotFound:
            cut = ended.status is Status.CANCELLED and run == ended.attempt
            world.check(cut, f"run {run} has no child")
            continue
        world.check(False, f"a child of run {run} has ended by itself")


async def claims(world: World, name: str) -> None:
    """Of those who want to be the first with an id, one is, and all others hear that."""
    firsts: list[int] = []
    doubts = 0

    async def claim(number: int) -> None:
        nonlocal doubts
        await world.pause(2.0)
        call = service.claimed.options(id=name, if_exists="reject")
        try:
            await call.start(number)
        except AlreadyExists:
            return
        except Unavailable:
            doubts += 1
        else:
            firsts.append(number)

    count = 2 + world.plan.size
    await asyncio.gather(*(claim(number) for number in range(count)))
    world.check(len(firsts) <= 1, f"with one id, these calls were all accepted: {firsts}")
    world.check(len(firsts) + doubts >= 1, "a call was rejected, and nobody has started one")
    if firsts:
        found = await patiently(service.claimed.handle(name).result)
        world.check(found == firsts[0], f"{firsts[0]} was accepted, and {found} is there")


async def takeovers(world: World, name: str) -> None:
    """Each of several calls takes the place of the one before; what is left is the last one, alone."""
    call = service.taken_over.options(id=name, if_exists="replace")
    count = 2 + world.plan.size // 2
    for number in range(count):
        # Again and again until it is known to be there: then it takes its own place, too.
        await patiently(lambda number=number: call.start(f"{name}-{number}"), anywhere=False)
        await world.pause(2.0)
    handle = service.taken_over.handle(name)
    while True:
        try:
            await patiently(lambda: handle.signal("number", 7))
            found = await patiently(lambda: handle.result(timeout=60))
        except TimeoutError:
            continue
        break
    world.check(found == (f"{name}-{count - 1}", 7), f"the last call gave {found}")


async def _send_numbers(world: World, handle: Any, count: int) -> None:
    """By one client, which may be at a node, with two handles: one knows where the call was accepted."""
    sent, node, handles = 0, None, (handle, service.app.handle(handle.id))
    if world.random.random() < 0.5:
        while not world.nodes:
            await asyncio.sleep(0.5)
        node = world.random.choice(world.nodes)
    while sent < count:
        to = handles[sent % 2]
        try:
            await at(world, node, lambda to=to, number=sent: to.signal("number", number))
        except Unavailable:
            # It may have been sent or not: nothing more can be said of this one.
            await patiently(lambda: handle.cancel("doubt"))
            break
        sent += 1
        if world.random.random() < 0.5:
            await world.pause(1.0)
    try:
        found = await patiently(handle.result)
    except CallCancelled:
        world.check(sent < count, "cancelled, and nobody had asked for it")
        return
    if sent == count:
        world.check(found == list(range(count)), f"signals came as {found}")


async def order(world: World, name: str) -> None:
    """What one sender sends to one receiver comes once, and in order."""
    count, senders, copies = 24, 1 + world.plan.size // 2, 4
    await asyncio.gather(
        *(
            patiently(
                lambda each=each: service.writer.options(id=f"{name}-{each}")(
                    name, copies, f"w{each}", count
                )
            )
            for each in range(senders)
        )
    )
    for copy in range(copies):
        lines = await _all_lines(f"{name}-{copy}", count * senders)
        for each in range(senders):
            mine = [line for line in lines if line.startswith(f"w{each} ")]
            if any(map(world.has_quarantined, (f"{name}-{each}/", f"-w{each}-"))):
                mine.sort(key=lambda line: int(line.split()[1]))
            expected = [f"w{each} {number}" for number in range(count)]
            world.check(mine == expected, f"messages of one sender came as {mine}")


async def _all_lines(log: str, count: int) -> list[str]:
    """What it holds when it has as many as it should, or after long."""
    lines: list[str] = []
    for _ in range(400):
        lines = await patiently(Log(log).all)
        if len(lines) >= count:
            break
        await asyncio.sleep(0.5)
    return lines


async def charges(world: World, name: str) -> None:
    """Transactional steps happen once."""
    count = 1 + world.plan.size // 2
    found = await patiently(lambda: service.charged.options(id=name)(name, count))
    written = [world.cluster.database.table.get(f"{name} {number}") for number in range(count)]
    world.check(found == written == [1] * count, f"charged {written}, and was told {found}")


async def sagas(world: World, name: str) -> None:
    """Compensations run in reverse, once each."""
    parts = 1 + world.plan.size // 2
    ended = await patiently(
        lambda: service.journey.options(id=f"{name}-j")(f"{name}-j", parts, True)
    )
    undone = world.cluster.database.table.get(f"{name}-j")
    expected = list(range(parts))[::-1]
    world.check((ended, undone) == ("cancelled", expected), f"undone: {undone}")
    try:
        await patiently(lambda: service.trip.options(id=f"{name}-t")(f"{name}-log", parts, True))
    except TerminalError:
        lines = await patiently(Log(f"{name}-log").all)
        world.check(lines == [f"undo {part}" for part in expected], f"compensations: {lines}")
    else:
        world.check(False, "a saga whose last part fails went well")


async def cancels(world: World, name: str) -> None:
    """Who is cancelled cleans up, once, and says so."""
    handler = world.random.choice((service.cancellable, service.parent_of_cancellable))
    call = handler.options(id=name)
    handle = await patiently(lambda: call.start(f"{name}-log"))
    await world.pause(3.0)
    await patiently(handle.cancel)
    try:
        await patiently(handle.result)
    except CallCancelled:
        pass
    else:
        world.check(False, "a cancelled call went well")
    lines = await patiently(Log(f"{name}-log").all)
    # One that had not begun has nothing to clean up.
    world.check(lines in ([], ["cleaned up"]), f"cleaned up: {lines}")


async def ends(world: World, name: str) -> None:
    """Who is terminated ends, with those that he waits for, and cleans nothing up."""
    handler = world.random.choice((service.cancellable, service.parent_of_cancellable))
    handle = await patiently(lambda: handler.options(id=name).start(f"{name}-log"))
    await world.pause(3.0)
    asked = world.random.random() < 0.3
    if asked:
        await patiently(handle.cancel)
    await patiently(handle.terminate)
    try:
        await patiently(handle.result)
    except CallCancelled:
        pass
    else:
        world.check(False, "a terminated call went well")
    lines = await patiently(Log(f"{name}-log").all)
    world.check(lines == [] or (asked and lines == ["cleaned up"]), f"cleaned up: {lines}")


async def attempts(world: World, name: str) -> None:
    """Failing and hanging steps are tried again until they go well."""
    times = world.random.randrange(4)
    found = await asyncio.gather(
        patiently(lambda: service.stubborn.options(id=f"{name}-s")(times)),
        patiently(lambda: service.patient.options(id=f"{name}-p")(times)),
    )
    world.check(found == [times + 1] * 2, f"went well at attempts {found}, not {times + 1}")


async def trees(world: World, name: str) -> None:
    """Children of children, and what they add up to."""
    width = 1 + world.random.randrange(3)
    found = await patiently(lambda: service.tree.options(id=name)(width, 2))
    expected = width * width * sum(number * number for number in range(width))
    world.check(found == expected, f"a tree gave {found}, not {expected}")


async def delays(world: World, name: str) -> None:
    """Delayed calls and callbacks of entities come once, and not early."""
    seconds = world.random.choice((0.5, 3.0, 8.0))
    began = world.now
    handle = await patiently(lambda: service.leaf.options(id=f"{name}-d", delay=seconds).start(3))
    await patiently(lambda: Log(name).later.options(id=f"{name}-l")("late", seconds))
    world.check(await patiently(handle.result) == 9, "a delayed call gave something else")
    # The clocks of two nodes may be ten seconds apart: that is what the faults do.
    world.check(world.now - began >= seconds - 25.0, "a delayed call came early")
    for _ in range(400):
        if lines := await patiently(Log(name).all):
            world.check(lines == ["late"], f"a callback came as {lines}")
            return
        await asyncio.sleep(0.5)
    world.check(False, "a callback never came")


async def races(world: World, name: str) -> None:
    """Timeouts, errors and plain functions."""
    seconds = world.random.choice((0.0, 0.29, 0.31, 2.0))
    found = await asyncio.gather(
        patiently(lambda: service.hurried.options(id=f"{name}-h")(seconds)),
        patiently(lambda: service.catches.options(id=f"{name}-c")(1)),
        patiently(lambda: service.plain_leaf.options(id=f"{name}-p")(1)),
    )
    # By a clock that is set while it waits, either can come first.
    world.check(found[0] in {"late", "in time"} and found[1:] == ["failed", 2], f"gave {found}")


async def crowd(world: World, name: str) -> None:
    """Messages pile up: many calls at once, all or none."""
    numbers = range(20 * world.plan.size)
    handles = await patiently(
        lambda: service.app.start_many(
            service.leaf.options(id=f"{name}-{each}").bind(each) for each in numbers
        )
    )
    found = [await patiently(each.result) for each in handles]
    world.check(found == [each * each for each in numbers], "a crowd gave something else")


async def local(world: World, name: str) -> None:
    """Calls that are started in a node's own process: what it said it has accepted ends well.

    Some of those who wait there lose patience; that must not disturb the others.
    """
    accepted: set[int] = set()

    async def start(number: int, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                handle = await service.leaf.options(id=f"{name}-{number}").start(number)
                accepted.add(number)
                await handle.status()
        except (Unavailable, CallNotFound, TimeoutError):
            pass
        except asyncio.CancelledError:
            world.check(False, "somebody who waits was cancelled, and nobody has asked for it")

    for number in range(4 * world.plan.size):
        nodes = [each for each in world.cluster.nodes if each.gateway is not None]
        if nodes:
            process = world.random.choice(nodes).process
            for patience in world.random.choice(((60.0,), (60.0, 0.02), (0.02, 60.0))):
                world.cluster.loop.spawn(process, start(number, patience))
        await world.pause(1.0)
    for number in sorted(accepted):
        handle = service.leaf.handle(f"{name}-{number}")
        found = await patiently(handle.result)
        world.check(found == number * number, f"{handle.id} gave {found}")


async def kept(world: World, name: str) -> None:
    """A finished call is kept for as long as was said, then it goes; its id can be used again."""
    database = world.cluster.database
    began = world.now
    call = service.brief.options(id=name)
    world.check(await patiently(lambda: call(1)) == 1, "a call gave something else")
    while name in database.invocations and world.now < began + DELETED_SECONDS:
        await asyncio.sleep(20.0)
    world.check(name not in database.invocations, "a finished call is kept too long")
    # The clocks of two nodes may be ten seconds apart: that is what the faults do.
    kept_seconds = world.now - began
    world.check(kept_seconds >= service.RETENTION_SECONDS - 25.0, f"kept for {kept_seconds} s")
    world.check(name not in database.journals, "a journal is kept without its call")
    world.check(
        await patiently(lambda: call(2)) == 2, "another call with this id gave the old result"
    )


WORKLOADS: dict[str, Workload] = {
    "alarms": alarms,
    "asks": asking,
    "attempts": attempts,
    "bank": bank,
    "batches": batches,
    "beats": beats,
    "books": books,
    "cancels": cancels,
    "charges": charges,
    "claims": claims,
    "contexts": contexts,
    "crowd": crowd,
    "delays": delays,
    "deploys": deploys,
    "ends": ends,
    "families": families,
    "fates": fates,
    "forks": forks,
    "kept": kept,
    "leases": leases,
    "limits": limits,
    "loans": loans,
    "local": local,
    "moves": moves,
    "naps": naps,
    "order": order,
    "pauses": pauses,
    "programs": programs,
    "races": races,
    "register": register,
    "renewals": renewals,
    "sagas": sagas,
    "search": search,
    "seeing": seeing,
    "signals": signals,
    "steering": steering,
    "streams": streams,
    "takeovers": takeovers,
    "topics": topics_,
    "trees": trees,
    "updates": updates,
    "visits": visits,
    "watches": watches,
}


def chosen_names(plan: Plan) -> list[str]:
    """Which of them a seed has chosen."""
    random = Random(f"choice {plan.seed}")
    return [random.choice(sorted(WORKLOADS)) for _ in range(random.randint(1, 3))]


def chosen(plan: Plan) -> list[tuple[str, Workload]]:
    """The same, each under a name of its own."""
    return [(f"{name}-{number}", WORKLOADS[name]) for number, name in enumerate(chosen_names(plan))]
