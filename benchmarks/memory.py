"""RAM of a sleeping workflow: while it is in memory, and after it has left it.

One process starts many workflows, lets them sleep, and then lets them leave memory. Its resident set is
measured by the kernel before, between and after. Before the first measurement it has run as many short
workflows, so that caches and the allocator are warm. A second process opens the finished database and does
the same work as a third that opens an empty one: what it needs more is what sleeping workflows cost after
a restart.

Example:
    python benchmarks/memory.py --sleeping 100000 --json memory.json
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

from _measure import PYTHON, Report, arguments, number, resident_bytes, scratch, spread

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
    evicted = found[EVICTED]
    report.target(
        "RAM of a sleeping workflow that has left memory",
        f"≤ {BYTES_MAX:,} bytes",
        f"{spread(evicted)} bytes",
        met=sorted(evicted)[len(evicted) // 2] <= BYTES_MAX,
    )
    report.raw("bytes", found)
    report.finish()


RESIDENT = "in memory, before it leaves"
EVICTED = "after it has left, in the same process"
RESTARTED = "in a process started afterwards, beside one without any"


def measured(directory: Path, given: argparse.Namespace) -> dict[str, float]:
    full, empty = directory / "full.db", directory / "empty.db"
    stages = child("fill", full, given)
    restarted, beside = child("open", full, given), child("open", empty, given)
    count = given.sleeping
    return {
        RESIDENT: (stages["resident"] - stages["before"]) / count,
        EVICTED: (stages["evicted"] - stages["before"]) / count,
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
    from _workload import Arrivals, workload

    work = workload(database)
    idle_seconds = 5.0 + count / 2_000
    work.app.node_options = msgspec.structs.replace(
        work.app.node_options, idle_calls_max=2 * count, idle_seconds=idle_seconds
    )
    found: dict[str, int] = {}
    async with work.app:
        await clients(work.three_steps, count=min(count, 20_000), concurrency=1000)
        found["before"] = settled()
        for first in range(0, count, CHUNK):
            last = min(count, first + CHUNK)
            # A handle is held by nobody: what is measured is the workflow.
            await work.sleep_long.start_many((each,) for each in range(first, last))
            while Arrivals.count < last:
                await asyncio.sleep(0.01)
        node = work.app.node
        if node is None or sum(map(len, residents(node))) < count:
            raise SystemExit("workflows have left memory before all had come: raise idle_seconds")
        found["resident"] = settled()
        while any(residents(node)):
            await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)
        found["evicted"] = settled()
        print(json.dumps(found), flush=True)
        import os

        os._exit(0)


def residents(node: object) -> list[dict[str, object]]:
    return [each.residents for each in node.engine.partitions.values()]  # type: ignore[attr-defined]


async def open_again(database: Path, count: int) -> None:
    from _measure import clients
    from _workload import workload

    work = workload(database)
    async with work.app:
        await clients(work.three_steps, count=min(count, 20_000), concurrency=1000)
        await asyncio.sleep(1.0)
        print(json.dumps({"open": settled()}), flush=True)
        import os

        os._exit(0)


CHILDREN = {"fill": fill, "open": open_again}


if __name__ == "__main__":
    main()
