"""Does a call cost more with more nodes, or with more calls that are open? Processor time on PostgreSQL.

The same three-step workflows, from a client in a process of its own, on 1, 2, 4 and 8 nodes: once with a
thousand at a time on all of them together, so that each has less to do, and once with a thousand on each.
As many nodes that are a cluster each, in a database each, have the same load in both cases: what they cost
more than one node is what smaller batches cost, and processes that share the processors; what a cluster of
them costs more than that is what it takes to be a cluster.
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

from _measure import Report, Timing, arguments, clients, median, number, spread
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
    """Clusters under a load."""

    name: str
    clusters: list[Cluster]
    """One, or some that have nothing to do with each other."""
    concurrency: int
    """On each cluster."""


Found = dict[str, list[Cost]]
"""The cost in each round, by the name of the case."""


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
        with databases(url, len(given.nodes) + max(given.nodes)) as urls:
            together, each = asyncio.run(by_nodes(urls, given))
        with databases(url, len(given.open)) as urls:
            by_open = asyncio.run(beside_open(urls, given))
    for where, found in (("on all nodes together", together), ("on each node", each)):
        report.table(
            f"Three-step workflows from a client of its own, {CONCURRENCY:,} at a time {where}",
            [_row(name, costs) for name, costs in found.items()],
        )
    report.table(
        "The same on one node, beside workflows that wait",
        [_row(name, costs) for name, costs in by_open.items()],
    )
    few, most = _nodes(min(given.nodes)), _nodes(max(given.nodes))
    apart = _apart(max(given.nodes))
    for where, found in (("together", together), ("each", each)):
        _target(report, found, few, most, f", with the same load {where}")
        _target(report, found, apart, most, f", with the same load {where}")
    _target(report, by_open, _open(min(given.open)), _open(max(given.open)))
    report.finish()


def _target(report: Report, found: Found, few: str, more: str, where: str = "") -> None:
    growth = [
        much.microseconds / little.microseconds
        for little, much in zip(found[few], found[more], strict=True)
    ]
    report.target(
        f"processor time of a call at {more}, in times of that at {few}{where}",
        "< 1.1", spread(growth), met=median(growth) < 1.1,
    )  # fmt: skip


def _nodes(count: int) -> str:
    return f"{count} node{'s' if count > 1 else ''}"


def _apart(count: int) -> str:
    return f"{count} clusters of one node"


def _open(count: int) -> str:
    return f"{count:,} open"


@contextmanager
def databases(server_url: str, count: int) -> Iterator[list[str]]:
    """New databases on the server, gone afterwards."""
    with ExitStack() as stack:
        yield [stack.enter_context(database(server_url)) for _ in range(count)]


async def by_nodes(urls: list[str], given: argparse.Namespace) -> tuple[Found, Found]:
    """With a thousand at a time together, and with a thousand on each node."""
    async with AsyncExitStack() as stack:
        free, most = iter(urls), max(given.nodes)

        async def cluster(count: int) -> Cluster:
            place = Place(count, separate=True)
            return await stack.enter_async_context(cluster_of(place, fresh(next(free))))

        clusters = {count: await cluster(count) for count in given.nodes}
        apart = [await cluster(1) for _ in range(most)]
        together = [Case(_nodes(n), [each], CONCURRENCY) for n, each in clusters.items()]
        each = [Case(_nodes(n), [each], n * CONCURRENCY) for n, each in clusters.items()]
        together.append(Case(_apart(most), apart, CONCURRENCY // most))
        each.append(Case(_apart(most), apart, CONCURRENCY))
        return (
            await _in_turns(together, "together", urls[0], given),
            await _in_turns(each, "each", urls[0], given),
        )


async def beside_open(urls: list[str], given: argparse.Namespace) -> Found:
    """On one node with so many workflows that wait."""
    async with AsyncExitStack() as stack:
        cases: list[Case] = []
        for count, url in zip(given.open, urls, strict=True):
            place = Place(1, separate=True)
            cluster = await stack.enter_async_context(cluster_of(place, fresh(url)))
            await _start_open(cluster, count)
            cases.append(Case(_open(count), [cluster], CONCURRENCY))
        # What the many have left is not to be tidied up beside those that are measured.
        for url in urls:
            await execute(url, "VACUUM (ANALYZE)", "CHECKPOINT")
        return await _in_turns(cases, "calls", urls[0], given)


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
        await _run(each, count // 4)
    found: Found = {}
    for turn in range(given.repeat):
        for each in cases:
            print(f"round {turn + 1} of {given.repeat}: {each.name} {what}", file=sys.stderr)
            found.setdefault(each.name, []).append(await _cost(each, count, pid))
    return found


async def _run(case: Case, count: int) -> Timing:
    """So many workflows, the same number on each cluster."""
    share = max(1, count // len(case.clusters))
    began, cpu_began = time.perf_counter(), time.process_time()
    timings = await asyncio.gather(
        *(
            clients(each.work.check_three_steps, count=share, concurrency=case.concurrency)
            for each in case.clusters
        )
    )
    return Timing(
        sum(each.count for each in timings),
        time.perf_counter() - began,
        time.process_time() - cpu_began,
    )


async def _cost(case: Case, count: int, pid: int | None) -> Cost:
    def used() -> tuple[float, float]:
        processes = [process for each in case.clusters for process in each.processes]
        return sum(process_seconds(each.pid) for each in processes), server_seconds(pid)

    before = used()
    timing = await _run(case, count)
    nodes, of_server = ((b - a) / timing.count * 1e6 for a, b in zip(before, used(), strict=True))
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
