"""Topics: events published a second, what one and three consumer groups get, and how soon.

Beside them, in the same run, tasks that do nothing: an event's call is such a task. On SQLite, and on
PostgreSQL with one node; the clients are in the node's process.

Example:
    python benchmarks/topics.py --events 10000 --concurrency 1000 --repeat 3 --json topics.json
    python benchmarks/topics.py --url postgresql://fenbu@localhost/bench --groups 1 3 10
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from _measure import Report, Timing, arguments, clients, median, number, scratch, spread, together
from _server import schema, server, settings_of

from fenbu import App

PAGE = 500
"""Events of one `publish_many`."""

ALONE = 200
"""Events that are published one by one, for the latency."""

Runs = dict[str, list[Timing]]


@dataclass
class Service:
    """An app with a topic, a task, and what its groups have got."""

    app: App
    topic: Any
    task: Any
    groups: int
    got: Counter[str] = field(default_factory=Counter)
    came: dict[int, float] = field(default_factory=dict)
    """When an event's first handler began."""
    wanted: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def begun(self, group: str, event: int) -> None:
        self.came.setdefault(event, time.perf_counter())
        self.got[group] += 1
        self.changed.set()

    async def delivered(self, count: int) -> None:
        """Until each group has begun with so many events more than were wanted before."""
        self.wanted += count
        while sum(self.got.values()) < self.wanted * self.groups:
            self.changed.clear()
            await self.changed.wait()


def service(url: str, groups: int) -> Service:
    app = App("benchmark", url=url)
    topic = app.topic("numbers", int)

    @app.task(name="nothing")
    async def nothing(event: int) -> int:
        return event

    made = Service(app, topic, nothing, groups)
    for each in range(groups):
        name = f"group-{each}"

        async def handler(event: int, name: str = name) -> None:
            made.begun(name, event)

        topic.subscribe(app.task(name=name)(handler), group=name, begin="all")
    return made


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"url": "", "groups": (1, 3), "events": 10_000, "concurrency": 1000, "repeat": 3},
        smoke={"events": 300, "concurrency": 100, "repeat": 1},
        helps={
            "url": "a PostgreSQL database; a server of its own if none is given",
            "groups": "how many consumer groups get the events",
            "events": "how many are published for each number",
            "concurrency": "clients at a time, each of which waits until its event is durable",
            "repeat": "times that everything is measured, in turn",
        },
    )
    report = Report("topics", "Topics", given)
    found: dict[str, Runs] = {}
    latencies: dict[str, Runs] = {}
    with server(given.url) as url, scratch(given.directory) as directory:
        report.content["machine"] |= asyncio.run(settings_of(url))
        for turn in range(given.repeat):
            for place in ("SQLite", "PostgreSQL"):
                print(f"round {turn + 1} of {given.repeat}: {place}", file=sys.stderr)
                for groups in (0, *given.groups):
                    file = f"sqlite:///{directory}/{turn}-{groups}.db"
                    with nullcontext(file) if place == "SQLite" else schema(url) as where:
                        rates, waits = asyncio.run(measured(service(where, groups), given))
                    for kept, new in ((found, rates), (latencies, waits)):
                        for name, timing in new.items():
                            kept.setdefault(place, {}).setdefault(name, []).append(timing)
    _tables(report, found, latencies, given)
    report.finish()


async def measured(
    made: Service, given: argparse.Namespace
) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Events a second, and latencies."""
    count, groups = given.events, made.groups
    rates: dict[str, Timing] = {}
    async with made.app:
        warm = max(1, count // 20)
        await made.topic.publish_many(range(warm))
        await made.delivered(warm)
        if not groups:
            await clients(made.task, count=warm, concurrency=given.concurrency)
            rates["await task(n)"] = await clients(
                made.task, count=count, concurrency=given.concurrency
            )
            rates["topic.publish, no group"] = await clients(
                made.topic.publish, count=count, concurrency=given.concurrency
            )
            pages = _pages(made, count)
            rates[f"topic.publish_many by {PAGE}, no group"] = await together(pages, count=count)
            return rates, {"await task(n)": await clients(made.task, count=ALONE, concurrency=1)}
        words = f"{groups} group{'s' if groups > 1 else ''}"
        publish = _pages(made, count)

        async def until_delivered() -> None:
            await publish()
            await made.delivered(count)

        rates[f"published and delivered to {words}"] = await together(until_delivered, count=count)
        return rates, {f"publish to handler, {words}": await _latency(made)}


def _pages(made: Service, count: int) -> Callable[[], Awaitable[Any]]:
    """Publish so many events, in pages that follow one another."""

    async def publish() -> None:
        for first in range(0, count, PAGE):
            await made.topic.publish_many(range(first, min(count, first + PAGE)))

    return publish


async def _latency(made: Service) -> Timing:
    """From before `publish` to the begin of the event's first handler, one event at a time."""
    waits: list[float] = []
    clock, began, cpu_began = time.perf_counter, time.perf_counter(), time.process_time()
    for event in range(-ALONE, 0):
        published = clock()
        await made.topic.publish(event)
        await made.delivered(1)
        waits.append(made.came[event] - published)
    return Timing(ALONE, clock() - began, time.process_time() - cpu_began, waits)


def _tables(
    report: Report,
    found: dict[str, Runs],
    latencies: dict[str, Runs],
    given: argparse.Namespace,
) -> None:
    for place, runs in found.items():
        tasks = median([each.rate for each in runs["await task(n)"]])
        report.table(
            f"{place}: {given.events:,} events, {given.concurrency:,} clients at a time, one node",
            [
                {
                    "": name,
                    "a second": spread([each.rate for each in timings]),
                    "CPU µs each": number(median([each.cpu_microseconds for each in timings])),
                    "beside tasks": number(median([each.rate for each in timings]) / tasks),
                }
                for name, timings in runs.items()
            ],
        )
        report.table(
            f"{place}: one at a time, milliseconds",
            [
                {
                    "": name,
                    "p50": spread([each.percentile(0.5) for each in timings]),
                    "p99": spread([each.percentile(0.99) for each in timings]),
                }
                for name, timings in latencies[place].items()
            ],
        )
    report.raw(
        "rates",
        {
            place: {name: [each.rate for each in timings] for name, timings in runs.items()}
            for place, runs in found.items()
        },
    )
    report.note(
        f"Published and delivered: from the first `publish_many` of {PAGE} to the begin of the last handler; "
        "an event that three groups get counts once, and is three calls. Publish to handler: from before "
        "`publish` to the begin of the event's first handler. Beside tasks: in times of `await task(n)`, "
        f"{given.concurrency:,} at a time."
    )


if __name__ == "__main__":
    main()
