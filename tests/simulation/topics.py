"""The workload of topics: each group gets every event once, in order by key; who waits for one gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from msgspec import Struct

from fenbu import (
    CallNotFound,
    ConsumerGroup,
    Entity,
    Event,
    Topic,
    Unavailable,
    operation,
    step,
    wait_signal,
)
from fenbu._api.topic_group import workflow_id
from tests.simulation.service import app, some_work
from tests.simulation.world import World, patiently

TOPICS_MAX = 3
"""A seed chooses as many workloads at most, and each has a topic of its own, whose groups it ends."""

KEYS = 3
PAUSE_SECONDS = 0.5


class Said(Struct, frozen=True):
    """An event: the sender's so-and-so-many-th."""

    sender: str
    number: int

    @property
    def key(self) -> str:
        return f"k{self.number % KEYS}"


@app.entity
class Heard(Entity):
    """What a group has been told."""

    events: list[Said] = []

    async def tell(self, said: Said) -> None:
        self.events.append(said)

    @operation(read_only=True)
    async def all(self) -> list[Said]:
        return self.events


@app.workflow
async def passes_on(said: Said) -> None:
    """By a workflow of its own, and so in any order."""
    await step(some_work, 0.01)
    await Heard(f"{said.sender.rpartition('-')[0]} passed on").tell(said)


@app.workflow
async def collects(key: str) -> None:
    """One for each key, for as long as the seed lasts: events come as signals."""
    while True:
        said = await wait_signal(key.partition(" ")[0], Said)
        await Heard(f"{key} collected").tell(said)


topics: list[Topic[Said]] = [
    app.topic(f"topics-{number}", Said, key=lambda said: said.key, shards=1 + number % 2)
    for number in range(TOPICS_MAX)
]

GROUPS: list[list[ConsumerGroup]] = []
"""Of each topic: the one in order by key, and the filtered one."""

for topic in topics:

    def place(said: Said, name: str = topic.name) -> str:
        return f"{name} {said.key}"

    GROUPS.append(
        [
            topic.subscribe(Heard.tell, key=place, group="ordered", begin="all"),
            topic.subscribe(
                passes_on, group="filtered", where=lambda said: said.number % 2 == 0, begin="all"
            ),
        ]
    )
    topic.subscribe(collects, key=place, group=f"collecting-{topic.name}", begin="all")

standing = list(app.registry.standing)
app.registry.standing.clear()  # They belong to seeds with this workload only.


@app.workflow
async def speaks(place: int, sender: str, count: int) -> None:
    for number in range(count):
        await topics[place].publish(Said(sender, number))
        if number % 3 == 0:
            await step(some_work, 0.02)


@app.workflow
async def listens(place: int, sender: str, number: int) -> Said:
    """Waits for one event of one sender, from the beginning or from now on."""
    said = Said(sender, number)
    event = await topics[place].next(lambda each: each == said, key=said.key, after=0)
    return event.value


async def _read(world: World, topic: Topic[Said], shard: int, count: int) -> list[Event[Said]]:
    """All events of a shard, by a reader that loses its place now and then."""
    found: list[Event[Said]] = []
    while len(found) < count:
        after = found[-1].offset if found else 0
        try:
            async with asyncio.timeout(60.0):
                async for event in topic.events(after=after, shard=shard):
                    found.append(event)
                    if len(found) == count or world.random.random() < 0.1:
                        break
        except (TimeoutError, Unavailable):
            await asyncio.sleep(PAUSE_SECONDS)
    return found


async def topics_(world: World, name: str) -> None:
    """Workflows and clients publish; groups, waiting workflows and readers get it."""
    place = int(name.rpartition("-")[2])
    topic, count = topics[place], 1 + world.plan.size
    shards = topic._feed.spec.shard_count
    groups = [each for each in standing if each.id.startswith(f"{topic.name}:")]

    async def begin() -> None:
        # As a node does when it begins.
        gateway = app.runtime.gateway
        now, partitions = app.runtime.clock.now(), app.registry.partition_count
        await gateway.start_calls([each.call(now, partitions) for each in groups])

    senders = [f"{topic.name}-{each}" for each in "abc"]
    expected = [Said(sender, number) for sender in senders for number in range(count)]

    async def say(sender: str) -> None:
        await world.pause(4.0)
        if sender.endswith("c"):
            for number in range(count):
                said = Said(sender, number)
                await patiently(
                    lambda said=said: topic.publish(said, id=f"{said.sender}-{said.number}"),
                    anywhere=False,
                )
        else:
            await patiently(lambda: speaks.options(id=sender)(place, sender, count))

    async def listen(number: int) -> None:
        await world.pause(6.0)
        said = world.random.choice(expected)
        call = listens.options(id=f"{topic.name}-listens-{number}")
        found = await patiently(lambda: call(place, said.sender, said.number))
        world.check(found == said, f"{found} came to who waited for {said}")

    async def steer() -> None:
        await world.pause(4.0)
        for group in world.random.sample(GROUPS[place], 2):
            await _steer(group.pause)
            await world.pause(4.0)
            await _steer(group.resume)

    await patiently(begin)
    await asyncio.gather(*map(say, senders), *(listen(each) for each in range(3)), steer())

    log: list[Said] = []
    for shard in range(shards):
        length = await patiently(topic._feed.log(shard).length)
        while length < sum(_shard(topic, each) == shard for each in expected):
            await asyncio.sleep(PAUSE_SECONDS)
            length = await patiently(topic._feed.log(shard).length)
        log += [each.value for each in await _read(world, topic, shard, length)]
    _once(world, topic, "the log", log, expected)

    await _check_groups(world, place, log, expected)
    for each in groups:
        await _end(each.id)
    for key in sorted({said.key for said in expected}):
        collector = app.handle(workflow_id(f"collecting-{topic.name}", f"{topic.name} {key}"))
        await patiently(lambda collector=collector: collector.cancel("the seed ends"))


async def _check_groups(world: World, place: int, log: list[Said], expected: list[Said]) -> None:
    """Each group has been told what the log has."""
    topic = topics[place]
    ordered: list[Said] = []
    for key in range(KEYS):
        of_key = [each for each in expected if each.key == f"k{key}"]
        found = await _heard(f"{topic.name} k{key}", len(of_key))
        in_log = [each for each in log if each.key == f"k{key}"]
        same = _is_same(world, topic, found, in_log)
        world.check(same, f"key {key} was told {found}, and the log has {in_log}")
        ordered += found
    _once(world, topic, "the ordered group", ordered, expected)
    for key in range(KEYS):
        in_log = [each for each in log if each.key == f"k{key}"]
        found = await _heard(f"{topic.name} k{key} collected", len(in_log))
        same = _is_same(world, topic, found, in_log)
        world.check(same, f"key {key} has collected {found}, and the log has {in_log}")
    even = [each for each in expected if each.number % 2 == 0]
    filtered = await _heard(f"{topic.name} passed on", len(even))
    _once(world, topic, "the filtered group", filtered, even)
    # Once more, from the beginning: each key in the same order.
    await _steer(lambda: GROUPS[place][0].seek(offset=0))
    for key in range(KEYS):
        in_log = [each for each in log if each.key == f"k{key}"]
        while not _has_come_again(found := await _heard(f"{topic.name} k{key}", 0), in_log):
            if world.has_quarantined(topic.name):
                if all(found.count(each) > 1 for each in in_log):
                    break
            else:
                fits = _has_come_again([*found, *in_log], in_log)
                world.check(fits, f"key {key} was told {found}, and the log has {in_log}")
            await asyncio.sleep(PAUSE_SECONDS)


def _is_same(world: World, topic: Topic[Said], found: list[Said], in_log: list[Said]) -> bool:
    if world.has_quarantined(topic.name):
        return sorted(map(repr, found)) == sorted(map(repr, in_log))
    return found == in_log


def _shard(topic: Topic[Said], said: Said) -> int:
    return topic._shard(said.key)


async def _heard(key: str, count: int) -> list[Said]:
    """What a group has been told, once it is so many."""
    while len(found := await patiently(Heard(key).all)) < count:
        await asyncio.sleep(PAUSE_SECONDS)
    return found


async def _steer(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Once the group's own calls are there; perhaps more than once, if nobody says that it was accepted."""
    while True:
        try:
            return await patiently(work, anywhere=False)
        except CallNotFound:
            await asyncio.sleep(PAUSE_SECONDS)


async def _end(id_: str) -> None:
    """Its row goes with it: a request whose answer was lost is sent again, and may find nothing."""
    with suppress(CallNotFound):
        await patiently(lambda: app.handle(id_).cancel("the seed ends"))


def _has_come_again(found: list[Said], in_log: list[Said]) -> bool:
    """All of it has come and then come once more, from the beginning each time."""
    place, runs = 0, 0
    for each in found:
        if place == len(in_log) or each != in_log[place]:
            place = 0
        if each != in_log[place]:
            return False
        place += 1
        runs += place == len(in_log)
    return runs > 1 or not in_log


def _once(
    world: World, topic: Topic[Said], who: str, found: list[Said], expected: list[Said]
) -> None:
    """All of it, once, and that of each sender in order by key."""
    world.check(sorted(map(repr, found)) == sorted(map(repr, expected)), f"{who} has {found}")
    if "filtered" in who or world.has_quarantined(topic.name):
        return
    last: dict[Any, int] = {}
    for each in found:
        before = last.get((each.sender, each.key), -1)
        world.check(before < each.number, f"{who} has {each} after number {before}")
        last[each.sender, each.key] = each.number
