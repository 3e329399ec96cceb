"""What large values cost: time, and bytes written, by where the value is and how large it is.

A value of each size as the argument of a workflow with three steps, as the argument of a task that is tried
five times, as the result of a step, as the result of a workflow, and as the state of an entity that an
operation changes. One call at a time, on SQLite and on PostgreSQL. A value that is written once is twice in
the files on SQLite, in the write-ahead log and then in the database; whatever is more was written again.

Example:
    python benchmarks/payloads.py --bytes 100 10240 65536 262144 1048576 --json payloads.json
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from _measure import Report, arguments, median, number, scratch, spread
from _server import schema, server, settings_of

from fenbu import App, Entity, Retry, step

TRIES = 5
WARM_UP = 10

ARGUMENT = "argument of three steps"
TRIED = f"argument of a task tried {TRIES} times"
STEP = "result of a step"
RESULT = "result of a workflow"
STATE = "state of an entity"


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={
            "url": "",
            "bytes": (100, 10_240, 65_536, 262_144, 1_048_576),
            "calls": 100,
            "repeat": 3,
            "sqlite_only": False,
        },
        smoke={"bytes": (100, 65_536), "calls": 10, "repeat": 1},
        helps={
            "url": "the PostgreSQL database; a server of its own if none is given",
            "bytes": "how large the values are",
            "calls": "how often each is measured",
            "repeat": "rounds",
            "sqlite_only": "without PostgreSQL",
        },
    )
    report = Report("payloads", "Large values", given)
    found = {"SQLite": on_sqlite(given)}
    if not given.sqlite_only:
        with server(given.url) as url:
            report.content["machine"] |= asyncio.run(settings_of(url))
            found["PostgreSQL"] = on_postgres(url, given)
    for name, costs in found.items():
        where = "files" if name == "SQLite" else "write-ahead log"
        report.table(f"{name}: milliseconds a call", rows(costs, lambda each: each.milliseconds))
        report.table(
            f"{name}: KiB written to the {where} a call", rows(costs, lambda each: each.kibibytes)
        )
    largest = max(given.bytes)
    again = [each / (largest / 1024) for each in found["SQLite"][ARGUMENT, largest].kibibytes]
    report.target(
        f"bytes written to SQLite's files for an argument of {largest:,} bytes, in times of its size",
        "≤ 2.5", spread(again), met=median(again) <= 2.5,
    )  # fmt: skip
    report.raw("costs", {name: raw(costs) for name, costs in found.items()})
    report.finish()


@dataclass
class Cost:
    """Of one call; a number for each round."""

    milliseconds: list[float] = field(default_factory=list)
    kibibytes: list[float] = field(default_factory=list)


Costs = dict[tuple[str, int], Cost]
Written = Callable[[], Awaitable[int]]


def rows(costs: Costs, numbers: Callable[[Cost], list[float]]) -> list[dict[str, str]]:
    kinds = dict.fromkeys(kind for kind, _ in costs)
    sizes = dict.fromkeys(size for _, size in costs)
    return [
        {"": kind, **{f"{size:,} bytes": spread(numbers(costs[kind, size])) for size in sizes}}
        for kind in kinds
    ]


def raw(costs: Costs) -> dict[str, Any]:
    return {
        f"{kind}, {size}": {"milliseconds": each.milliseconds, "KiB": each.kibibytes}
        for (kind, size), each in costs.items()
    }


def written_bytes() -> int:
    words = Path("/proc/self/io").read_text().split()
    return int(words[words.index("wchar:") + 1])


def on_sqlite(given: argparse.Namespace) -> Costs:
    async def written() -> int:
        # What the process has given to the system to write; nothing else in it writes.
        return written_bytes()

    costs: Costs = {}
    for _ in range(given.repeat):
        with scratch(given.directory) as directory:
            url = f"sqlite:///{directory}/payloads.db"
            asyncio.run(measure(url, written, costs, given))
    return costs


def on_postgres(server_url: str, given: argparse.Namespace) -> Costs:
    async def measured(url: str) -> None:
        connection: Any = await asyncpg.connect(server_url)

        async def written() -> int:
            query = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
            return await connection.fetchval(query)

        await measure(url, written, costs, given)
        await connection.close()

    costs: Costs = {}
    for _ in range(given.repeat):
        with schema(server_url) as url:
            asyncio.run(measured(url))
    return costs


async def measure(url: str, written: Written, costs: Costs, given: argparse.Namespace) -> None:
    """One round: each kind and size in turn."""
    app = App("payloads", url=url)
    calls = workload(app)
    async with app:
        for size in given.bytes:
            for kind, call in calls.items():
                values = [secrets.token_hex(size // 2) for _ in range(4)]
                for n in range(WARM_UP):
                    await call(values[n % 4])
                gc.collect()
                before, began = await written(), time.perf_counter()
                for n in range(given.calls):
                    await call(values[n % 4])
                seconds = time.perf_counter() - began
                cost = costs.setdefault((kind, size), Cost())
                cost.milliseconds.append(seconds / given.calls * 1e3)
                cost.kibibytes.append((await written() - before) / given.calls / 1024)
                print(
                    f"{kind}, {size:,} bytes: {number(cost.milliseconds[-1])} ms", file=sys.stderr
                )


held: list[str] = [""]
"""What the next call gives back: it must not come as an argument."""


async def same(value: int) -> int:
    return value


async def take() -> str:
    return held[0]


def workload(app: App) -> dict[str, Callable[[str], Awaitable[object]]]:
    tries = [0]

    @app.workflow
    async def three_steps(text: str) -> int:
        length = len(text)
        for _ in range(3):
            length = await step(same, length)
        return length

    @app.task(retry=Retry(attempts=TRIES, first_seconds=0.0))
    async def tried(text: str) -> int:
        tries[0] += 1
        if tries[0] % TRIES:
            raise ValueError(tries[0])
        return len(text)

    @app.workflow
    async def steps_result() -> int:
        await step(same, 1)
        text = await step(take)
        return await step(same, len(text))

    @app.workflow
    async def result() -> str:
        for _ in range(3):
            await step(same, 1)
        return held[0]

    @app.entity
    class Document(Entity):
        text: str = ""

        async def replace(self) -> None:
            self.text = held[0]

    def holding(call: Callable[[], Awaitable[object]]) -> Callable[[str], Awaitable[object]]:
        async def held_call(text: str) -> None:
            held[0] = text
            await call()

        return held_call

    return {
        ARGUMENT: three_steps,
        TRIED: tried,
        STEP: holding(steps_result),
        RESULT: holding(result),
        STATE: holding(lambda: Document("a").replace()),
    }


if __name__ == "__main__":
    main()
