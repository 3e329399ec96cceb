"""No-op tasks from a client process on two workers: fenbu, pgqueuer, Procrastinate, Celery and Dramatiq.

Each peer gets an environment of its own, `benchmarks/.env-<name>`, in pinned versions, which this script
makes when it is missing (that needs a package index). All on PostgreSQL use the same server, each in a
database of its own; those on Redis one with `appendfsync everysec`. From the first task that is enqueued
until the last one has ended, and its result is there where the library keeps one.

Example:
    python benchmarks/versus_peers.py --repeat 3 --json versus_peers.json
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from _measure import HERE, PYTHON, Report, arguments, median, spread
from _peers import PEERS, Peer, Result, Side, redis, said
from _server import database, end_all, schema, server, settings_of

COUNT = {
    "fenbu": 40_000,
    "pgqueuer": 20_000,
    "Procrastinate": 3_000,
    "Celery": 5_000,
    "Dramatiq": 10_000,
}
"""Some seconds of work for each."""

Found = dict[str, list[Result]]


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"url": "", "repeat": 3, "concurrency": 100, "scale": 1.0, "without": ""},
        smoke={"repeat": 1, "scale": 0.02},
        helps={
            "url": "the PostgreSQL database; a server of its own if none is given",
            "repeat": "times that all are measured, in turn",
            "concurrency": "tasks that are enqueued singly at a time, where a library has an async client",
            "scale": "share of the usual number of tasks",
            "without": "peers to leave out, separated by commas",
        },
    )
    report = Report("versus_peers", "No-op tasks beside task queues", given)
    peers = [each for each in PEERS.values() if each.name not in given.without.split(",")]
    for each in peers:
        report.content["machine"][each.name] = each.packages[0].partition("==")[2]
    bulk: Found = {}
    single: Found = {}
    with server(given.url) as url:
        report.content["machine"] |= asyncio.run(settings_of(url))
        for turn in range(given.repeat):
            for peer in (None, *peers):
                name = "fenbu" if peer is None else peer.name
                print(f"round {turn + 1} of {given.repeat}: {name}", file=sys.stderr)
                count = max(50, int(COUNT[name] * given.scale))
                with place(peer, url, given.concurrency) as side:
                    side(count // 10, bulk=False)
                    single.setdefault(name, []).append({**side(count, bulk=False), "count": count})
                    if peer is None or peer.bulk:
                        bulk.setdefault(name, []).append({**side(count, bulk=True), "count": count})
    _table(report, f"Enqueued singly, {given.concurrency} at a time or in a loop", single)
    _table(report, "Enqueued in bulk, where the library can", bulk)
    _target(report, "enqueued singly", single)
    _target(report, "enqueued in bulk (those that cannot: singly)", {**single, **bulk})
    report.note(
        "Two worker processes each. fenbu, pgqueuer and Procrastinate enqueue singly from an async client, "
        "Celery and Dramatiq in a loop, which is all they offer. Kept: "
        + ", ".join(f"{each.name}: {each.results}" for each in peers)
        + "; fenbu: every result."
    )
    report.finish()


class _Client:
    """Enqueues tasks on a side that has its workers."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def __call__(self, count: int, *, bulk: bool) -> Result:
        result: Result = self._run(count, bulk=bulk)
        return result


@contextmanager
def place(peer: Peer | None, server_url: str, concurrency: int) -> Iterator[_Client]:
    """Workers on a fresh database."""
    if peer is None:
        with schema(server_url) as url, _nodes(url):

            def ours(count: int, *, bulk: bool) -> Result:
                given = {"url": url, "count": count, "concurrency": concurrency, "bulk": bulk}
                return said([PYTHON, str(HERE / "_peer_fenbu.py"), "client", json.dumps(given)])

            yield _Client(ours)
        return
    with redis() if peer.on_redis else database(server_url) as url:
        side = Side(peer, url)
        with side.workers():
            yield _Client(lambda count, bulk: side.client(count, concurrency, bulk=bulk))


@contextmanager
def _nodes(url: str) -> Iterator[None]:
    environment = {**os.environ, "FENBU_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)}
    migrate = [PYTHON, "-m", "fenbu", "migrate", "--url", url]
    subprocess.run(migrate, check=True, stdout=subprocess.DEVNULL)
    command = [PYTHON, "-m", "fenbu", "run", str(HERE / "_cluster_app.py"), "--drain", "1"]
    nodes = [
        subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    try:
        yield
    finally:
        end_all(nodes)


def _rate(run: Result) -> float:
    return run["count"] / run["seconds"]


def _table(report: Report, title: str, found: Found) -> None:
    ours = median([_rate(each) for each in found["fenbu"]])
    report.table(
        title,
        [
            {
                "": name,
                "tasks": f"{int(runs[0]['count']):,}",
                "enqueued/s": spread([each["count"] / each["enqueued_seconds"] for each in runs]),
                "end to end/s": spread([_rate(each) for each in runs]),
                "fenbu is faster by": f"{ours / median([_rate(each) for each in runs]):.1f} ×",
            }
            for name, runs in found.items()
        ],
    )


def _target(report: Report, what: str, found: Found) -> None:
    ours = median([_rate(each) for each in found["fenbu"]])
    others = {
        name: median([_rate(e) for e in runs]) for name, runs in found.items() if name != "fenbu"
    }
    if not others:
        return
    best = max(others, key=others.__getitem__)
    report.target(
        f"no-op tasks a second from another process, {what}",
        f"more than any peer ({best}: {others[best]:,.0f})",
        f"{ours:,.0f}",
        met=ours > others[best],
    )


if __name__ == "__main__":
    main()
