"""Does a backlog on a few partitions of one node drain over all nodes? On PostgreSQL, with real processes.

The calls have ids that their caller has chosen, such that all of them belong to a few partitions of the
same node. Each takes a while, and a node runs so many at a time. If nobody helped that node, all would take
as long as one node needs for them; if all nodes had work all the time, that divided by their number.

Example:
    python benchmarks/backlog.py --calls 1000000 --nodes 4 --json backlog.json
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import asyncpg
from _measure import Report, arguments, number
from _server import end_all, fresh, server, settings_of, until_settled

from fenbu._core.ids import partition_of
from fenbu._core.limit import PARTITION_COUNT
from fenbu._storage.postgres.url import target_of

HERE = Path(__file__).parent

NAP_SECONDS = 0.1
PLACES = 75
"""Of a node; with the nap a number of calls a second that four nodes reach on two processors."""

STARTED_TOGETHER = 5_000


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"url": "", "calls": 1_000_000, "nodes": 4, "partitions": 8},
        smoke={"calls": 5_000, "nodes": 2},
        helps={
            "url": "the database; a server of its own if none is given",
            "calls": "how many wait",
            "nodes": "how many nodes, one process each",
            "partitions": "how many partitions they belong to, all of one node",
        },
    )
    report = Report("backlog", "A backlog on a few partitions", given)
    with server(given.url) as url:
        os.environ["FENBU_URL"] = fresh(url)
        subprocess.run([sys.executable, "-m", "fenbu", "migrate"], check=True, stdout=sys.stderr)
        report.content["machine"] |= asyncio.run(settings_of(url))
        nodes = [start() for _ in range(given.nodes)]
        try:
            began, ended, ran = asyncio.run(drain(given))
        finally:
            end_all(nodes)
    alone = given.calls * NAP_SECONDS / PLACES
    least = alone / given.nodes
    took = ended - began
    report.table(
        f"{given.calls:,} tasks of {NAP_SECONDS * 1000:.0f} ms on {given.partitions} of {PARTITION_COUNT} "
        f"partitions, {given.nodes} nodes that run {PLACES} at a time each",
        [
            {
                "": "seconds",
                "from the first start to the last end": number(took),
                "one node, if it never waited": number(alone),
                "all nodes, if none ever waited": number(least),
            }
        ],
    )
    report.table(
        "Which node has run how many",
        [
            {"": name, "calls": f"{calls:,}", "share": number(calls / given.calls)}
            for name, calls in ran.items()
        ],
    )
    fewest, equal = min(ran.values(), default=0), given.calls / given.nodes
    report.target(
        "calls of a backlog on a few partitions that the node with fewest ran, as a share of an equal part",
        "≥ 0.75",
        number(fewest / equal if len(ran) == given.nodes else 0.0),
        met=len(ran) == given.nodes and fewest >= 0.75 * equal,
    )
    report.target(
        "time of that backlog, in times of what all nodes need if none ever waits",
        "< 1.5",
        number(took / least),
        met=took < 1.5 * least,
    )
    report.finish()


def start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fenbu", "run", str(HERE / "_naps.py")]
    return subprocess.Popen([*command, "--concurrency", str(PLACES)], stderr=subprocess.DEVNULL)


def ids_in(partitions: set[int]) -> Iterator[str]:
    """Ids of calls that belong to these partitions."""
    return (
        each
        for each in (f"nap-{number}" for number in count())
        if partition_of(each, PARTITION_COUNT) in partitions
    )


async def drain(given: argparse.Namespace) -> tuple[float, float, dict[str, int]]:
    """When the first call was started and when the last one had ended; who ran how many."""
    from _naps import app, nap

    async with app.client():
        await until_settled(app, given.nodes)
        first: Any = (await app.runtime.gateway.storage.nodes())[0]
        chosen = ids_in(set(first.partitions[: given.partitions]))
        began = time.time()
        for done in range(0, given.calls, STARTED_TOGETHER):
            some = islice(chosen, min(STARTED_TOGETHER, given.calls - done))
            await app.start_many([nap.options(id=each).bind(NAP_SECONDS) for each in some])
            print(f"\r{done:,} of {given.calls:,} started", end="", file=sys.stderr)
        target = target_of(os.environ["FENBU_URL"])
        connection: Any = await asyncpg.connect(target.url)
        rows = f"\"{target.schema}\".invocation WHERE status = 'completed'"
        while (ended := await connection.fetchval(f"SELECT count(*) FROM {rows}")) < given.calls:
            print(f"\r{ended:,} of {given.calls:,} ended  ", end="", file=sys.stderr)
            await asyncio.sleep(5.0)
        print(file=sys.stderr)
        last = await connection.fetchval(f"SELECT max(finished_at) FROM {rows}")
        found = await connection.fetch(
            f"SELECT result, count(*) FROM {rows} GROUP BY 1 ORDER BY 2 DESC"
        )
        await connection.close()
        names = (
            f"the owner, {first.pid}" if each[0] == str(first.pid) else each[0] for each in found
        )
        return (
            began,
            float(last),
            {name: calls for name, (_, calls) in zip(names, found, strict=True)},
        )


if __name__ == "__main__":
    main()
