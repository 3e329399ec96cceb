"""Three-step workflows beside DBOS on SQLite: same machine, same disk, same number of workflows, in turn.

DBOS gets a virtual environment of its own, `benchmarks/.env-dbos`, in a pinned version, which this script
makes when it is missing (that needs a package index). Several settings of DBOS are tried first, and its
fastest are the ones that are compared. Both write with `synchronous=FULL`.

Example:
    python benchmarks/versus_dbos.py --concurrency 1 100 1000 --repeat 3 --json versus_dbos.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import venv
from pathlib import Path
from typing import Any

from _measure import HERE, PYTHON, Report, arguments, median, number, scratch, spread
from _peers import said

DBOS = "dbos==3.4.0"
ENVIRONMENT = HERE / ".env-dbos"
RATIO_MIN = 50

SETTINGS: list[dict[str, Any]] = [
    {"style": style, "journal": journal, "pool": pool, "ping": ping}
    for style in ("async", "sync")
    for journal, pool, ping in (
        ("delete", 20, True),
        ("wal", 20, True),
        ("wal", 20, False),
        ("wal", 1, False),
    )
]
"""The first of each style is what DBOS does when it is told nothing."""

Run = dict[str, float]


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={
            "concurrency": (1, 100, 1000),
            "repeat": 3,
            "count": 2_000,
            "trial": 200,
            "loop": "asyncio",
        },
        smoke={"concurrency": (20,), "repeat": 1, "count": 40, "trial": 0},
        helps={
            "concurrency": "clients at a time, each of which waits for its workflow",
            "repeat": "times that both are measured, in turn",
            "count": "workflows of one run, of either side (1 at a time: a quarter)",
            "trial": "workflows of a run that looks for DBOS's best settings; 0: do not look",
            "loop": "fenbu's loop: asyncio or uvloop",
        },
    )
    report = Report("versus_dbos", "Three-step workflows beside DBOS on SQLite", given)
    python = prepared()
    report.content["machine"]["DBOS"] = DBOS.partition("==")[2]
    rows: list[dict[str, str]] = []
    ratios: dict[int, list[float]] = {}
    raw: list[dict[str, Any]] = []
    for concurrency in given.concurrency:
        settings = best(report, python, concurrency, given)
        # Each client has some workflows to run, or it would all be over with the first wave.
        count = given.count // 4 if concurrency == 1 else max(given.count, 3 * concurrency)
        found: dict[str, list[Run]] = {"fenbu": [], "DBOS": []}
        for _ in range(given.repeat):
            found["fenbu"].append(fenbu(concurrency, count, given))
            found["DBOS"].append(dbos(python, concurrency, count, settings, given))
        ratios[concurrency] = [
            theirs["seconds"] / ours["seconds"]
            for ours, theirs in zip(found["fenbu"], found["DBOS"], strict=True)
        ]
        for name, runs in found.items():
            rows.append(_row(concurrency, name, count, runs, ratios[concurrency]))
        raw.append({"concurrency": concurrency, "count": count, "settings": settings, **found})
    report.table("The same workflows on both, each side with its own best settings", rows)
    for concurrency, each in ratios.items():
        if concurrency == 1:
            # Alone, both wait for the disk: so much faster is less time than the commits take.
            continue
        report.target(
            f"three-step workflows a second as a multiple of DBOS's, {concurrency:,} at a time",
            f"≥ {RATIO_MIN}",
            spread(each),
            met=median(each) >= RATIO_MIN,
        )
    report.raw("runs", raw)
    report.finish()


def _row(
    concurrency: int, name: str, count: int, runs: list[Run], ratios: list[float]
) -> dict[str, str]:
    return {
        "at a time": f"{concurrency:,}",
        "": name,
        "workflows/s": spread([count / each["seconds"] for each in runs]),
        "p50 ms": number(median([each["p50_ms"] for each in runs])),
        "p99 ms": number(median([each["p99_ms"] for each in runs])),
        "CPU µs a workflow": number(median([each["cpu_seconds"] / count * 1e6 for each in runs])),
        "fenbu / DBOS": spread(ratios) if name == "fenbu" else "1",
    }


def best(
    report: Report, python: Path, concurrency: int, given: argparse.Namespace
) -> dict[str, Any]:
    """The settings with which DBOS is fastest at this concurrency."""
    if given.trial == 0:
        return SETTINGS[-1]
    count = max(given.trial, concurrency)
    rates = [
        count / dbos(python, concurrency, count, settings, given)["seconds"]
        for settings in SETTINGS
    ]
    fastest = rates.index(max(rates))
    report.table(
        f"Settings of DBOS, {concurrency:,} at a time",
        [
            {
                "functions": settings["style"],
                "journal": settings["journal"],
                "connections": str(settings["pool"]),
                "ping": "yes" if settings["ping"] else "no",
                "workflows/s": number(rate),
                "": "taken" if index == fastest else "",
            }
            for index, (rate, settings) in enumerate(zip(rates, SETTINGS, strict=True))
        ],
    )
    return SETTINGS[fastest]


def fenbu(concurrency: int, count: int, given: argparse.Namespace) -> Run:
    with scratch(given.directory) as directory:
        return _side(
            PYTHON,
            "_versus_fenbu.py",
            {
                "database": str(directory / "fenbu.db"),
                "concurrency": concurrency,
                "count": count,
                "loop": given.loop,
            },
        )


def dbos(
    python: Path, concurrency: int, count: int, settings: dict[str, Any], given: argparse.Namespace
) -> Run:
    with scratch(given.directory) as directory:
        return _side(
            str(python),
            "_versus_dbos.py",
            {
                "database": str(directory / "dbos.db"),
                "concurrency": concurrency,
                "count": count,
                **settings,
            },
        )


def _side(python: str, script: str, given: dict[str, Any]) -> Run:
    return said([python, script, json.dumps(given)])


def prepared() -> Path:
    """The interpreter of DBOS's environment, made if it is missing or of another version."""
    python = ENVIRONMENT / "bin" / "python"
    mark = ENVIRONMENT / "installed.txt"
    if not mark.exists() or mark.read_text() != DBOS:
        print(f"making {ENVIRONMENT} with {DBOS}")
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", DBOS]
        subprocess.run(pip, check=True)
        mark.write_text(DBOS)
    return python


if __name__ == "__main__":
    main()
