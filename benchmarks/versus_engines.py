"""Three-step workflows and keyed increments on servers: fenbu and DBOS on one PostgreSQL, and Restate.

DBOS and Restate get environments of their own, which this script makes when they are missing (that needs a
package index, and npm for restate-server). fenbu and DBOS have a database each on the same server, and their
clients in the process that runs the workflows; Restate's clients ask its ingress over HTTP, as they must.

Example:
    python benchmarks/versus_engines.py --concurrency 1 100 1000 --repeat 3 --json versus_engines.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _measure import HERE, PYTHON, Report, arguments, median, number, scratch, spread
from _peers import Result, prepared, said
from _server import database, end_all, free_port, schema, server, settings_of
from versus_dbos import DBOS

SDK = ("restate-sdk==1.3.0", "hypercorn==0.18.0", "aiohttp")
SERVER = "@restatedev/restate-server@1.7.12"

KEYS = 1_000
WORKFLOWS = {"fenbu": 20_000, "DBOS": 600, "Restate": 2_000}
OPERATIONS = {"fenbu": 20_000, "Restate": 3_000}
"""Some seconds of work for each."""

DBOS_MIN = 100

Found = dict[str, list[Result]]


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={
            "url": "",
            "concurrency": (1, 100, 1000),
            "repeat": 3,
            "scale": 1.0,
            "without": "",
        },
        smoke={"concurrency": (1, 20), "repeat": 1, "scale": 0.05},
        helps={
            "url": "the PostgreSQL database; a server of its own if none is given",
            "concurrency": "clients at a time, each of which waits for its workflow",
            "repeat": "times that all are measured, in turn",
            "scale": "share of the usual number of calls",
            "without": "engines to leave out, separated by commas",
        },
    )
    report = Report("versus_engines", "Beside DBOS on PostgreSQL, and Restate", given)
    names = [each for each in WORKFLOWS if each not in given.without.split(",")]
    report.content["machine"] |= {
        "DBOS": DBOS.partition("==")[2],
        "Restate": SERVER.rpartition("@")[2],
    }
    workflows: dict[int, Found] = {each: {} for each in given.concurrency}
    operations: Found = {}
    with server(given.url) as url:
        report.content["machine"] |= asyncio.run(settings_of(url))
        for turn in range(given.repeat):
            for name in names:
                print(f"round {turn + 1} of {given.repeat}: {name}", file=sys.stderr)
                with engine(name, url, given) as run:
                    for concurrency, found in workflows.items():
                        count = max(20, int(WORKFLOWS[name] * given.scale), 2 * concurrency)
                        count = count // 10 if concurrency == 1 else count
                        found.setdefault(name, []).append(run(count, concurrency, 0))
                    if name in OPERATIONS:
                        count = max(20, int(OPERATIONS[name] * given.scale))
                        operations.setdefault(name, []).append(run(count, 100, KEYS))
    report.table("Three-step workflows", [row for c, f in workflows.items() for row in _rows(c, f)])
    report.table(f"Increments of {KEYS:,} counters", _rows(100, operations))
    _targets(report, workflows, operations)
    report.finish()


class Engine:
    """Runs a side and returns what came of it."""

    def __init__(self, script: list[str], **given: Any) -> None:
        self._script = script
        self._given = given

    def __call__(self, count: int, concurrency: int, keys: int) -> Result:
        given = {**self._given, "count": count, "concurrency": concurrency, "keys": keys}
        return {**said([*self._script, json.dumps(given)]), "count": count}


@contextmanager
def engine(name: str, url: str, given: argparse.Namespace) -> Iterator[Engine]:
    """One of them, with a fresh database."""
    match name:
        case "fenbu":
            with schema(url) as own:
                yield Engine([PYTHON, "_versus_fenbu.py"], url=own, loop="asyncio")
        case "DBOS":
            script = [str(prepared("dbos-postgres", (DBOS, "psycopg[binary]"))), "_versus_dbos.py"]
            with database(url) as own:
                yield Engine(script, url=own, style="async", pool=20, ping=False)
        case _:
            with scratch(given.directory) as folder, restate(folder) as places:
                yield Engine([str(prepared("restate", SDK)), "_peer_restate.py"], **places)


@contextmanager
def restate(folder: Path) -> Iterator[dict[str, str]]:
    """The server and the service."""
    python = prepared("restate", SDK)
    home = python.parent.parent
    program = home / "node_modules" / ".bin" / "restate-server"
    if not program.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("restate-server needs npm: leave it out with --without Restate")
        install = [npm, "install", "--silent", "--prefix", str(home), SERVER]
        subprocess.run(install, check=True, stdout=sys.stderr)
    binary = next(
        home.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"), program
    )
    ingress, admin, node, service = (free_port() for _ in range(4))
    environment = {
        **os.environ,
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_LOG_FILTER": "error",
        "DO_NOT_TRACK": "1",
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    base = ["--no-logo", "--listen-mode", "tcp", "--base-dir", str(folder / "restate")]
    serve = [str(python), "-m", "hypercorn", "--bind", f"127.0.0.1:{service}", "_peer_restate:app"]
    processes = [
        subprocess.Popen([str(binary), *base], env=environment, **quiet),  # type: ignore[call-overload]
        subprocess.Popen(serve, cwd=HERE, **quiet),  # type: ignore[call-overload]
    ]
    try:
        yield {
            "ingress": f"http://127.0.0.1:{ingress}",
            "admin": f"http://127.0.0.1:{admin}",
            "service": f"http://127.0.0.1:{service}",
        }
    finally:
        end_all(processes)


def _rate(run: Result) -> float:
    return run["count"] / run["seconds"]


def _rows(concurrency: int, found: Found) -> list[dict[str, str]]:
    ours = median([_rate(each) for each in found["fenbu"]])
    return [
        {
            "at a time": f"{concurrency:,}",
            "": name,
            "calls": f"{int(runs[0]['count']):,}",
            "calls/s": spread([_rate(each) for each in runs]),
            "p50 ms": number(median([each["p50_ms"] for each in runs])),
            "p99 ms": number(median([each["p99_ms"] for each in runs])),
            "fenbu is faster by": f"{ours / median([_rate(each) for each in runs]):.1f} ×",
        }
        for name, runs in found.items()
    ]


def _targets(report: Report, workflows: dict[int, Found], operations: Found) -> None:
    for concurrency, found in workflows.items():
        for name, least in (("DBOS", DBOS_MIN), ("Restate", 10)):
            if name not in found or concurrency == 1:
                continue
            pairs = zip(found["fenbu"], found[name], strict=True)
            ratios = [_rate(ours) / _rate(theirs) for ours, theirs in pairs]
            report.target(
                f"three-step workflows a second as a multiple of {name}'s, {concurrency:,} at a time",
                f"≥ {least}", spread(ratios), met=median(ratios) >= least,
            )  # fmt: skip
    alone = workflows.get(1, {})
    others = {n: median([e["p50_ms"] for e in runs]) for n, runs in alone.items() if n != "fenbu"}
    if others:
        ours = median([each["p50_ms"] for each in alone["fenbu"]])
        words = ", ".join(f"{name}: {value:.1f}" for name, value in others.items())
        report.target(
            "latency of a three-step workflow alone, ms", f"below theirs ({words})", f"{ours:.2f}",
            met=ours < min(others.values()),
        )  # fmt: skip
    if "Restate" in operations:
        pairs = zip(operations["fenbu"], operations["Restate"], strict=True)
        ratios = [_rate(ours) / _rate(theirs) for ours, theirs in pairs]
        report.target(
            "keyed increments a second as a multiple of Restate's, 100 at a time",
            "≥ 10", spread(ratios), met=median(ratios) >= 10,
        )  # fmt: skip


if __name__ == "__main__":
    main()
