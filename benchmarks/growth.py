"""Does a call cost more with more nodes, or with more calls that are open? Processor time on PostgreSQL.

The same three-step workflows, from a client in a process of its own, on 1, 2, 4 and 8 nodes: once with a
thousand at a time on all of them together, so that each has less to do, and once with a thousand on each.
Then on one node beside a thousand, a hundred thousand and a million workflows that have done a step and wait
for a signal. Counted is the processor time of all nodes and of all processes of the server, and not that of
the client.

Example:
    python benchmarks/growth.py --nodes 1 2 4 8 --open 1000 100000 1000000 --json growth.json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass

from _measure import Report, arguments, clients, median, number, spread
from _server import fresh, postmaster, process_seconds, server, server_seconds, settings_of
from cluster import Cluster, Place, cluster_of

WORKFLOWS = 40_000
"""On each cluster the same, because the server also vacuums and analyses what they leave: five rounds of
the most that are under way at a time."""

CONCURRENCY = 1_000
STARTED_TOGETHER = 10_000


@dataclass
class Cost:
    """Of one workflow."""

    rate: float
    nodes_microseconds: float
    server_microseconds: float

    @property
    def microseconds(self) -> float:
        return self.nodes_microseconds + self.server_microseconds


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
            "repeat": "measured so often in a row, on each cluster",
            "scale": "share of the usual number of workflows",
        },
    )
    report = Report("growth", "The cost of a call as clusters grow", given)
    with server(given.url) as url:
        report.content["machine"] |= asyncio.run(settings_of(url))
        shared = {n: asyncio.run(with_nodes(n, url, given, 1)) for n in given.nodes}
        by_nodes = {n: asyncio.run(with_nodes(n, url, given, n)) for n in given.nodes}
        by_open = {n: asyncio.run(with_open(n, url, given)) for n in given.open}
    for where, found in (("on all nodes together", shared), ("on each node", by_nodes)):
        report.table(
            f"Three-step workflows from a client of its own, {CONCURRENCY:,} at a time {where}",
            [_row(f"{n} node{'s' if n > 1 else ''}", costs) for n, costs in found.items()],
        )
    report.table(
        "The same on one node, beside workflows that wait",
        [_row(f"{n:,} open", costs) for n, costs in by_open.items()],
    )
    for what, found in (
        ("nodes with the same load together", shared),
        ("nodes with the same load each", by_nodes),
        ("open calls", by_open),
    ):
        least, most = min(found), max(found)
        growth = _median(found[most]) / _median(found[least])
        report.target(
            f"processor time of a call at {most:,} {what}, in times of that at {least:,}",
            "< 1.1", f"{growth:.2f}", met=growth < 1.1,
        )  # fmt: skip
    report.finish()


def _median(costs: list[Cost]) -> float:
    return median([each.microseconds for each in costs])


async def with_nodes(
    count: int, server_url: str, given: argparse.Namespace, times: int
) -> list[Cost]:
    print(f"{count} nodes, {times * CONCURRENCY:,} at a time", file=sys.stderr)
    pid = await postmaster(server_url)
    async with cluster_of(Place(count, separate=True), fresh(server_url)) as cluster:
        return await _measured(cluster, pid, given, times)


async def with_open(count: int, server_url: str, given: argparse.Namespace) -> list[Cost]:
    pid = await postmaster(server_url)
    async with cluster_of(Place(1, separate=True), fresh(server_url)) as cluster:
        began = time.perf_counter()
        for start in range(0, count, STARTED_TOGETHER):
            some = range(start, min(count, start + STARTED_TOGETHER))
            await cluster.work.sleep_long.start_many((each,) for each in some)
            print(f"\r{some.stop:,} of {count:,} workflows started", end="", file=sys.stderr)
        await _until_suspended(cluster, count)
        print(f", and waiting after {time.perf_counter() - began:.0f} s", file=sys.stderr)
        return await _measured(cluster, pid, given, 1)


async def _until_suspended(cluster: Cluster, count: int) -> None:
    """All have done their step and left memory."""
    storage = cluster.work.app.runtime.gateway.storage
    while True:
        found = await storage.count_calls()  # type: ignore[attr-defined]
        waiting = sum(n for (_, status), n in found.items() if status == "suspended")
        if waiting >= count:
            return
        await asyncio.sleep(5.0)


async def _measured(
    cluster: Cluster, pid: int | None, given: argparse.Namespace, times: int
) -> list[Cost]:
    count = max(100, int(WORKFLOWS * given.scale))

    call = cluster.work.check_three_steps
    await clients(call, count=count // 4, concurrency=times * CONCURRENCY)
    found: list[Cost] = []
    for _ in range(given.repeat):
        before = sum(process_seconds(each.pid) for each in cluster.processes), server_seconds(pid)
        timing = await clients(call, count=count, concurrency=times * CONCURRENCY)
        after = sum(process_seconds(each.pid) for each in cluster.processes), server_seconds(pid)
        nodes, of_server = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
        found.append(Cost(timing.rate, nodes, of_server))
    return found


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
