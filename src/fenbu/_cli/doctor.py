"""`fenbu doctor`: is the database sound, and does anything need attention?"""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import sys

import click

from fenbu._cli.present import console, print_json
from fenbu._cli.target import app_option, find_url, is_owned, json_option, url_option, with_database
from fenbu._core.model import PARKED
from fenbu._storage.open import Database

Check = tuple[str, bool, str]


@click.command(epilog="\b\nExample:\n  fenbu doctor --url sqlite:///.fenbu/shop.db")
@app_option
@url_option
@json_option
def doctor(app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """Check the database and what is in it. Exit status 1 if something is wrong."""
    place = find_url(app_name, url)

    async def work(database: Database) -> list[Check]:
        return [*await database.check(), *await _calls(database)]

    checks = [_python(), _node(place)]
    checks += asyncio.run(with_database(None, place, work))
    if as_json:
        print_json([{"check": what, "ok": ok, "seen": seen} for what, ok, seen in checks])
    else:
        for what, ok, seen in checks:
            mark = "[green]✓[/]" if ok else "[red]✗[/]"
            console.print(f"{mark} [bold]{what}[/]: {seen}", markup=True)
    if not all(ok for _, ok, _ in checks):
        sys.exit(1)


def _python() -> Check:
    seen = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return ("versions", sys.version_info >= (3, 11), seen)


def _node(url: str) -> Check:
    if is_owned(url):
        return ("node now", True, "a node runs on this database")
    return ("node now", True, "no node runs on this database now; `fenbu run` starts one")


async def _calls(database: Database) -> list[Check]:
    counts = await database.count_calls()
    parked = {key: n for key, n in counts.items() if key[1] in PARKED}
    words = ", ".join(
        f"{n} × {handler} {status}" for (handler, status), n in sorted(parked.items())
    )
    advice = f"{words}; see `fenbu ls` and `fenbu explain ID`" if words else "none needs attention"
    total = sum(counts.values())
    return [("calls", not parked, f"{total} kept; {advice}")]
