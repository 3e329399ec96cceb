"""fenbu's side of `versus_peers.py`: a client without a node, whose tasks run on two others."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from _measure import clients, run
from _server import until_settled
from _workload import workload_on

TOGETHER = 1_000
"""Enqueued in one transaction, as by pgqueuer's client."""


async def client(given: dict[str, Any]) -> dict[str, float]:
    work = workload_on(given["url"])
    count = given["count"]
    async with work.app.client():
        await until_settled(work.app, 2)
        began = time.perf_counter()
        if given["bulk"]:
            handles = []
            for start in range(0, count, TOGETHER):
                some = range(start, min(count, start + TOGETHER))
                handles += await work.task.start_many((each,) for each in some)
        else:
            handles = []

            async def start(value: int) -> None:
                handles.append(await work.task.start(value))

            await clients(start, count=count, concurrency=given["concurrency"])
        enqueued = time.perf_counter() - began
        results = await asyncio.gather(*(each.result() for each in handles))
        if sorted(results) != list(range(1, count + 1)):
            raise AssertionError("results are wrong")
        return {"enqueued_seconds": enqueued, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(run(client(json.loads(sys.argv[2])), "uvloop")), flush=True)
