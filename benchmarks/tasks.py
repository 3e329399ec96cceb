"""Tasks that do nothing: how many a second, started singly, awaited, and many in one go.

Example:
    python benchmarks/tasks.py --concurrency 1000 --repeat 5 --json tasks.json
"""

from __future__ import annotations

import argparse
import asyncio

from _beside import HELPS, OPTIONS, SMOKE, Beside, Case, add_tables, measure_cases
from _measure import Report, Timing, arguments, clients, median, number, spread, together
from _workload import Workload

CALLS = 30_000
OPERATIONS_MIN = 60_000
"""The aim holds where the bare loop writes so many rows a second."""
TASKS_MIN = 15_000


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"concurrency": 1000, **OPTIONS},
        smoke=SMOKE,
        helps={"concurrency": "clients at a time", **HELPS},
    )
    report = Report("tasks", "Tasks that do nothing", given)
    found = measure_cases(cases(given), given)
    add_tables(
        report,
        f"Run to their outcome, which is stored; clients: {given.concurrency:,}, or one for start_many",
        ("task", "tasks"),
        found,
        latency=False,
    )
    for name, runs in found.items():
        _target(report, name, runs)
    report.finish()


def cases(given: argparse.Namespace) -> list[Case]:
    count = max(100, int(CALLS * given.scale))

    async def awaited(work: Workload, count: int) -> Timing:
        return await clients(work.task, count=count, concurrency=given.concurrency)

    async def started(work: Workload, count: int) -> Timing:
        async def start_and_wait() -> None:
            handles = []

            async def start(value: int) -> None:
                handles.append(await work.task.start(value))

            await clients(start, count=count, concurrency=given.concurrency)
            await asyncio.gather(*(each.result() for each in handles))

        return await together(start_and_wait, count=count)

    async def started_many(work: Workload, count: int) -> Timing:
        async def start_and_wait() -> None:
            handles = await work.task.start_many((value,) for value in range(count))
            await asyncio.gather(*(each.result() for each in handles))

        return await together(start_and_wait, count=count)

    ways = {"await task(x)": awaited, "task.start(x)": started, "task.start_many": started_many}
    return [
        Case(
            name=name,
            warm_up=lambda work, way=way: way(work, max(50, count // 20)),
            measure=lambda work, way=way: way(work, count),
        )
        for name, way in ways.items()
    ]


def _target(report: Report, name: str, runs: list[Beside]) -> None:
    rates = [each.timing.rate for each in runs]
    bare = median([each.ceiling.operations_per_second for each in runs])
    report.target(
        f"no-op tasks a second, {name}",
        f"≥ {TASKS_MIN:,} where the bare loop writes {OPERATIONS_MIN:,} rows a second",
        f"{spread(rates)} (bare: {number(bare)} rows a second)",
        met=median(rates) >= TASKS_MIN * min(1.0, bare / OPERATIONS_MIN),
    )


if __name__ == "__main__":
    main()
