"""RAM of a sleeping workflow: while it is in memory, and after it has left it.

One process runs short workflows until caches and allocator are warm, starts many that sleep, lets them
leave memory, and then does the same with as many again. Its resident set is measured by the kernel. The
first wave leaves free memory in Python's allocator that it seldom gives back to the system and uses again;
so what a workflow costs that has left is what the second wave adds. Another process opens the finished
database, and a last one an empty one: the difference is what sleeping workflows cost after a restart.

Example:
    python benchmarks/memory.py --sleeping 100000 --json memory.json
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _measure import PYTHON, Report, arguments, median, resident_bytes, scratch, spread

if TYPE_CHECKING:
    from _workload import Workload

BYTES_MAX = 1024
CHUNK = 5_000


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in CHILDREN:
        asyncio.run(CHILDREN[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3])))
        return
    given = arguments(
        __doc__ or "",
        defaults={"sleeping": 100_000, "repeat": 3},
        smoke={"sleeping": 2_000, "repeat": 1},
        helps={"sleeping": "workflows that sleep", "repeat": "times that it is measured"},
    )
    report = Report("memory", "Memory", given)
    found: dict[str, list[float]] = {}
    for _ in range(given.repeat):
        with scratch(given.directory) as directory:
            for name, each in measured(directory, given).items():
                found.setdefault(name, []).append(each)
    report.table(
        f"Bytes of resident memory for each of {given.sleeping:,} sleeping workflows",
        [{"": name, "bytes a workflow": spread(each)} for name, each in found.items()],
    )
    # The larger of the two: free memory that a second wave uses again may even make it smaller.
    evicted = max(found[EVICTED], found[RESTARTED], key=median)
    report.target(
        "RAM of a sleeping workflow that has left memory",
        f"≤ {BYTES_MAX:,} bytes",
        f"{spread(evicted)} bytes",
        met=sorted(evicted)[len(evicted) // 2] <= BYTES_MAX,
    )
    report.raw("bytes", found)
    report.finish()


RESIDENT = "in memory"
FREED = "after it has left: with the free memory that the allocator keeps for later"
EVICTED = "after it has left: what each of a second wave adds"
RESTARTED = "after it has left: in a process that was started afterwards"


def measured(directory: Path, given: argparse.Namespace) -> dict[str, float]:
    full, empty = directory / "full.db", directory / "empty.db"
    stages = child("fill", full, given)
    restarted, beside = child("open", full, given), child("open", empty, given)
    count = given.sleeping
    return {
        RESIDENT: (stages["resident"] - stages["before"]) / count,
        FREED: (stages["evicted"] - stages["before"]) / count,
        EVICTED: (stages["evicted again"] - stages["evicted"]) / count,
        RESTARTED: (restarted["open"] - beside["open"]) / count,
    }


def child(kind: str, database: Path, given: argparse.Namespace) -> dict[str, int]:
    made = subprocess.run(
        [PYTHON, __file__, kind, str(database), str(given.sleeping)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, int] = json.loads(made.stdout.splitlines()[-1])
    return found


# What the child processes do.


def settled() -> int:
    """Resident bytes after everything that can be given back has been."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except OSError:
        pass  # Another libc: what is measured includes what its allocator keeps.
    return resident_bytes()


async def fill(database: Path, count: int) -> None:
    import msgspec
    from _measure import clients
    from _workload import workload

    work = workload(database)
    work.app.node_options = msgspec.structs.replace(
        work.app.node_options, idle_calls_max=2 * count, idle_seconds=86_400.0
    )
    found: dict[str, int] = {}
    async with work.app:
        await clients(work.three_steps, count=min(count, 20_000), concurrency=1000)
        found["before"] = settled()
        await wave(work, count)
        found["resident"] = settled()
        await leave(work.app.node)
        found["evicted"] = settled()
        await wave(work, count)
        await leave(work.app.node)
        found["evicted again"] = settled()
        print(json.dumps(found), flush=True)
        os._exit(0)


async def wave(work: Workload, count: int) -> None:
    """So many workflows, all of them at their sleep."""
    from _measure import until
    from _workload import Arrivals

    before = Arrivals.count
    for first in range(0, count, CHUNK):
        last = min(count, first + CHUNK)
        # A handle is held by nobody: what is measured is the workflow.
        await work.sleep_long.start_many((each,) for each in range(first, last))
        await until(lambda last=last: Arrivals.count >= before + last)


async def leave(node: Any) -> None:
    """Let all of them leave memory as if they had been idle for long enough."""
    tenure = node.tenure
    engine = tenure.engine
    before = engine.idle._seconds  # noqa: SLF001
    engine.idle._seconds = 0.0  # noqa: SLF001
    while any(each.residents for each in engine.partitions.values()):
        tenure._tick()  # noqa: SLF001
        await asyncio.sleep(0.1)
    engine.idle._seconds = before  # noqa: SLF001
    await tenure.committer.durable()
    await asyncio.sleep(1.0)  # What the last batches held is let go of in the turns that follow.


async def open_again(database: Path, count: int) -> None:
    from _measure import clients
    from _workload import workload

    work = workload(database)
    async with work.app:
        await clients(work.three_steps, count=min(count, 20_000), concurrency=1000)
        await asyncio.sleep(1.0)
        print(json.dumps({"open": settled()}), flush=True)
        os._exit(0)


CHILDREN = {"fill": fill, "open": open_again}


if __name__ == "__main__":
    main()
