"""The workload of deploys: nodes with the code of yesterday are replaced, one after the other, by nodes with
that of today, while clients of both start calls.

What only today's code has waits for it; what yesterday's began ends as it would have, or by `patched()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import fenbu
from fenbu import App, Entity, operation, step
from fenbu._core.handler import Registry
from tests.simulation.service import app, leaf, plain_work
from tests.simulation.world import World, patiently

yesterday = App("simulated", url="memory:")


@app.workflow
async def aging(number: int) -> int:
    """The first version: today's code keeps it, for calls in flight."""
    first = await step(plain_work, number)
    await asyncio.sleep(2.0)
    return first + await step(plain_work, 1)


@app.workflow(name="aging", version=2)
async def aging_2(number: int) -> int:
    await asyncio.sleep(1.0)
    return number * await leaf(number)


@yesterday.workflow(name="patched_later")
async def before(number: int) -> list[int]:
    first = await step(plain_work, number)
    await asyncio.sleep(1.5)
    return [first, await step(plain_work, 0)]


@app.workflow(name="patched_later")
async def patched_later(number: int) -> list[int]:
    first = await step(plain_work, number)
    if fenbu.patched("square"):
        first = await leaf(number)
    await asyncio.sleep(1.5)
    return [first, await step(plain_work, 0)]


@app.workflow
async def fresh(diary: str, number: int) -> int:
    """New: yesterday's code does not have it."""
    await Diary(diary).write()
    return await leaf(number)


@app.entity
class Diary(Entity):
    """New, too."""

    count: int = 0

    @operation
    async def write(self) -> None:
        self.count += 1

    @operation(read_only=True)
    async def read(self) -> int:
        return self.count


@yesterday.entity(name="Album")
class AlbumOfYesterday(Entity):
    """It counts its pages."""

    count: int = 0

    @operation
    async def add(self, page: int) -> int:
        self.count += 1
        return page

    @operation(read_only=True)
    async def length(self) -> int:
        return self.count


@app.entity
class Album(Entity):
    """It has them. What is of today stays with today's nodes: those of yesterday cannot read it."""

    __version__ = 2
    pages: list[int] = []

    @classmethod
    def __upgrade__(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
        assert version == 1, version
        return {"pages": [-1] * old["count"]}

    @operation
    async def add(self, page: int) -> int:
        self.pages.append(page)
        return page

    @operation(read_only=True)
    async def length(self) -> int:
        return len(self.pages)


TODAY_ONLY = {"fresh", "Diary.write", "Diary.read"}


def registry_of_yesterday() -> Registry:
    """What a node of yesterday has."""
    registry = Registry(app.registry.codec, app.registry.hook)
    registry.partition_count = app.registry.partition_count
    for name, version in app.registry.versions():
        spec = yesterday.registry.get(name, version)
        if spec is None or name.startswith(
            "fenbu."
        ):  # What is built in belongs to the app that is open.
            spec = app.registry.get(name, version)
        if spec is not None and name not in TODAY_ONLY and version == 1:
            registry.add(spec)
    return registry


async def deploys(world: World, name: str) -> None:
    """Calls of either code, started before, during and after the deploy, end as that code says."""
    cluster = world.cluster

    async def roll() -> None:
        await world.pause(8.0)
        cluster.registry = app.registry
        for old in list(cluster.nodes):
            cluster.start_node()
            await world.pause(3.0)
            if old in cluster.nodes:
                if cluster.nodes == [old]:
                    cluster.start_node()  # The new one has left meanwhile.
                cluster.stop_node(old)

    async def one(kind: int, number: int) -> None:
        await world.pause(12.0)
        id_ = f"{name}-{kind}-{number}"
        work, allowed = _CALLS[kind]
        found = await patiently(lambda: work(id_, f"{name}-{number % 3}", number))
        world.check(found in allowed(number), f"{id_} gave {found}")

    count = world.plan.size
    await asyncio.gather(
        roll(), *(one(kind, number) for kind in range(len(_CALLS)) for number in range(count))
    )
    keys = sorted({number % 3 for number in range(count)})
    written = [await patiently(lambda key=key: Diary(f"{name}-{key}").read()) for key in keys]
    expected = [len(range(key, count, 3)) for key in keys]
    world.check(written == expected, f"diaries have {written} and not {expected}")
    pages = [await patiently(lambda key=key: Album(f"{name}-{key}").length()) for key in keys]
    world.check(pages == expected, f"albums have {pages} pages and not {expected}")


_Work = Callable[[str, str, int], Awaitable[object]]
_CALLS: list[tuple[_Work, Callable[[int], list[object]]]] = [
    (lambda id_, _, n: aging.options(id=id_)(n), lambda n: [n + 1]),
    (lambda id_, _, n: aging_2.options(id=id_)(n), lambda n: [n**3]),
    (lambda id_, _, n: patched_later.options(id=id_)(n), lambda n: [[n, 0], [n * n, 0]]),
    (lambda id_, album, n: Album(album).add.options(id=id_)(n), lambda n: [n]),
    (lambda id_, diary, n: fresh.options(id=id_)(diary, n), lambda n: [n * n]),
]
