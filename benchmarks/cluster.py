"""fenbu on PostgreSQL: one node and several, clients in a node's process and in one of their own.

Beside one node, a bare loop writes the same batches to the same server in the same run. `separate` means that
the clients' process has nothing but the database; `beside` that they are in the process of one of the nodes.

Example:
    python benchmarks/cluster.py --nodes 1 2 4 --repeat 3 --json cluster.json
    python benchmarks/cluster.py --url postgresql://fenbu@localhost/bench --nodes 2
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from _measure import (
    HERE,
    Report,
    Timing,
    arguments,
    clients,
    median,
    number,
    spread,
    together,
)
from _measure import run as run_on
from _pg_ceiling import Ceiling, ceiling_of, recorded
from _server import (
    end_all,
    forget,
    fresh,
    postmaster,
    process_seconds,
    server,
    server_seconds,
    settings_of,
    slower_commits,
    until_settled,
)
from _workload import Workload, workload_on

WORKFLOWS = {1: 300, 100: 4_000, 1000: 20_000}
TASKS = 30_000
OPERATIONS = 20_000
KEYS = 1_000
READY_SECONDS = 30.0

SLOW_FLUSH_MICROSECONDS = 1_000
"""What flushing takes on many a server's disk, on top of this one's."""


@dataclass
class Run:
    """One measured stretch on a cluster."""

    timing: Timing
    nodes_cpu: float
    server_cpu: float
    client_cpu: float
    """Seconds of processor time; of the clients' own process only if it is no node."""
    ceiling: Ceiling | None = None
    bare_commit_ms: float = 0.0


@dataclass
class Place:
    """Where clients and nodes are."""

    nodes: int
    separate: bool

    @property
    def name(self) -> str:
        count = f"{self.nodes} node{'s' if self.nodes > 1 else ''}"
        return f"{count}, clients {'separate' if self.separate else 'beside'}"


ONE_BESIDE, ONE_SEPARATE = Place(1, separate=False), Place(1, separate=True)


@dataclass
class Cluster:
    """Nodes that run, and a workload whose app is open."""

    work: Workload
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)


Case = tuple[str, int, Callable[[Workload, int], Awaitable[Timing]]]
Found = dict[str, dict[str, list[Run]]]
"""The runs of a case, by its name and then by the place's."""

WORKFLOW_ALONE, TASK_ALONE = "three-step workflows, 1 at a time", "await task(x), 1 at a time"


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={
            "url": "",
            "nodes": (1, 2, 4),
            "concurrency": (1, 100, 1000),
            "repeat": 3,
            "scale": 1.0,
            "loop": "uvloop",
        },
        smoke={"nodes": (1, 2), "concurrency": (1, 100), "repeat": 1, "scale": 0.02},
        helps={
            "url": "the database; a server of its own if none is given",
            "nodes": "how many nodes, one process each",
            "concurrency": "clients at a time, each of which waits for its call",
            "repeat": "times that everything is measured, in turn",
            "scale": "share of the usual number of calls",
            "loop": "of this process: asyncio or uvloop, which `fenbu run` takes where it is installed",
        },
    )
    report = Report("cluster", "On PostgreSQL", given)
    found: Found = {}
    slow: Found = {}
    places = [Place(count, separate) for count in given.nodes for separate in (False, True)]
    with server(given.url) as url:
        report.content["machine"] |= asyncio.run(settings_of(url))
        for turn in range(given.repeat):
            for place in places:
                print(f"round {turn + 1} of {given.repeat}: {place.name}", file=sys.stderr)
                for name, run in run_on(measured(place, url, cases(given)), given.loop).items():
                    found.setdefault(name, {}).setdefault(place.name, []).append(run)
            if given.url:
                continue  # How somebody else's server commits is not to be changed.
            print(f"round {turn + 1} of {given.repeat}: commits that take longer", file=sys.stderr)
            with slower_commits(url, SLOW_FLUSH_MICROSECONDS):
                for place in (ONE_BESIDE, ONE_SEPARATE):
                    alone = [workflow_case(1, given.scale), alone_task_case(given.scale)]
                    for name, run in run_on(measured(place, url, alone), given.loop).items():
                        slow.setdefault(name, {}).setdefault(place.name, []).append(run)
    for name, of_place in found.items():
        report.table(name, [_row(place, runs) for place, runs in of_place.items()])
    _bare_table(report, found)
    _targets(report, found)
    if slow:
        _slow_table(report, slow)
    report.note(
        "CPU is that of all node processes, of all processes of the server, and of the clients' process "
        "where it is one of its own. Beside: the clients are in the process of one of the nodes."
    )
    report.finish()


async def measured(place: Place, server_url: str, todo: list[Case]) -> dict[str, Run]:
    """Every case once, on a fresh schema."""
    url = fresh(server_url)
    pid = await postmaster(server_url)
    found: dict[str, Run] = {}
    alone = place.nodes == 1 and not place.separate
    async with cluster_of(place, url) as cluster:
        for name, count, work in todo:
            await work(cluster.work, max(20, count // 10))
            keep = alone and name.startswith("three-step")
            with recorded() if keep else nullcontext() as recorder:
                before = _cpu(cluster, pid)
                if recorder is not None:
                    recorder.begin()
                timing = await work(cluster.work, count)
                if recorder is not None:
                    recorder.end()
                after = _cpu(cluster, pid)
            nodes, of_server, own = (b - a for a, b in zip(before, after, strict=True))
            nodes, own = (nodes, own) if place.separate else (nodes + own, 0.0)
            run = found[name] = Run(timing, nodes, of_server, own)
            if recorder is not None:
                run.ceiling = await ceiling_of(recorder, fresh(server_url))
    return found


def _cpu(cluster: Cluster, pid: int | None) -> tuple[float, float, float]:
    nodes = sum(process_seconds(each.pid) for each in cluster.processes)
    return nodes, server_seconds(pid), time.process_time()


@asynccontextmanager
async def cluster_of(place: Place, url: str) -> AsyncIterator[Cluster]:
    """So many nodes, all others in processes of their own."""
    work = workload_on(url)
    opened: AbstractAsyncContextManager[Any] = work.app.client() if place.separate else work.app
    cluster = Cluster(work)
    first = _node(url) if place.separate else None
    try:
        if first is not None:
            cluster.processes.append(first)
            await _tables(url, first)
        async with opened:
            cluster.processes += [_node(url) for _ in range(place.nodes - 1)]
            async with asyncio.timeout(READY_SECONDS):
                await until_settled(work.app, place.nodes)
            yield cluster
    finally:
        end_all(cluster.processes)
        await forget(url)


async def _tables(url: str, node: subprocess.Popen[bytes]) -> None:
    """A client waits for a node to make them."""
    from fenbu._storage.open import storage_of
    from fenbu.errors import UsageError

    while node.poll() is None:
        storage = storage_of(url)
        try:
            await storage.open(create=False)
        except UsageError:
            await asyncio.sleep(0.1)
        else:
            return
        finally:
            await storage.close()
    raise SystemExit("a node did not start")


def _node(url: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "FENBU_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "fenbu", "run", str(HERE / "_cluster_app.py"), "--drain", "1"],
        env=environment,
        stderr=subprocess.DEVNULL,
    )


def scaled(count: int, scale: float) -> int:
    return max(20, int(count * scale))


def workflow_case(concurrency: int, scale: float) -> Case:
    async def work(workload: Workload, count: int) -> Timing:
        return await clients(workload.check_three_steps, count=count, concurrency=concurrency)

    count = scaled(WORKFLOWS.get(concurrency, 20 * concurrency), scale)
    return f"three-step workflows, {concurrency:,} at a time", count, work


def task_case(concurrency: int, count: int) -> Case:
    async def awaited(workload: Workload, count: int) -> Timing:
        return await clients(workload.task, count=count, concurrency=concurrency)

    return f"await task(x), {concurrency:,} at a time", count, awaited


def alone_task_case(scale: float) -> Case:
    return task_case(1, scaled(WORKFLOWS[1], scale))


def cases(given: argparse.Namespace) -> list[Case]:
    """Name, how many calls, and what makes them."""
    most, tasks = max(given.concurrency), scaled(TASKS, given.scale)

    async def started(workload: Workload, count: int) -> Timing:
        async def work() -> None:
            handles: list[Any] = []

            async def start(value: int) -> None:
                handles.append(await workload.task.start(value))

            await clients(start, count=count, concurrency=most)
            await asyncio.gather(*(each.result() for each in handles))

        return await together(work, count=count)

    async def started_many(workload: Workload, count: int) -> Timing:
        async def work() -> None:
            handles = await workload.task.start_many((value,) for value in range(count))
            await asyncio.gather(*(each.result() for each in handles))

        return await together(work, count=count)

    async def operations(workload: Workload, count: int) -> Timing:
        async def call(value: int) -> None:
            await workload.Counter(f"key-{value % KEYS}").increment(1)

        return await clients(call, count=count, concurrency=most)

    return [
        *(workflow_case(each, given.scale) for each in given.concurrency),
        *([alone_task_case(given.scale)] if most > 1 else []),
        task_case(most, tasks),
        (f"task.start(x) and its result, {most:,} at a time", tasks, started),
        ("task.start_many and all results", tasks, started_many),
        (
            f"entity operations on {KEYS:,} keys, {most:,} at a time",
            scaled(OPERATIONS, given.scale),
            operations,
        ),
    ]


def _row(place: str, runs: list[Run]) -> dict[str, str]:
    def microseconds(seconds: Callable[[Run], float]) -> str:
        return number(median([seconds(each) / each.timing.count * 1e6 for each in runs]))

    row = {"": place, "calls/s": spread([each.timing.rate for each in runs])}
    latency = bool(runs[0].timing.latencies)
    row["p50 ms"] = number(median([e.timing.percentile(0.5) for e in runs])) if latency else ""
    row["p99 ms"] = number(median([e.timing.percentile(0.99) for e in runs])) if latency else ""
    row["CPU µs a call: nodes"] = microseconds(lambda each: each.nodes_cpu)
    row["server"] = microseconds(lambda each: each.server_cpu)
    row["clients"] = microseconds(lambda each: each.client_cpu)
    return row


def _bare_table(report: Report, found: Found) -> None:
    rows: list[dict[str, str]] = []
    for name, of_place in found.items():
        runs = [(each, each.ceiling) for runs in of_place.values() for each in runs]
        with_bare = [(run, bare) for run, bare in runs if bare is not None]
        if with_bare:
            rows.append(
                {
                    "": name,
                    "bare calls/s": number(
                        median([r.timing.count / b.seconds for r, b in with_bare])
                    ),
                    "bare rows/s": number(median([b.rows / b.seconds for _, b in with_bare])),
                    "rows a batch": number(median([b.rows / b.batches for _, b in with_bare])),
                    "bare commit ms": number(median([b.commit_milliseconds for _, b in with_bare])),
                    "fenbu / bare": spread([b.seconds / r.timing.seconds for r, b in with_bare]),
                }
            )
    if rows:
        report.table(
            "One node, and a bare loop on one connection that sends the same batches", rows
        )


def _slow_table(report: Report, slow: Found) -> None:
    """The same aims where a commit costs what it does on disks that flush more slowly."""
    commit = _bare_commit(slow)
    report.table(
        f"1 at a time, where a commit takes {SLOW_FLUSH_MICROSECONDS:,} µs longer (commit_delay)",
        [
            {
                "": f"{name.partition(',')[0]}, {place}",
                "p50 ms": spread([run.timing.percentile(0.5) for run in runs]),
                "bare commit ms": number(commit),
                "p50 in bare commits": spread([e.timing.percentile(0.5) / commit for e in runs]),
            }
            for name, of_place in slow.items()
            for place, runs in of_place.items()
        ],
    )
    _latency_targets(report, slow, ", with slower commits")


def _bare_commit(found: Found) -> float:
    """Milliseconds of a bare commit of what a workflow alone writes."""
    runs = found[WORKFLOW_ALONE][ONE_BESIDE.name]
    return median([run.ceiling.commit_milliseconds for run in runs if run.ceiling])


def _latency_targets(report: Report, found: Found, where: str = "") -> None:
    if ONE_BESIDE.name not in found.get(WORKFLOW_ALONE, {}):
        return
    commit = _bare_commit(found)
    for name, place, what, aim, commits in (
        (WORKFLOW_ALONE, ONE_BESIDE, "a three-step workflow alone, in times of five bare commits", 1.5, 5),
        (TASK_ALONE, ONE_SEPARATE, "a task called from a separate client and back, in bare commits", 10, 1),
        (WORKFLOW_ALONE, ONE_SEPARATE, "a three-step workflow from there and back, in bare commits", 10, 1),
    ):  # fmt: skip
        if runs := found.get(name, {}).get(place.name):
            shown = [run.timing.percentile(0.5) / commit / commits for run in runs]
            report.target(
                "latency of " + what + where, f"≤ {aim:g}", spread(shown), met=median(shown) <= aim
            )


def _targets(report: Report, found: Found) -> None:
    one = ONE_BESIDE.name
    busy = found.get("three-step workflows, 1,000 at a time", {})
    bare = [(run, run.ceiling) for run in busy.get(one, []) if run.ceiling is not None]
    if bare:
        ratios = [ceiling.seconds / run.timing.seconds for run, ceiling in bare]
        report.target(
            "three-step workflows on one node beside the raw ceiling, 1,000 at a time",
            "≥ 0.5", spread(ratios), met=median(ratios) >= 0.5,
        )  # fmt: skip
    for separate in (False, True):
        few, more = (busy.get(Place(count, separate).name) for count in (1, 2))
        if few and more:
            pairs = zip(few, more, strict=True)
            ratios = [second.timing.rate / first.timing.rate for first, second in pairs]
            report.target(
                "two nodes as a multiple of one, three-step workflows, 1,000 at a time, clients "
                f"{'separate' if separate else 'beside'}",
                "≥ 1", spread(ratios), met=median(ratios) >= 1,
            )  # fmt: skip
    _latency_targets(report, found)


if __name__ == "__main__":
    main()
