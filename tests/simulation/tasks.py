"""The workloads of tasks: heartbeats and limits, what nodes open, and the context that travels with calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

import fenbu
from fenbu import INJECTED, Middleware, Resource, Running, SoftTimeout, Starting, step
from fenbu._testing.loop import Process, process_now
from tests.simulation.service import SOON, app
from tests.simulation.world import World, here, patiently

SAID = "said"
"""Prefix, in the world's table, of what bodies have said."""


def said(name: str) -> set[int]:
    """All that the attempts of a body have ever said, stored or not."""
    found: set[int] = here().cluster.database.table.setdefault(f"{SAID} {name}", set())
    return found


async def copy(name: str, count: int) -> int:
    """Goes on where an earlier attempt was; on the way it falls silent, is late, or fails."""
    attempt = fenbu.current_attempt()
    start = attempt.last_heartbeat(int) or 0
    here().check(start in said(name) | {0}, f"{name} goes on at {start}, which nobody has said")
    for number in range(start, count):
        await asyncio.sleep(0.3)
        if number % 5 == 3 and number == start + 2:
            raise OSError(number)
        if number % 7 == 6 and number == start + 1:
            await asyncio.sleep(1_000)
        said(name).add(number + 1)
        fenbu.heartbeat(number + 1)
    return count


copier = app.task(name="copier", retry=SOON, heartbeat_timeout=3.0)(copy)


@app.workflow
async def copies(name: str, count: int) -> int:
    return await step.options(retry=SOON, heartbeat_timeout=3.0)(copy, name, count)


async def beats(world: World, name: str) -> None:
    """Progress never goes back, and every attempt goes on at something that was said."""
    count = 4 + 2 * world.plan.size
    task = await patiently(lambda: copier.options(id=f"{name}-t").start(f"{name}-t", count))
    flow = await patiently(lambda: copies.options(id=f"{name}-w").start(f"{name}-w", count))
    last, results = 0, asyncio.gather(patiently(task.result), patiently(flow.result))
    while not results.done():
        now = await patiently(lambda: task.progress(int)) or 0
        world.check(now >= last, f"progress went back from {last} to {now}")
        world.check(now in said(f"{name}-t") | {0}, f"progress {now} was never said")
        last = now
        await asyncio.sleep(0.7)
    world.check(await results == [count, count], f"copied {results.result()}, not {count}")
    world.check(await patiently(lambda: task.progress(int)) == count, "the last heartbeat is lost")
    kept = world.cluster.database.invocations[f"{name}-w"].heartbeats
    world.check(not kept, f"a step that has ended keeps its heartbeats {kept}")


@app.task(retry=SOON, soft_timeout=2.0, attempt_timeout=6.0)
async def hurry(seconds: float) -> str:
    """What is told of its soft limit has time to clean up, if nobody stands still."""
    try:
        await asyncio.sleep(seconds)
    except SoftTimeout:
        await asyncio.sleep(0.5)
        return "told"
    return "done"


async def limits(world: World, name: str) -> None:
    """A soft limit comes when it should, and comes before the hard one."""
    found = [
        await patiently(lambda each=each: hurry.options(id=f"{name}-{each}")(float(each)))
        for each in (1, 3, 1_000)
    ]
    # A process that stood still finds that a second, or an hour, is over at once.
    world.check(found[0] in {"done", "told"} and found[1] in {"done", "told"}, f"ended as {found}")
    world.check(found[2] == "told", f"{found[2]}: 1,000 s were over in 6")


_opened: dict[Process | None, int] = {}
"""How often the resource is open in each process."""


class Pool:
    def __init__(self, process: Process | None) -> None:
        self.process = process
        self.is_open = True


async def open_pool() -> AsyncIterator[Pool]:
    process = process_now.get()
    await asyncio.sleep(0.05)
    if here().cluster.loop.random.random() < 0.3:
        raise ConnectionRefusedError("it cannot be opened yet")
    _opened[process] = _opened.get(process, 0) + 1
    here().check(_opened[process] == 1, "a node has opened it twice")
    pool = Pool(process)
    yield pool
    pool.is_open = False


async def borrow(number: int, pool: Annotated[Pool, Resource(open_pool)] = INJECTED) -> int:
    await asyncio.sleep(0.1)
    here().check(pool.is_open, "it was closed while somebody used it")
    here().check(pool.process is process_now.get(), "it came from another node")
    return number


lend = app.task(name="lend", retry=SOON)(borrow)


@app.workflow
async def lends(count: int) -> list[int]:
    return [await step.options(retry=SOON)(borrow, number) for number in range(count)]


async def loans(world: World, name: str) -> None:
    """Each node opens a resource once, and closes it when nobody uses it any more."""
    count = 2 + world.plan.size
    found = await asyncio.gather(
        patiently(lambda: lends.options(id=f"{name}-w")(count)),
        *(patiently(lambda n=number: lend.options(id=f"{name}-{n}")(n)) for number in range(count)),
    )
    world.check(found == [list(range(count)), *range(count)], f"lent {found}")


class Carry(Middleware):
    """Every call carries who started it first, and through whom it came."""

    @contextmanager
    def start(self, call: Starting) -> Iterator[None]:
        before = call.context.get("path", "")
        call.context["path"] = f"{before}/{call.name}"
        yield

    @contextmanager
    def run(self, what: Running) -> Iterator[None]:
        yield


async def path() -> str:
    return fenbu.current_context().get("path", "")


@app.task
async def leaf_path() -> str:
    return await path()


@app.workflow
async def middle_path() -> list[str]:
    return [await step(path), await leaf_path(), await step(path)]


@app.workflow
async def root_path() -> list[str]:
    handle = await leaf_path.start()
    return [await step(path), *await middle_path(), await handle.result()]


async def contexts(world: World, name: str) -> None:
    """What a client gives a call to carry comes to the step of a child, wherever that runs."""
    middleware = app.registry.middleware
    if not middleware:
        middleware.append(Carry())
    for number in range(world.plan.size):
        found = await patiently(lambda n=number: root_path.options(id=f"{name}-{n}")())
        expected = [
            "/root_path", "/root_path/middle_path", "/root_path/middle_path/leaf_path",
            "/root_path/middle_path", "/root_path/leaf_path",
        ]  # fmt: skip
        world.check(found == expected, f"carried {found}")


def begin_tasks() -> None:
    """A run begins: nothing of another one is left."""
    app.registry.middleware.clear()
    _opened.clear()
