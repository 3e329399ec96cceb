"""Procrastinate's side of `versus_peers.py`: setup, worker or client, in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from procrastinate import App, PsycopgConnector

GIVEN: dict[str, Any] = json.loads(sys.argv[2])

app = App(connector=PsycopgConnector(conninfo=GIVEN["url"], max_size=20))


@app.task(name="add_one")
async def add_one(number: int) -> int:
    return number + 1


async def setup() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def worker() -> None:
    async with app.open_async():
        await app.run_worker_async(
            concurrency=GIVEN["batch"],
            install_signal_handlers=False,
            fetch_job_polling_interval=0.5,
        )


async def client() -> dict[str, float]:
    count = GIVEN["count"]
    async with app.open_async():
        began = time.perf_counter()
        if GIVEN["bulk"]:
            for start in range(0, count, 1000):
                some = range(start, min(count, start + 1000))
                await add_one.batch_defer_async(*({"number": each} for each in some))
        else:
            numbers = iter(range(count))

            async def defer() -> None:
                for each in numbers:
                    await add_one.defer_async(number=each)

            await asyncio.gather(*(defer() for _ in range(GIVEN["concurrency"])))
        enqueued = time.perf_counter() - began
        while True:
            row = await app.connector.execute_query_one_async(
                "SELECT count(*) AS left FROM procrastinate_jobs WHERE status <> 'succeeded'"
            )
            if not row["left"]:
                break
            await asyncio.sleep(0.02)
        return {"enqueued_seconds": enqueued, "seconds": time.perf_counter() - began}


def main() -> None:
    found = asyncio.run({"setup": setup, "worker": worker, "client": client}[sys.argv[1]]())
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
