"""pgqueuer's side of `versus_peers.py`: setup, worker or client, in an environment of its own.

`alter_durability` is left at its default, which logs every table. Large batches are its fastest.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries


async def setup(given: dict[str, Any]) -> None:
    connection = await asyncpg.connect(given["url"])
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def worker(given: dict[str, Any]) -> None:
    pool = await asyncpg.create_pool(given["url"], min_size=2, max_size=8)
    queuer = PgQueuer(AsyncpgPoolDriver(pool))

    @queuer.entrypoint("add_one")
    async def add_one(job: Any) -> None:
        int(job.payload) + 1

    await queuer.run(batch_size=given["batch"])


async def client(given: dict[str, Any]) -> dict[str, float]:
    pool = await asyncpg.create_pool(given["url"], min_size=4, max_size=10)
    queries = Queries(AsyncpgPoolDriver(pool))
    count = given["count"]
    began = time.perf_counter()
    if given["bulk"]:
        for start in range(0, count, 1000):
            some = range(start, min(count, start + 1000))
            await queries.enqueue(
                ["add_one"] * len(some), [str(each).encode() for each in some], [0] * len(some)
            )
    else:
        numbers = iter(range(count))

        async def enqueue() -> None:
            for each in numbers:
                await queries.enqueue("add_one", str(each).encode())

        await asyncio.gather(*(enqueue() for _ in range(given["concurrency"])))
    enqueued = time.perf_counter() - began
    while await pool.fetchval("SELECT count(*) FROM pgqueuer"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return {"enqueued_seconds": enqueued, "seconds": time.perf_counter() - began}


def main() -> None:
    role, given = sys.argv[1], json.loads(sys.argv[2])
    import uvloop

    found = uvloop.run({"setup": setup, "worker": worker, "client": client}[role](given))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
