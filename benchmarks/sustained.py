"""Sustained load on PostgreSQL: do throughput and tables stay as they are, also beside a long transaction?

One node works as fast as it can for minutes: three-step workflows and entity operations, whose finished
calls are kept for a minute only, so that as many rows are deleted as are inserted. In the middle another
session holds a transaction with a snapshot open for a minute: nothing that is deleted meanwhile can be
cleaned up. Every ten seconds one line: calls a second, sizes of the tables with their indexes, dead rows.

Example:
    python benchmarks/sustained.py --minutes 10 --json sustained.json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any

import asyncpg
from _measure import Report, arguments, median, number
from _server import fresh, server, settings_of
from _workload import Workload, workload_on

from fenbu._storage.postgres.url import target_of

KEPT_SECONDS = 60.0
CONCURRENCY = 500
KEYS = 1_000
LOOK_SECONDS = 10.0
HELD_SECONDS = 60.0
TABLES = ("invocation", "entry", "inbox", "entity")

SIZES = """
SELECT relname, pg_total_relation_size(relid) / 1048576.0 AS size, n_live_tup, n_dead_tup
FROM pg_stat_user_tables WHERE schemaname = $1
"""


@dataclass
class Look:
    """What was seen at one moment."""

    seconds: float
    rate: float
    megabytes: dict[str, float]
    dead: dict[str, int]
    held: bool


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"url": "", "minutes": 10.0},
        smoke={"minutes": 0.7},
        helps={
            "url": "the database; a server of its own if none is given",
            "minutes": "how long; a minute in the middle is beside the long transaction",
        },
    )
    report = Report("sustained", "Sustained load on PostgreSQL", given)
    with server(given.url) as url:
        report.content["machine"] |= asyncio.run(settings_of(url))
        looks = asyncio.run(watched(fresh(url), given))
    minutes = sorted({int(each.seconds // 60) for each in looks})
    report.table(
        "By minute: medians of what was seen every ten seconds; sizes with indexes, in MB",
        [_row(each, [look for look in looks if look.seconds // 60 == each]) for each in minutes],
    )
    _targets(report, looks)
    report.note(
        f"{CONCURRENCY} clients in the process of one node; finished calls are kept for {KEPT_SECONDS:g} s. "
        "The first minutes fill the tables. The long transaction is REPEATABLE READ, with a snapshot."
    )
    report.finish()


async def watched(url: str, given: argparse.Namespace) -> list[Look]:
    """Load for so long, and what was seen."""
    target = target_of(url)
    work = workload_on(url)
    for name in work.app.registry.names():
        spec = work.app.registry.latest(name)
        if spec is not None:
            spec.retention_seconds = KEPT_SECONDS
    seconds = given.minutes * 60
    looks: list[Look] = []
    watcher: Any = await asyncpg.connect(target.url)
    async with work.app:
        counts = [0]
        load = [asyncio.create_task(_client(work, n, counts)) for n in range(CONCURRENCY)]
        holding = asyncio.create_task(
            _hold(target.url, seconds / 2, min(HELD_SECONDS, seconds / 3))
        )
        began = last = time.perf_counter()
        done = 0
        while last - began < seconds:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.perf_counter()
            rows = await watcher.fetch(SIZES, target.schema)
            looks.append(
                Look(
                    last - began,
                    (counts[0] - done) / (now - last),
                    {each["relname"]: float(each["size"]) for each in rows},
                    {each["relname"]: each["n_dead_tup"] for each in rows},
                    seconds / 2 <= last - began < seconds / 2 + HELD_SECONDS,
                )
            )
            done, last = counts[0], now
            _say(looks[-1])
        for each in load:
            each.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        await holding
    await watcher.close()
    return looks


async def _client(work: Workload, number: int, counts: list[int]) -> None:
    while True:
        if number % 2:
            await work.three_steps(number)
        else:
            await work.Counter(f"key-{(number * 7919 + counts[0]) % KEYS}").increment(1)
        counts[0] += 1


async def _hold(url: str, after: float, seconds: float) -> None:
    """The long transaction of another session."""
    await asyncio.sleep(after)
    connection: Any = await asyncpg.connect(url)
    async with connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT count(*) FROM pg_class")
        await asyncio.sleep(seconds)
    await connection.close()


def _say(look: Look) -> None:
    sizes = ", ".join(f"{name} {look.megabytes.get(name, 0.0):,.0f} MB" for name in TABLES)
    dead = sum(look.dead.values())
    held = "  (beside a long transaction)" if look.held else ""
    print(
        f"{look.seconds:6.0f} s  {look.rate:7,.0f} calls/s  {sizes}, {dead:,} dead rows{held}",
        file=sys.stderr,
    )


def _row(minute: int, looks: list[Look]) -> dict[str, str]:
    row = {"minute": str(minute + 1), "calls/s": number(median([each.rate for each in looks]))}
    for name in TABLES:
        row[name] = number(median([each.megabytes.get(name, 0.0) for each in looks]))
    row["dead rows"] = f"{max(sum(each.dead.values()) for each in looks):,}"
    row[""] = "beside a long transaction" if any(each.held for each in looks) else ""
    return row


def _targets(report: Report, looks: list[Look]) -> None:
    """The last two minutes beside the second and third."""
    last = looks[-1].seconds
    early = [each for each in looks if 60 <= each.seconds < 180]
    late = [each for each in looks if each.seconds >= last - 110]
    if not early or last < 300:
        return
    rate = median([each.rate for each in late]) / median([each.rate for each in early])
    report.target(
        "calls a second in the last two minutes, as a share of those in the second and third",
        "≥ 0.9", f"{rate:.2f}", met=rate >= 0.9,
    )  # fmt: skip

    # The server's vacuum comes once a minute: only then can it clean up what the transaction held back.
    ended = max((each.seconds for each in looks if each.held), default=last) + 60
    after = [each for each in looks if ended < each.seconds <= ended + 110]

    def total(some: list[Look]) -> float:
        return median([sum(each.megabytes.get(name, 0.0) for name in TABLES) for each in some])

    if after:
        size = total(late) / total(after)
        report.target(
            "size of the tables in the last two minutes, as a share of that in the second and third after "
            "the long transaction", "≤ 1.05", f"{size:.2f}", met=size <= 1.05,
        )  # fmt: skip


if __name__ == "__main__":
    main()
