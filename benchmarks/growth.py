"""Does a call cost more with more nodes, or with more calls that are open? Processor time on PostgreSQL.

The same three-step workflows, from a client in a process of its own, on 1, 2, 4 and 8 nodes: once with a
thousand at a time on all of them together, so that each has less to do, and once with a thousand on each.
Then on one node beside a thousand, a hundred thousand and a million workflows that have done a step and wait
for a signal. Counted is the processor time of all nodes and of all processes of the server, and not that of
the client. All clusters that are compared run side by side, each in a database of its own, because a server
wakes all who listen in one at each hint; they are measured in turns, and those whose turn it is not, idle.

Example:
    python benchmarks/growth.py --nodes 1 2 4 8 --open 1000 100000 1000000 --json growth.json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass

from _measure import Report, arguments, clients, median, number, spread
from _server import (
    database,
    execute,
    fresh,
    postmaster,
    process_seconds,
    server,
    server_seconds,
    settings_of,
)
from _workload import suspended
from cluster import Cluster, Place, cluster_of

WORKFLOWS = 40_000
"""On each cluster the same, because the server also vacuums and analyses what they leave: five rounds of
the most that are under way at a time."""

CONCURRENCY = 1_000
STARTED_TOGETHER = 10_000
CONNECTIONS_MAX = 300


@dataclass
class Cost:
    """Of one workflow."""

    rate: float
    nodes_microseconds: float
    server_microseconds: float

    @property
    def microseconds(self) -> float:
        return self.nodes_microseconds + self.server_microseconds


@dataclass
class Case:
    """A cluster under a load."""

    size: int
    """Nodes, or open workflows: what is compared."""
    cluster: Cluster
    concurrency: int


Found = dict[int, list[Cost]]
"""The cost in each round, by size."""


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={
            "url": "",
            "nodes": (1, 2, 4, 8),
            "open": (1_000, 100_000, 1_000_000),
            "repeat": 3,
            "scale": 1.0,
        },
        smoke={"nodes": (1, 2), "open": (100, 1_000), "repeat": 1, "scale": 0.02},
        helps={
            "url": "the database; a server of its own if none is given",
            "nodes": "how many nodes, one process each",
            "open": "workflows that wait meanwhile",
            "repeat": "times that every cluster is measured, in turn",
            "scale": "share of the usual number of workflows",
        },
    )
    report = Report("growth", "The cost of a call as clusters grow", given)
    with server(given.url, max_connections=str(CONNECTIONS_MAX)) as url:
        report.content["machine"] |= asyncio.run(settings_of(url))
        with databases(url, len(given.nodes)) as urls:
            together, each = asyncio.run(by_nodes(urls, given))
        with databases(url, len(given.open)) as urls:
            by_open = asyncio.run(beside_open(urls, given))
    for where, found in (("on all nodes together", together), ("on each node", each)):
        report.table(
            f"Three-step workflows from a client of its own, {CONCURRENCY:,} at a time {where}",
            [_row(f"{n} node{'s' if n > 1 else ''}", costs) for n, costs in found.items()],
        )
    report.table(
        "The same on one node, beside workflows that wait",
        [_row(f"{n:,} open", costs) for n, costs in by_open.items()],
    )
    for what, found in (
        ("nodes with the same load together", together),
        ("nodes with the same load each", each),
        ("open calls", by_open),
    ):
        least, most = min(found), max(found)
        rounds = zip(found[least], found[most], strict=True)
        growth = [more.microseconds / few.microseconds for few, more in rounds]
        report.target(
            f"processor time of a call at {most:,} {what}, in times of that at {least:,}",
            "< 1.1", spread(growth), met=median(growth) < 1.1,
        )  # fmt: skip
    report.finish()


@contextmanager
def databases(server_url: str, count: int) -> Iterator[list[str]]:
    """New databases on the server, gone afterwards."""
    with ExitStack() as stack:
        yield [stack.enter_context(database(server_url)) for _ in range(count)]


async def by_nodes(urls: list[str], given: argparse.Namespace) -> tuple[Found, Found]:
    """With a thousand at a time together, and with a thousand on each node."""
    async with AsyncExitStack() as stack:
        clusters: dict[int, Cluster] = {}
        for count, url in zip(given.nodes, urls, strict=True):
            place = Place(count, separate=True)
            clusters[count] = await stack.enter_async_context(cluster_of(place, fresh(url)))
        together = [Case(n, each, CONCURRENCY) for n, each in clusters.items()]
        each = [Case(n, each, n * CONCURRENCY) for n, each in clusters.items()]
        return (
            await _in_turns(together, "nodes together", urls[0], given),
            await _in_turns(each, "nodes each", urls[0], given),
        )


async def beside_open(urls: list[str], given: argparse.Namespace) -> Found:
    """On one node with so many workflows that wait."""
    async with AsyncExitStack() as stack:
        cases: list[Case] = []
        for count, url in zip(given.open, urls, strict=True):
            place = Place(1, separate=True)
            cluster = await stack.enter_async_context(cluster_of(place, fresh(url)))
            await _start_open(cluster, count)
            cases.append(Case(count, cluster, CONCURRENCY))
        # What the many have left is not to be tidied up beside those that are measured.
        for url in urls:
            await execute(url, "VACUUM (ANALYZE)", "CHECKPOINT")
        return await _in_turns(cases, "open", urls[0], given)


async def _start_open(cluster: Cluster, count: int) -> None:
    began = time.perf_counter()
    for start in range(0, count, STARTED_TOGETHER):
        some = range(start, min(count, start + STARTED_TOGETHER))
        await cluster.work.sleep_long.start_many((each,) for each in some)
        print(f"\r{some.stop:,} of {count:,} workflows started", end="", file=sys.stderr)
    while await suspended(cluster.work.app) < count:  # noqa: ASYNC110
        await asyncio.sleep(5.0)
    print(f", and waiting after {time.perf_counter() - began:.0f} s", file=sys.stderr)


async def _in_turns(
    cases: Iterable[Case], what: str, server_url: str, given: argparse.Namespace
) -> Found:
    count = max(100, int(WORKFLOWS * given.scale))
    pid = await postmaster(server_url)
    for each in cases:
        await clients(
            each.cluster.work.check_three_steps, count=count // 4, concurrency=each.concurrency
        )
    found: Found = {}
    for turn in range(given.repeat):
        for each in cases:
            print(f"round {turn + 1} of {given.repeat}: {each.size:,} {what}", file=sys.stderr)
            found.setdefault(each.size, []).append(await _cost(each, count, pid))
    return found


async def _cost(case: Case, count: int, pid: int | None) -> Cost:
    def used() -> tuple[float, float]:
        nodes = sum(process_seconds(each.pid) for each in case.cluster.processes)
        return nodes, server_seconds(pid)

    before = used()
    call = case.cluster.work.check_three_steps
    timing = await clients(call, count=count, concurrency=case.concurrency)
    nodes, of_server = ((b - a) / count * 1e6 for a, b in zip(before, used(), strict=True))
    return Cost(timing.rate, nodes, of_server)


def _row(name: str, costs: list[Cost]) -> dict[str, str]:
    return {
        "": name,
        "workflows/s": spread([each.rate for each in costs]),
        "CPU µs a workflow": spread([each.microseconds for each in costs]),
        "of it nodes": number(median([each.nodes_microseconds for each in costs])),
        "server": number(median([each.server_microseconds for each in costs])),
    }


if __name__ == "__main__":
    main()
