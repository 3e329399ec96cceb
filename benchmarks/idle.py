"""An idle node: how many statements a second it runs, and how much processor it takes.

Every statement that SQLite executes in this process is counted by `set_trace_callback`, BEGIN and COMMIT
included, after the node has settled.

Example:
    python benchmarks/idle.py --seconds 60 --sleeping 1000 --json idle.json
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from _measure import Report, arguments, number, run, scratch, until
from _workload import Arrivals, suspended, workload

STATEMENTS_MAX = 1.0


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"seconds": 30.0, "sleeping": 1_000, "loop": "asyncio"},
        smoke={"seconds": 2.0, "sleeping": 50},
        helps={
            "seconds": "how long it idles",
            "sleeping": "workflows that wait meanwhile",
            "loop": "asyncio or uvloop",
        },
    )
    report = Report("idle", "An idle node", given)
    rows: list[dict[str, str]] = []
    worst = 0.0
    seen: dict[str, dict[str, int]] = {}
    for name, sleeping, evicted in (
        ("nothing in the database", 0, False),
        (f"{given.sleeping:,} workflows wait in memory", given.sleeping, False),
        (f"{given.sleeping:,} workflows wait in the database", given.sleeping, True),
    ):
        with scratch(given.directory) as directory, counted() as statements:
            cpu = run(
                idle(directory / "idle.db", given, sleeping, statements, evicted=evicted),
                given.loop,
            )
        per_second = statements.total() / given.seconds
        worst = max(worst, per_second)
        seen[name] = dict(statements)
        rows.append(
            {
                "": name,
                "statements/s": number(per_second),
                "statements": str(statements.total()),
                "CPU ms a second": number(cpu / given.seconds * 1e3),
            }
        )
    report.table(f"During {given.seconds:g} seconds in which nobody asks for anything", rows)
    everything = sum((Counter(each) for each in seen.values()), Counter())
    if everything:
        report.table(
            "Which statements",
            [
                {"statement": text, "times": str(times)}
                for text, times in everything.most_common(10)
            ],
        )
    report.target(
        "statements of an idle node",
        f"≤ {STATEMENTS_MAX:g} a second",
        f"{number(worst)} a second",
        met=worst <= STATEMENTS_MAX,
    )
    report.raw("statements", seen)
    report.finish()


async def idle(
    database: Path,
    given: argparse.Namespace,
    sleeping: int,
    statements: Counter[str],
    *,
    evicted: bool,
) -> float:
    """Let a node idle; returns its processor seconds."""
    work = workload(database)
    idle_seconds = 0.5 if evicted else given.seconds + 60
    work.app.node_options = msgspec.structs.replace(
        work.app.node_options, idle_seconds=idle_seconds
    )
    async with work.app:
        await work.three_steps(1)
        before = Arrivals.count
        await work.sleep_long.start_many((each,) for each in range(sleeping))
        await until(lambda: Arrivals.count >= before + sleeping)
        # Whatever it does once, after a start or when calls leave memory, is not its idling.
        while evicted and await suspended(work.app) < sleeping:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(min(given.seconds, 3.0))
        statements.clear()
        began = time.process_time()
        await asyncio.sleep(given.seconds)
        took = time.process_time() - began
        kept = Counter(statements)
    statements.clear()
    statements.update(kept)
    return took


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts the statements of every connection that is opened inside."""
    statements: Counter[str] = Counter()
    original = sqlite3.connect

    def count(text: str) -> None:
        # A comment of one line is how SQLite shows what runs inside another statement.
        if "\n" in text or not text.startswith("-- "):
            statements[shortened(text)] += 1

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = original(*args, **options)
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = connect  # type: ignore[assignment]
    try:
        yield statements
    finally:
        sqlite3.connect = original


def shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 90 else f"{words[:89]}…"


if __name__ == "__main__":
    main()
