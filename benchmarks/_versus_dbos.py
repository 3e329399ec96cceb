"""DBOS's side of `versus_dbos.py`: run three-step workflows in this process and print what came of it.

It runs in a virtual environment of its own and imports nothing of fenbu. What DBOS's documentation and
source offer for speed on SQLite is tried by the caller through the settings:

- `style`: `async` runs coroutines on one event loop, `sync` plain functions in one thread per client
  (DBOS itself does all database work in threads);
- `journal`: DBOS leaves SQLite's journal mode alone, so its default is a rollback journal; a write-ahead
  log is set in the file before DBOS opens it. `synchronous` stays FULL, as for fenbu;
- `pool`: connections (`sys_db_pool_size`); SQLite lets one write at a time;
- `ping`: whether a connection is asked if it is alive each time it is used (`pool_pre_ping`).

Logging is reduced to errors. Pickle, DBOS's own default, is its fastest serializer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
import time
from typing import Any

from dbos import DBOS


def main() -> None:
    given = json.loads(sys.argv[1])
    url = given.get("url")
    if url is None:
        connection = sqlite3.connect(given["database"])
        connection.execute(f"PRAGMA journal_mode = {given['journal']}")
        connection.close()
        url = f"sqlite:///{given['database']}"
    three_steps = asynchronous() if given["style"] == "async" else synchronous()
    DBOS(
        config={
            "name": "versus-fenbu",
            "system_database_url": url,
            "sys_db_pool_size": given["pool"],
            "db_engine_kwargs": {"pool_pre_ping": given["ping"]},
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    measure = measure_async if given["style"] == "async" else measure_sync
    measure(three_steps, max(5, given["count"] // 20), given["concurrency"])
    print(json.dumps(measure(three_steps, given["count"], given["concurrency"])), flush=True)
    # Destroying DBOS waits for its threads, which is not measured.
    os._exit(0)


def asynchronous() -> Any:
    @DBOS.step()
    async def add_one(number: int) -> int:
        return number + 1

    @DBOS.workflow()
    async def three_steps(number: int) -> int:
        number = await add_one(number)
        number = await add_one(number)
        return await add_one(number)

    return three_steps


def synchronous() -> Any:
    @DBOS.step()
    def add_one(number: int) -> int:
        return number + 1

    @DBOS.workflow()
    def three_steps(number: int) -> int:
        return add_one(add_one(add_one(number)))

    return three_steps


LOOP = asyncio.new_event_loop()


def measure_async(call: Any, count: int, concurrency: int) -> dict[str, float]:
    async def work() -> dict[str, float]:
        numbers = iter(range(count))
        latencies: list[float] = []

        async def client() -> None:
            for number in numbers:
                began = time.perf_counter()
                if await call(number) != number + 3:
                    raise AssertionError(number)
                latencies.append(time.perf_counter() - began)

        began, cpu_began = time.perf_counter(), time.process_time()
        await asyncio.gather(*(client() for _ in range(min(concurrency, count))))
        return result(began, cpu_began, latencies)

    return LOOP.run_until_complete(work())


def measure_sync(call: Any, count: int, concurrency: int) -> dict[str, float]:
    numbers = iter(range(count))
    latencies: list[float] = []
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            began = time.perf_counter()
            if call(number) != number + 3:
                raise AssertionError(number)
            latencies.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client) for _ in range(min(concurrency, count))]
    began, cpu_began = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(latencies) != count:
        raise AssertionError(f"{count - len(latencies)} workflows failed")
    return result(began, cpu_began, latencies)


def result(began: float, cpu_began: float, latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
    }


if __name__ == "__main__":
    main()
