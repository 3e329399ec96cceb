"""Three-step workflows: how many a second, how long each takes, and how near that is to the disk.

Example:
    python benchmarks/workflows.py --concurrency 1 100 1000 --repeat 5 --json workflows.json
"""

from __future__ import annotations

import argparse

from _beside import HELPS, OPTIONS, SMOKE, Beside, Case, add_tables, measure_cases
from _measure import Report, Timing, arguments, clients, median, spread
from _workload import Workload

CALLS = {1: 500, 100: 6_000, 1000: 20_000}


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"concurrency": (1, 100, 1000), **OPTIONS},
        smoke=SMOKE,
        helps={"concurrency": "clients at a time, each of which waits for its call", **HELPS},
    )
    report = Report("workflows", "Three-step workflows", given)
    found = measure_cases([case(each, given) for each in given.concurrency], given)
    add_tables(
        report,
        "A workflow is one call with three steps; each client waits for its workflow",
        ("workflow", "workflows"),
        found,
    )
    _targets(report, found)
    report.note(
        "Group commit: the same rows by as many asyncio clients and one writer's thread, each client "
        "waiting for its commits, without an engine; what Python itself leaves of the raw ceiling."
    )
    report.finish()


def case(concurrency: int, given: argparse.Namespace) -> Case:
    count = max(20, int(CALLS.get(concurrency, 20 * concurrency) * given.scale))

    async def calls(work: Workload, count: int) -> Timing:
        return await clients(work.check_three_steps, count=count, concurrency=concurrency)

    return Case(
        name=f"{concurrency:,} at a time",
        warm_up=lambda work: calls(work, max(20, count // 10)),
        measure=lambda work: calls(work, count),
        clients=concurrency,
    )


def _targets(report: Report, found: dict[str, list[Beside]]) -> None:
    if "1,000 at a time" in found:
        ratios = [each.ratio for each in found["1,000 at a time"]]
        report.target(
            "three-step workflows beside the raw ceiling, 1,000 at a time",
            "≥ 0.5",
            spread(ratios),
            met=median(ratios) >= 0.5,
        )
    if "1 at a time" in found:
        multiples = [each.latency_in_commits / 5 for each in found["1 at a time"]]
        report.target(
            "latency of a three-step workflow alone, in times of five bare commits",
            "≤ 1.5",
            spread(multiples),
            met=median(multiples) <= 1.5,
        )


if __name__ == "__main__":
    main()
