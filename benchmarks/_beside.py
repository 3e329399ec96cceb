"""The engine beside its raw ceiling: cases are measured in turn, round after round, and quoted as ratios."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from _ceiling import Ceiling, Recorder, ceiling_of, recorded, recording_of
from _group_commit import group_commit_seconds
from _measure import Report, Timing, median, number, run, scratch, spread
from _workload import Workload, workload

Work = Callable[[Workload], Awaitable[object]]
Measured = Callable[[Workload], Awaitable[Timing]]

OPTIONS = {"repeat": 3, "scale": 1.0, "loop": "asyncio"}
SMOKE = {"repeat": 1, "scale": 0.02}
HELPS = {
    "repeat": "times that everything is measured, in turn",
    "scale": "share of the usual number of calls",
    "loop": "asyncio or uvloop",
}


@dataclass(frozen=True)
class Case:
    """Something to measure on a fresh database."""

    name: str
    warm_up: Work
    measure: Measured
    clients: int = 0
    """If given, the run is also compared with a group commit for so many clients (see `_group_commit`)."""
    check: Work | None = None
    """Afterwards: were the results right? Not measured, and no part of what the bare loop writes."""


@dataclass
class Beside:
    """One run of the engine and, right after it, of the bare loop with the same rows."""

    timing: Timing
    ceiling: Ceiling
    group_seconds: float | None = None
    """Of a group commit of the same rows without an engine."""

    @property
    def ratio(self) -> float:
        """How much of the bare loop's speed is left."""
        return self.ceiling.seconds / self.timing.seconds

    @property
    def operations_per_second(self) -> float:
        return self.ceiling.best.rows / self.timing.seconds

    @property
    def latency_in_commits(self) -> float:
        """The median latency as a multiple of the bare loop's median commit."""
        return self.timing.percentile(0.5) / self.ceiling.commit_milliseconds


def measure_cases(cases: list[Case], given: argparse.Namespace) -> dict[str, list[Beside]]:
    """Every case in turn, as many rounds as asked for."""
    found: dict[str, list[Beside]] = {each.name: [] for each in cases}
    for _ in range(given.repeat):
        for case in cases:
            with scratch(given.directory) as directory:
                database = directory / "engine.db"
                with recorded() as recorder:
                    timing = run(_measure(case, database, recorder), given.loop)
                recording = recording_of(recorder, database)
                beside = Beside(timing, ceiling_of(recording, directory))
                if case.clients:
                    beside.group_seconds = group_commit_seconds(
                        recording, directory / "group.db", case.clients
                    )
                found[case.name].append(beside)
    return found


async def _measure(case: Case, database: Path, recorder: Recorder) -> Timing:
    work = workload(database)
    async with work.app:
        await case.warm_up(work)
        recorder.begin()
        timing = await case.measure(work)
        recorder.end()
        if case.check is not None:
            await case.check(work)
    return timing


def add_tables(
    report: Report,
    title: str,
    unit: tuple[str, str],
    found: dict[str, list[Beside]],
    *,
    latency: bool = True,
) -> None:
    """Two tables: the engine, and what the bare loop makes of the same rows.

    `unit` is what is counted, in singular and plural.
    """
    report.table(
        title, [_engine_row(name, unit, each, latency=latency) for name, each in found.items()]
    )
    report.table(
        "The same rows in the same batches, written by a bare sqlite3 loop in the same run",
        [_ceiling_row(name, unit, each, latency=latency) for name, each in found.items()],
    )
    report.raw("runs", [_raw(name, each) for name, runs in found.items() for each in runs])


def _engine_row(
    name: str, unit: tuple[str, str], found: list[Beside], *, latency: bool
) -> dict[str, str]:
    row = {"": name, f"{unit[1]}/s": spread([each.timing.rate for each in found])}
    if latency:
        row["p50 ms"] = number(median([each.timing.percentile(0.5) for each in found]))
        row["p99 ms"] = number(median([each.timing.percentile(0.99) for each in found]))
    row[f"CPU µs a {unit[0]}"] = number(median([each.timing.cpu_microseconds for each in found]))
    row["durable operations/s"] = number(median([each.operations_per_second for each in found]))
    row[f"rows a {unit[0]}"] = number(median([b.ceiling.best.rows / b.timing.count for b in found]))
    row["rows a batch"] = number(median([b.ceiling.best.rows / b.ceiling.batches for b in found]))
    row["batches"] = number(median([each.ceiling.batches for each in found]))
    return row


def _ceiling_row(
    name: str, unit: tuple[str, str], found: list[Beside], *, latency: bool
) -> dict[str, str]:
    row = {
        "": name,
        f"bare {unit[1]}/s": number(median([b.timing.count / b.ceiling.seconds for b in found])),
        "bare operations/s": number(median([each.ceiling.operations_per_second for each in found])),
        "fastest way": found[-1].ceiling.best.way,
        "bare commit ms": number(median([each.ceiling.commit_milliseconds for each in found])),
        "fenbu / bare": spread([each.ratio for each in found]),
    }
    groups = [(each.timing, each.group_seconds) for each in found if each.group_seconds]
    if groups:
        row[f"group commit, {unit[1]}/s"] = number(median([t.count / each for t, each in groups]))
        row["fenbu / group commit"] = spread([each / t.seconds for t, each in groups])
    if latency:
        row["p50 in bare commits"] = number(median([each.latency_in_commits for each in found]))
    return row


def _raw(name: str, each: Beside) -> dict[str, object]:
    latency = bool(each.timing.latencies)
    return {
        "case": name,
        "count": each.timing.count,
        "seconds": each.timing.seconds,
        "cpu_seconds": each.timing.cpu_seconds,
        "p50_ms": each.timing.percentile(0.5) if latency else None,
        "p99_ms": each.timing.percentile(0.99) if latency else None,
        "rows": each.ceiling.best.rows,
        "batches": each.ceiling.batches,
        "bare_seconds": {one.way: one.seconds for one in each.ceiling.replays},
        "group_commit_seconds": each.group_seconds,
        "bare_commit_ms": each.ceiling.commit_milliseconds,
    }
