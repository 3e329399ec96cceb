"""fenbu's side of `versus_dbos.py`: run three-step workflows in this process and print what came of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from _measure import Timing, clients, run
from _workload import workload


async def measure(database: Path, count: int, concurrency: int) -> Timing:
    work = workload(database)

    async def call(given: int) -> None:
        result = await work.three_steps(given)
        if result != given + 3:
            raise AssertionError(result)

    async with work.app:
        await clients(call, count=max(5, count // 20), concurrency=concurrency)
        return await clients(call, count=count, concurrency=concurrency)


def main() -> None:
    given = json.loads(sys.argv[1])
    timing = run(
        measure(Path(given["database"]), given["count"], given["concurrency"]), given["loop"]
    )
    print(
        json.dumps(
            {
                "seconds": timing.seconds,
                "cpu_seconds": timing.cpu_seconds,
                "p50_ms": timing.percentile(0.5),
                "p99_ms": timing.percentile(0.99),
            }
        )
    )


if __name__ == "__main__":
    main()
