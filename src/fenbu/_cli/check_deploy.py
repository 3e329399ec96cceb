"""`fenbu check-deploy`: would the calls that are open in a database go on with this code?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from fenbu._cli.find import histories_of
from fenbu._cli.present import console, count_of, print_json, status_text
from fenbu._cli.target import json_option, load_app, place_of, url_option, with_database
from fenbu._core.handler import Registry
from fenbu._core.model import FINISHED, Status
from fenbu._core.rehearsal import Divergence, rehearse
from fenbu._storage.observer import CallFilter, pages_of
from fenbu._storage.open import Database

EXAMPLE = """
\b
Examples:
  fenbu check-deploy shop.py
  fenbu check-deploy shop:app --url postgresql://shop@db/shop --json
"""

PAGE = 200
"""Calls that are read at once: their journals are in memory."""

LINE_SECONDS = 3.0
"""How often a line tells of progress where there is no terminal."""

SHOWN = 50
"""Calls that are told one by one; JSON has all of them."""

OPEN = tuple(each for each in Status if each not in FINISHED)
WAITING = frozenset({Status.STUCK, Status.UNHANDLED})
"""Calls for which this code is no worse than the one that runs."""


class Findings:
    """What has been found so far."""

    def __init__(self) -> None:
        self.handlers: Counter[str] = Counter()
        self.broken: list[tuple[Status, Divergence]] = []
        self.waiting: list[tuple[Status, Divergence]] = []
        """Those that wait for other code now, and would go on waiting."""
        self.freed = 0
        """Those that wait for other code now, and for which this is it."""

    @property
    def count(self) -> int:
        return self.handlers.total()

    def add(self, handler: str, status: Status, divergence: Divergence | None) -> None:
        self.handlers[handler] += 1
        if divergence is not None:
            (self.waiting if status in WAITING else self.broken).append((status, divergence))
        elif status in WAITING:
            self.freed += 1


@click.command("check-deploy", epilog=EXAMPLE)
@click.argument("app_name", metavar="APP", envvar="FENBU_APP")
@url_option
@json_option
def check_deploy(app_name: str, url: str | None, *, as_json: bool) -> None:
    """Replay all open calls of a database with the code of APP, before it is deployed.

    APP is module:attribute or file.py[:attribute]. The database is only read. Exit status 1 if calls would
    break: they would be parked as stuck or unhandled until code comes that fits.
    """
    app = load_app(app_name, url)

    async def work(database: Database) -> Findings:
        return await _rehearse_all(database, app.registry)

    findings = asyncio.run(with_database(place_of(app), work))
    if as_json:
        print_json(_data(findings))
    else:
        _tell(findings)
    if findings.broken:
        sys.exit(1)


async def _rehearse_all(database: Database, registry: Registry) -> Findings:
    findings = Findings()
    counts = await database.count_calls()
    total = sum(count for (_, status), count in counts.items() if status in OPEN)
    where = CallFilter(statuses=OPEN, limit=PAGE)
    screen = Console(stderr=True)
    line_at = time.monotonic() + LINE_SECONDS
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        bar = progress.add_task("replaying open calls", total=total)
        async for page in pages_of(database, where):
            found = await database.load_calls([each.id for each in page])
            for each in await histories_of(database, found):
                call = each.loaded.invocation
                if call.status not in FINISHED:
                    findings.add(call.handler, call.status, rehearse(registry, each))
            progress.update(bar, completed=findings.count)
            if not screen.is_terminal and time.monotonic() >= line_at:
                line_at += LINE_SECONDS
                click.echo(f"replayed {findings.count:,} of {total:,} open calls", err=True)
    return findings


def _data(findings: Findings) -> dict[str, Any]:
    def all_of(found: list[tuple[Status, Divergence]]) -> list[dict[str, Any]]:
        return [{**msgspec.to_builtins(each), "status": status} for status, each in found]

    return {
        "safe": not findings.broken,
        "open": findings.count,
        "handlers": dict(findings.handlers),
        "would_break": all_of(findings.broken),
        "stay_parked": all_of(findings.waiting),
        "would_go_on": findings.freed,
    }


def _tell(findings: Findings) -> None:
    if findings.freed:
        console.print(f"{count_of(findings.freed, 'parked call')} would go on with this code")
    if findings.waiting:
        console.print(f"{count_of(len(findings.waiting), 'parked call')} would stay parked:")
        console.print(_table(findings.waiting))
    if findings.broken:
        console.print(
            f"[red]not safe to deploy[/]: of {count_of(findings.count, 'open call')} "
            f"{len(findings.broken):,} would break:"
        )
        console.print(_table(findings.broken))
    else:
        console.print(
            f"[green]safe to deploy[/]: {count_of(findings.count, 'open call')} of "
            f"{count_of(len(findings.handlers), 'handler')} replayed"
        )


def _table(found: list[tuple[Status, Divergence]]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("ID", "HANDLER", "STATUS", "POSITION", "WHY"):
        table.add_column(name, no_wrap=name != "WHY")
    for status, each in found[:SHOWN]:
        position = "" if each.position is None else str(each.position)
        handler = each.handler + (f" v{each.version}" if each.version > 1 else "")
        table.add_row(
            escape(each.id), escape(handler), status_text(status), position, escape(each.reason)
        )
    if len(found) > SHOWN:
        table.add_row(f"… and {len(found) - SHOWN:,} more: see --json")
    return table
