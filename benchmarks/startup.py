"""Start-up with many open workflows: how long until the first useful work, and until all are recovered.

A first process starts the workflows and is killed (SIGKILL), in two ways: when all of them have left its
memory and wait in the database, and while all of them are in its memory. Then fresh processes start on
copies of that database; all times count from the moment in which the process is spawned.

Example:
    python benchmarks/startup.py --open 100000 --repeat 3 --json startup.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _measure import PYTHON, Report, arguments, median, number, scratch, spread

FIRST_WORK_SECONDS_MAX = 10.0
CHUNK = 5_000


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in CHILDREN:
        asyncio.run(CHILDREN[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3])))
        return
    given = arguments(
        __doc__ or "",
        defaults={"open": 100_000, "repeat": 3},
        smoke={"open": 500, "repeat": 1},
        helps={"open": "workflows that are open", "repeat": "starts of each kind, in turn"},
    )
    report = Report("startup", "Start-up", given)
    with scratch(given.directory) as directory:
        kinds = {
            "waiting in the database": "fill-evicted",
            "in memory when it was killed": "fill-resident",
        }
        before = {name: filled(directory, kind, given) for name, kind in kinds.items()}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in ["no open workflow", *kinds]}
        for _ in range(given.repeat):
            for name, runs in found.items():
                runs.append(started(directory, before.get(name), given))
    report.table(
        f"Seconds from the spawn of the process, {given.open:,} open workflows",
        [_row(name, runs) for name, runs in found.items()],
    )
    worst = max(median([each["first work"] for each in runs]) for runs in found.values())
    report.target(
        f"first useful work with {given.open:,} open workflows",
        f"< {FIRST_WORK_SECONDS_MAX:g} s",
        f"{number(worst)} s",
        met=worst < FIRST_WORK_SECONDS_MAX,
    )
    report.note(
        "Open: the node has taken the database. First work: a new workflow of three steps has been run "
        "to its result. Woken: one of the waiting workflows has got a signal and ended. All back: the "
        "code of every workflow that was in memory has been replayed to where it was; those in the "
        "database stay there until something wakes them."
    )
    report.raw("runs", found)
    report.finish()


def _row(name: str, runs: list[dict[str, Any]]) -> dict[str, str]:
    row = {"open workflows": name}
    for column in ("imported", "open", "first work", "woken", "all back"):
        times = [each[column] for each in runs if each.get(column) is not None]
        row[column] = spread(times) if times else "–"
    row["CPU s until then"] = number(median([each["cpu"] for each in runs]))
    return row


def filled(directory: Path, kind: str, given: argparse.Namespace) -> Path:
    """A folder with the database of a killed process."""
    folder = directory / kind
    folder.mkdir()
    child = subprocess.Popen(
        [PYTHON, __file__, kind, str(folder / "open.db"), str(given.open)],
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.stdout is None or child.stdout.readline().strip() != "filled":
        raise SystemExit(f"{kind} ended with {child.wait()} before it had filled the database")
    child.send_signal(signal.SIGKILL)
    child.wait()
    return folder


def started(directory: Path, before: Path | None, given: argparse.Namespace) -> dict[str, Any]:
    """Start on a copy; what happened when, in seconds."""
    folder = directory / "started"
    shutil.rmtree(folder, ignore_errors=True)
    if before is None:
        folder.mkdir()
    else:
        shutil.copytree(before, folder)
    resident = before is not None and before.name == "fill-resident"
    kind = "start-resident" if resident else "start-evicted" if before else "start-empty"
    began = time.time()
    child = subprocess.run(
        [PYTHON, __file__, kind, str(folder / "open.db"), str(given.open)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    stamps: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    cpu = stamps.pop("cpu")
    return {name: stamp - began for name, stamp in stamps.items()} | {"cpu": cpu}


# What the child processes do.


async def fill(database: Path, count: int, *, evicted: bool) -> None:
    import msgspec
    from _measure import until
    from _workload import Arrivals, workload

    work = workload(database)
    work.app.node_options = msgspec.structs.replace(
        work.app.node_options,
        idle_calls_max=1_000 if evicted else count * 2,
        idle_seconds=0.5 if evicted else 86_400.0,
    )
    async with work.app:
        for first in range(0, count, CHUNK):
            last = min(count, first + CHUNK)
            calls = [
                work.sleep_long.options(id=f"open-{each}").bind(each) for each in range(first, last)
            ]
            await work.app.start_many(calls)
            await until(lambda last=last: Arrivals.count >= last)
        wanted = "suspended" if evicted else "running"
        while await _count(work.app, wanted) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        print("filled", flush=True)
        await asyncio.sleep(3600)


async def _count(app: Any, status: str) -> int:
    counts = await app.node.storage.count_calls()
    return sum(number for (_, each), number in counts.items() if each == status)


async def start(database: Path, count: int, *, resident: bool, empty: bool = False) -> None:
    from _measure import until
    from _workload import Arrivals, workload

    stamps = {"imported": time.time()}
    work = workload(database)
    async with work.app:
        stamps["open"] = time.time()
        await work.three_steps(1)
        stamps["first work"] = time.time()
        if not empty:
            handle = work.sleep_long.handle(f"open-{count // 2}")
            await handle.signal("wake")
            await handle.result()
            stamps["woken"] = time.time()
        if resident:
            await until(lambda: Arrivals.count >= count)
            stamps["all back"] = time.time()
        print(json.dumps(stamps | {"cpu": time.process_time()}), flush=True)
        sys.stdout.flush()
        import os

        # Stopping in good order takes its time, which is not measured here.
        os._exit(0)


CHILDREN = {
    "fill-evicted": lambda database, count: fill(database, count, evicted=True),
    "fill-resident": lambda database, count: fill(database, count, evicted=False),
    "start-empty": lambda database, count: start(database, count, resident=False, empty=True),
    "start-evicted": lambda database, count: start(database, count, resident=False),
    "start-resident": lambda database, count: start(database, count, resident=True),
}


if __name__ == "__main__":
    main()
