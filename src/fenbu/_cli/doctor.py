"""`fenbu doctor`: is the database sound, and does anything need attention?"""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version

import click
from rich.markup import escape

from fenbu._cli.present import console, count_of, print_json
from fenbu._cli.target import app_option, find_url, json_option, url_option, with_database
from fenbu._core.model import FINISHED, Status
from fenbu._storage.open import Database, shown
from fenbu.errors import FenbuError

Check = tuple[str, bool, str]

ATTENTION = {
    Status.STUCK: "deploy code that fits, or cancel them",
    Status.QUARANTINED: "they took their process down: retry or cancel them",
    Status.UNHANDLED: "start a node that has their handler",
}


@click.command(epilog="\b\nExample:\n  fenbu doctor --url sqlite:///.fenbu/shop.db")
@app_option
@url_option
@json_option
def doctor(app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """Check the database and what is in it. Exit status 1 if something is wrong."""
    place = find_url(app_name, url)

    async def work(database: Database) -> list[Check]:
        return [*await database.check(), *await _calls(database)]

    checks = [_versions()]
    try:
        found = asyncio.run(with_database(place, work))
        checks += [("database", True, f"{shown(place)} can be opened"), *found]
    except FenbuError as error:
        checks.append(("database", False, str(error)))
    if as_json:
        print_json([{"check": what, "ok": ok, "seen": seen} for what, ok, seen in checks])
    else:
        for what, ok, seen in checks:
            mark = "[green]✓[/]" if ok else "[red]✗[/]"
            console.print(f"{mark} [bold]{what}[/]: {escape(seen)}")
    if not all(ok for _, ok, _ in checks):
        sys.exit(1)


def _versions() -> Check:
    try:
        fenbu = version("fenbu")
    except PackageNotFoundError:
        fenbu = "not installed, run from its source"
    python = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return ("versions", True, f"fenbu {fenbu}, {python}")


async def _calls(database: Database) -> list[Check]:
    counts = await database.count_calls()
    is_open = sum(n for (_, status), n in counts.items() if status not in FINISHED)
    kept = sum(counts.values())
    checks: list[Check] = [("calls", True, f"{count_of(kept, 'call')} kept, {is_open:,} open")]
    for status, advice in ATTENTION.items():
        parked = sorted((handler, n) for (handler, each), n in counts.items() if each is status)
        words = ", ".join(f"{n:,} × {handler}" for handler, n in parked)
        if words:
            checks.append((status.value, False, f"{words}: {advice}; `fenbu explain ID` says more"))
    return checks
