"""What every benchmark shares: its options, its report, and the facts about the machine.

A benchmark prints tables and writes the same as JSON, so that `all.py` can make a page of it. It never
states a number that it has not measured in this run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

HERE = Path(__file__).resolve().parent


# Options.


def arguments(
    document: str, *, defaults: dict[str, Any], smoke: dict[str, Any], helps: dict[str, str]
) -> argparse.Namespace:
    """The options of a script: those that all have, and one for each default.

    `--smoke` replaces the defaults by values that take a few seconds.
    """
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result there as well")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        default=HERE / ".data",
        help="where databases are made: decides which disk is measured (default: %(default)s)",
    )
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        text = f"{helps[name]} (default: {default})"
        if isinstance(default, tuple):
            parser.add_argument(option, metavar="N", type=int, nargs="+", help=text)
        elif isinstance(default, bool):
            parser.add_argument(option, action="store_true", default=None, help=text)
        else:
            parser.add_argument(option, metavar="N", type=type(default), help=text)
    options = parser.parse_args()
    for name, default in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, smoke.get(name, default) if options.smoke else default)
    return options


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A directory for databases that is gone afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=directory)).resolve()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


# Measuring.


@dataclass
class Timing:
    """One measured stretch of calls."""

    count: int
    seconds: float
    cpu_seconds: float
    """Of the whole process: all its threads."""
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        return self.cpu_seconds / self.count * 1e6

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3


async def clients(
    call: Callable[[int], Awaitable[object]], *, count: int, concurrency: int
) -> Timing:
    """`concurrency` clients make `count` calls, each its next when its last has ended."""
    numbers = iter(range(count))
    latencies: list[float] = []
    clock = time.perf_counter

    async def client() -> None:
        for number in numbers:
            began = clock()
            await call(number)
            latencies.append(clock() - began)

    gc.collect()
    began, cpu_began = clock(), time.process_time()
    await asyncio.gather(*(client() for _ in range(min(concurrency, count))))
    return Timing(count, clock() - began, time.process_time() - cpu_began, latencies)


async def together(work: Callable[[], Coroutine[Any, Any, object]], *, count: int) -> Timing:
    """One piece of work that stands for `count` calls."""
    gc.collect()
    began, cpu_began = time.perf_counter(), time.process_time()
    await work()
    return Timing(count, time.perf_counter() - began, time.process_time() - cpu_began)


def run(work: Coroutine[Any, Any, T], loop: str = "asyncio") -> T:
    """Run a coroutine on a fresh event loop of this kind."""
    if loop == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    else:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


async def until(condition: Callable[[], object], seconds: float = 0.01) -> None:
    """Look again and again: what is waited for tells nobody."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(seconds)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def resident_bytes() -> int:
    """RAM of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# Reporting.


def number(value: float) -> str:
    """Three digits that count, and no more."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def spread(values: Sequence[float]) -> str:
    """The median, and the range if there is one."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


class Report:
    """Collects what a script has measured, prints it, and writes it down."""

    def __init__(self, name: str, title: str, options: argparse.Namespace) -> None:
        self.content: dict[str, Any] = {
            "name": name,
            "title": title,
            "settings": {
                key: value
                for key, value in vars(options).items()
                if key not in {"json", "directory"} and value is not None
            },
            "machine": machine(options.directory),
            "tables": [],
            "targets": [],
            "notes": [],
            "raw": {},
        }
        self._json: Path | None = options.json
        self._smoke: bool = options.smoke
        print(f"{title}\n{'=' * len(title)}")

    def table(self, title: str, rows: list[dict[str, str]]) -> None:
        """Rows of words and numbers that are formatted already; the columns are those of the first."""
        self.content["tables"].append({"title": title, "rows": rows})
        columns = list(rows[0])
        widths = [max(len(name), *(len(row[name]) for row in rows)) for name in columns]
        print(f"\n{title}\n")
        print(
            "  " + "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True))
        )
        for row in rows:
            cells = (row[name].ljust(width) for name, width in zip(columns, widths, strict=True))
            print("  " + "  ".join(cells).rstrip())

    def target(self, what: str, aim: str, measured: str, *, met: bool) -> None:
        """One of the numbers that fenbu wants to reach, and what this run says of it.

        A smoke run is too short to say anything.
        """
        self.content["targets"].append({"what": what, "aim": aim, "measured": measured, "met": met})

    def note(self, text: str) -> None:
        self.content["notes"].append(text)

    def raw(self, name: str, value: object) -> None:
        """What the tables were made of; JSON only."""
        self.content["raw"][name] = value

    def finish(self) -> None:
        """Print what is left and write the JSON."""
        if self.content["targets"]:
            print("\nAims\n")
        for each in self.content["targets"]:
            verdict = "smoke" if self._smoke else "met" if each["met"] else "MISSED"
            print(f"  {verdict:7} {each['what']}: {each['measured']} (aim: {each['aim']})")
        for each in self.content["notes"]:
            print(f"\n{each}")
        print()
        if self._json is not None:
            self._json.parent.mkdir(parents=True, exist_ok=True)
            self._json.write_text(json.dumps(self.content, indent=1) + "\n")


def machine(directory: Path) -> dict[str, str]:
    """Where and with what this is measured."""
    return {
        "processor": f"{os.cpu_count()} × {_processor()}",
        "system": platform.platform(terse=True),
        "file system": _file_system(directory),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        "Python": _python(),
        "SQLite": sqlite3.sqlite_version,
        "fenbu": version("fenbu"),
        "msgspec": version("msgspec"),
    }


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "from source"


def _python() -> str:
    """Its version and who built it: how it was optimised decides on more than its version does."""
    number = platform.python_version()
    if sys.base_prefix != "/usr":
        return number
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    return f"{number}, that of {system}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(directory: Path) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    device = directory.stat().st_dev
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    for line in reversed(mounts):
        _, point, kind = line.split()[:3]
        try:
            if Path(point).stat().st_dev == device:
                return kind
        except OSError:
            continue
    return "unknown"


def options_for_child(options: argparse.Namespace, *names: str) -> list[str]:
    """The same options as arguments for a child process of this benchmark."""
    return [
        word
        for name in names
        for word in (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    ]


PYTHON = sys.executable
