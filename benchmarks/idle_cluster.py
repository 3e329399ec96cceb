"""An idle cluster on PostgreSQL: how many statements a second each node asks, by pg_stat_statements.

Example:
    python benchmarks/idle_cluster.py --nodes 3 --seconds 60 --json idle_cluster.json
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import asyncpg
from _measure import Report, arguments, number
from _server import fresh, process_seconds, server, settings_of
from cluster import Place, cluster_of

STATEMENTS_MAX = 1.0

SEEN = """
SELECT query, calls FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
WHERE datname = current_database() AND query NOT ILIKE '%pg_stat_statements%' ORDER BY calls DESC
"""


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"url": "", "nodes": 3, "seconds": 30.0},
        smoke={"nodes": 2, "seconds": 4.0},
        helps={
            "url": "a database whose server loads pg_stat_statements; a server of its own if none is given",
            "nodes": "how many nodes, one process each",
            "seconds": "how long they idle",
        },
    )
    report = Report("idle_cluster", "An idle cluster", given)
    with server(given.url, shared_preload_libraries="pg_stat_statements") as url:
        report.content["machine"] |= asyncio.run(settings_of(url))
        found, cpu = asyncio.run(idle(url, given))
    nodes_seconds = given.nodes * given.seconds
    per_second = sum(calls for _, calls in found) / nodes_seconds
    report.table(
        f"{given.nodes} nodes, during {given.seconds:g} seconds in which nobody asks for anything",
        [
            {
                "statements/s of a node": number(per_second),
                "CPU ms a second of a node": number(cpu / nodes_seconds * 1e3),
            }
        ],
    )
    report.table(
        "Which statements",
        [
            {"statement": f"{' '.join(text.split())[:90]}…", "times": str(calls)}
            for text, calls in found[:10]
        ],
    )
    report.target(
        "statements of an idle node on PostgreSQL", f"≤ {STATEMENTS_MAX:g} a second",
        f"{number(per_second)} a second", met=per_second <= STATEMENTS_MAX,
    )  # fmt: skip
    report.finish()


async def idle(server_url: str, given: argparse.Namespace) -> tuple[list[tuple[str, int]], float]:
    """The statements of an idle cluster and how often each came, and the processor time of its nodes."""
    connection: Any = await asyncpg.connect(server_url)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    async with cluster_of(Place(given.nodes, separate=True), fresh(server_url)) as cluster:
        await cluster.work.three_steps(1)
        # Whatever they do once, after joining, is not their idling.
        await asyncio.sleep(min(given.seconds, 10.0))
        await connection.execute("SELECT pg_stat_statements_reset()")
        before = sum(process_seconds(each.pid) for each in cluster.processes)
        await asyncio.sleep(given.seconds)
        rows = await connection.fetch(SEEN)
        cpu = sum(process_seconds(each.pid) for each in cluster.processes) - before
    await connection.close()
    return [(each["query"], each["calls"]) for each in rows], cpu


if __name__ == "__main__":
    main()
