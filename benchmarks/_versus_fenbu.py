"""fenbu's side of `versus_dbos.py`: run three-step workflows in this process and print what came of it."""

from __future__ import annotations

import json
import sys
from typing import Any

from _measure import Timing, clients, run
from _workload import workload_on


async def measure(given: dict[str, Any]) -> Timing:
    url = given.get("url") or f"sqlite:///{given['database']}"
    work, keys = workload_on(url), given.get("keys", 0)
    count, concurrency = given["count"], given["concurrency"]

    async def operation(value: int) -> None:
        await work.Counter(f"key-{value % keys}").increment(1)

    call = operation if keys else work.check_three_steps
    async with work.app:
        await clients(call, count=max(5, count // 20), concurrency=concurrency)
        return await clients(call, count=count, concurrency=concurrency)


def main() -> None:
    given = json.loads(sys.argv[1])
    timing = run(measure(given), given["loop"])
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
