"""Increments of entities: how many a second on one key, and spread over a thousand.

Example:
    python benchmarks/entities.py --keys 1 1000 --concurrency 1000 --repeat 5 --json entities.json
"""

from __future__ import annotations

import argparse
import asyncio

from _beside import HELPS, OPTIONS, SMOKE, Beside, Case, add_tables, measure_cases
from _measure import Report, Timing, arguments, clients, median, number, spread
from _workload import Workload

CALLS = 30_000
OPERATIONS_MIN = 60_000
"""The aim holds where the bare loop writes so many rows a second."""
INCREMENTS_MIN = 10_000


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"keys": (1, 1000), "concurrency": 1000, **OPTIONS},
        smoke=SMOKE,
        helps={
            "keys": "entities that the increments are spread over",
            "concurrency": "clients at a time, each of which waits for its increment",
            **HELPS,
        },
    )
    report = Report("entities", "Operations on entities", given)
    found = measure_cases([case(each, given) for each in given.keys], given)
    add_tables(
        report,
        f"`await Counter(key).increment(1)`, {given.concurrency:,} clients at a time",
        ("operation", "operations"),
        found,
    )
    for name, runs in found.items():
        _target(report, name, runs)
    report.finish()


def case(keys: int, given: argparse.Namespace) -> Case:
    count = max(100, int(CALLS * given.scale))

    async def calls(work: Workload, count: int) -> Timing:
        async def increment(index: int) -> None:
            await work.Counter(f"key-{index % keys}").increment(1)

        return await clients(increment, count=count, concurrency=given.concurrency)

    async def check(work: Workload) -> None:
        total = sum(
            await asyncio.gather(
                *(work.Counter(f"key-{each}").increment(0) for each in range(keys))
            )
        )
        if total != count + warm:
            raise AssertionError((total, count, warm))

    warm = max(keys, count // 20)
    return Case(
        name="1 key" if keys == 1 else f"{keys:,} keys",
        warm_up=lambda work: calls(work, warm),
        measure=lambda work: calls(work, count),
        check=check,
    )


def _target(report: Report, name: str, runs: list[Beside]) -> None:
    rates = [each.timing.rate for each in runs]
    bare = median([each.ceiling.operations_per_second for each in runs])
    report.target(
        f"entity operations a second, {name}",
        f"≥ {INCREMENTS_MIN:,} where the bare loop writes {OPERATIONS_MIN:,} rows a second",
        f"{spread(rates)} (bare: {number(bare)} rows a second)",
        met=median(rates) >= INCREMENTS_MIN * min(1.0, bare / OPERATIONS_MIN),
    )


if __name__ == "__main__":
    main()
