"""`fenbu show`: a call and its journal as a timeline."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from fenbu._cli.find import find_call
from fenbu._cli.present import (
    as_data,
    console,
    duration,
    failure_text,
    instant,
    payload_text,
    print_json,
    status_text,
)
from fenbu._cli.target import app_option, json_option, url_option, with_database
from fenbu._core import journal
from fenbu._core.model import Entry, EntryKind, Invocation, Loaded, Status
from fenbu._storage.open import Database

EXAMPLE = """
\b
Examples:
  fenbu show order-7
  fenbu show order-7 --json
"""


@click.command(epilog=EXAMPLE)
@click.argument("id_", metavar="ID")
@app_option
@url_option
@json_option
def show(id_: str, app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """Show a call: arguments, outcome, and its journal as a timeline."""

    async def work(database: Database) -> tuple[Loaded, list[Invocation]]:
        loaded = await find_call(database, id_)
        return loaded, await database.children(loaded.invocation.id, limit=1000)

    loaded, children = asyncio.run(with_database(app_name, url, work))
    if as_json:
        data: dict[str, Any] = as_data(loaded.invocation)
        data["journal"] = [as_data(each) for each in loaded.entries]
        data["children"] = [as_data(each) for each in children]
        print_json(data)
        return
    _header(loaded.invocation)
    _timeline(loaded, {each.id: each for each in children})


def _header(call: Invocation) -> None:
    of = f" of {escape(call.key)}" if call.key is not None else ""
    console.print(
        f"[bold]{escape(call.handler)}[/]{of}  {escape(call.id)}  {status_text(call.status)}"
    )
    rows = [
        ("accepted", instant(call.created_at)),
        ("started", instant(call.started_at)),
        ("finished", instant(call.finished_at)),
        ("due", instant(call.wake_at)),
        ("deadline", instant(call.deadline_at)),
        ("attempts", str(call.attempt) if call.attempt else ""),
        ("arguments", payload_text(call.args, 2000)),
        ("waits for", call.waiting or ""),
        ("cancelled", call.cancel_reason or ""),
        ("parent", call.parent.id if call.parent is not None else ""),
        ("result", payload_text(call.result, 4000)),
        ("error", failure_text(call.failure)),
    ]
    grid = Table.grid(padding=(0, 2))
    for name, text in rows:
        if text:
            grid.add_row(f"[dim]{name}[/]", escape(text))
    console.print(grid)
    if call.failure is not None and call.failure.traceback and call.status is Status.FAILED:
        console.print(escape(call.failure.traceback), style="red")


def _timeline(loaded: Loaded, children: dict[str, Invocation]) -> None:
    call = loaded.invocation
    commands = dict(enumerate(_commands(loaded), start=1))
    if not commands and not loaded.entries:
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("AT", "NO.", "WHAT", "ATTEMPT", "TOOK", "RESULT OR ERROR", "WHERE"):
        table.add_column(name)
    begin = call.started_at or call.created_at
    ended: set[int] = set()
    for entry in loaded.entries:
        kind, name, where = commands.get(entry.command, ("", "", ""))
        if entry.kind is not EntryKind.STEP_RETRYING:
            ended.add(entry.command)
        table.add_row(
            f"+{duration(entry.at - begin)}", str(entry.command or ""), escape(_what(entry, kind, name)),
            str(entry.attempt or ""), duration(entry.seconds), _result(entry), escape(where),
        )  # fmt: skip
    for number, (kind, name, where) in commands.items():
        if number not in ended:
            child = next(
                (each for id_, each in children.items() if id_.endswith(f"/{number}")), None
            )
            state = status_text(child.status) if child is not None else "[dim]issued[/]"
            table.add_row(
                "", str(number), escape(f"{kind} {name}".strip()), "", "", state, escape(where)
            )
    console.print()
    console.print(table)


def _commands(loaded: Loaded) -> list[tuple[str, str, str]]:
    texts = [loaded.invocation.commands, *(each.commands for each in loaded.entries)]
    return [each for text in texts for each in journal.recorded(text)]


def _what(entry: Entry, kind: str, name: str) -> str:
    match entry.kind:
        case EntryKind.SIGNAL_RECEIVED:
            return f"signal {entry.name}"
        case EntryKind.CANCEL_REQUESTED:
            return f"cancel requested: {entry.name}"
        case EntryKind.STEP_RETRYING:
            return f"{kind} {name}, again at {instant(entry.retry_at)}"
        case _:
            return f"{kind} {name}".strip()


def _result(entry: Entry) -> str:
    if entry.failure is not None:
        return f"[red]{escape(failure_text(entry.failure).splitlines()[0])}[/]"
    if entry.value is not None:
        return escape(payload_text(entry.value, 80))
    return "[green]✓[/]" if entry.status in (None, Status.COMPLETED) else status_text(entry.status)
