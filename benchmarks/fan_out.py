"""Fan-out: one workflow that starts ten thousand tasks, waits for all of them and adds up their results.

Example:
    python benchmarks/fan_out.py --children 10000 --repeat 5 --json fan_out.json
"""

from __future__ import annotations

from _beside import HELPS, OPTIONS, SMOKE, Case, add_tables, measure_cases
from _measure import Report, Timing, arguments, median, number, spread, together
from _workload import Workload


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"children": 10_000, **OPTIONS},
        smoke={**SMOKE, "children": 300},
        helps={"children": "tasks that the workflow starts", **HELPS},
    )
    report = Report("fan_out", "Fan-out and gather", given)

    async def fan_out(work: Workload, children: int) -> Timing:
        async def call() -> None:
            total = await work.fan_out(children)
            if total != children * (children + 1) // 2:
                raise AssertionError(total)

        return await together(call, count=children)

    case = Case(
        name=f"{given.children:,} children",
        warm_up=lambda work: fan_out(work, max(10, given.children // 20)),
        measure=lambda work: fan_out(work, given.children),
    )
    found = measure_cases([case], given)
    add_tables(
        report,
        "`await asyncio.gather(*(task(n) for n in range(children)))` in one workflow",
        ("child", "children"),
        found,
        latency=False,
    )
    (runs,) = found.values()
    seconds = [each.timing.seconds for each in runs]
    report.table(
        "From the call of the workflow to its result",
        [
            {
                "children": f"{given.children:,}",
                "seconds": spread(seconds),
                "bare seconds": number(median([each.ceiling.seconds for each in runs])),
            }
        ],
    )
    report.finish()


if __name__ == "__main__":
    main()
