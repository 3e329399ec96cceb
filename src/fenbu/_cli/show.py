"""`fenbu show`: a call and its journal as a timeline."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from fenbu._api.callback import open_callbacks
from fenbu._cli.find import Found, find_call, home_in
from fenbu._cli.present import (
    attributes_text,
    call_data,
    commands_data,
    console,
    count_of,
    due_at,
    duration,
    entry_data,
    failure_text,
    first_line,
    instant,
    patches_of,
    payload_text,
    print_json,
    status_text,
    stream_data,
    stream_text,
)
from fenbu._cli.target import app_option, find_url, json_option, url_option, with_database
from fenbu._core import ids, journal
from fenbu._core.command import SeeField
from fenbu._core.model import FINISHED, Entry, EntryKind, Invocation, Loaded, Status
from fenbu._storage.open import Database
from fenbu._storage.stream import StreamInfo

EXAMPLE = """
\b
Examples:
  fenbu show order-7
  fenbu show order-7 --json
"""

CHILDREN_MAX = 1000


@click.command(epilog=EXAMPLE)
@click.argument("id_", metavar="ID")
@app_option
@url_option
@json_option
def show(id_: str, app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """Show a call: arguments, outcome, and its journal as a timeline. ID may be a unique beginning."""

    async def work(database: Database) -> tuple[Found, int, list[Invocation], list[StreamInfo]]:
        found = await find_call(database, id_)
        home = await home_in(database, found.call)
        children = await database.children(found.call.id, limit=CHILDREN_MAX)
        return found, home, children, await database.list_streams(found.call.id)

    found, home, children, streams = asyncio.run(with_database(find_url(app_name, url), work))
    if as_json:
        data: dict[str, Any] = call_data(found.call)
        data["commands"] = commands_data(found.call.commands)
        data["journal"] = [entry_data(each) for each in found.loaded.entries]
        data["callbacks"] = [
            msgspec.to_builtins(each) for each in open_callbacks(found.loaded, home)
        ]
        data["children"] = [call_data(each) for each in children]
        data["streams"] = [stream_data(each) for each in streams]
        print_json(data)
        return
    _header(found, streams)
    _timeline(found.loaded, home, _by_command(found.call, children))
    if len(children) == CHILDREN_MAX:
        console.print(f"[dim]only its first {count_of(CHILDREN_MAX, 'call')} are looked at[/]")


def _header(found: Found, streams: list[StreamInfo]) -> None:
    call = found.call
    of = f" of {escape(call.key)}" if call.key is not None else ""
    console.print(
        f"[bold]{escape(call.handler)}[/]{of}  {escape(call.id)}  {status_text(call.status)}"
    )
    # Of a task each attempt is counted; a workflow begins another run when it continues as new or is retried.
    has_code = call.commands is not None or bool(found.loaded.entries) or call.key is not None
    waits_for = "a node that reads the inbox" if found.in_inbox else call.waiting or ""
    rows = [
        ("accepted", instant(call.created_at)),
        ("started", instant(call.started_at)),
        ("finished", instant(call.finished_at)),
        ("due", instant(due_at(call))),
        ("deadline", instant(call.deadline_at)),
        ("runs" if has_code else "attempts", str(call.attempt + has_code) if call.attempt else ""),
        ("arguments", payload_text(call.args, 2000)),
        ("waits for", waits_for),
        ("version", str(call.version) if call.version > 1 else ""),
        ("patched", ", ".join(patches_of(found.loaded))),
        ("attributes", attributes_text(call.attributes)),
        ("cancelled", call.cancel_reason or ""),
        ("streams", ", ".join(map(stream_text, streams))),
        ("parent", call.parent.id if call.parent is not None else ""),
        ("result", payload_text(call.result, 4000)),
        ("error", failure_text(call.failure)),
        ("progress", _progress(call, 0, 2000)),
        ("context", ", ".join(f"{k}={v}" for k, v in (call.context or {}).items())),
    ]
    grid = Table.grid(padding=(0, 2))
    for name, text in rows:
        if text:
            grid.add_row(f"[dim]{name}[/]", escape(text))
    console.print(grid)
    if call.failure is not None and call.failure.traceback and call.status is not Status.STUCK:
        console.print(escape(call.failure.traceback.rstrip("\n")), style="red")


def _progress(call: Invocation, command: int, width: int) -> str:
    """What a body has said last of how far it is."""
    for each in call.heartbeats:
        if each.command == command:
            return f"{payload_text(each.value, width)} at {instant(each.at)}"
    return ""


def _by_command(call: Invocation, children: list[Invocation]) -> dict[int, Invocation]:
    """The calls that it made in this run, by the number of the command."""
    own = ids.child_id(ids.run_id(call.id, call.attempt), 0)[:-1]
    found: dict[int, Invocation] = {}
    for each in children:
        number = each.id.removeprefix(own)
        if number != each.id and number.isdecimal():
            found[int(number)] = each
        elif each.parent is not None and each.parent.id == call.id:
            found.setdefault(each.parent.command, each)
    return found


def _timeline(loaded: Loaded, home: int, children: dict[int, Invocation]) -> None:
    call = loaded.invocation
    commands = journal.commands_of(loaded)
    if not commands and not loaded.entries:
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("AT", "NO.", "WHAT", "ATTEMPT", "TOOK", "RESULT OR ERROR", "WHERE"):
        table.add_column(name, no_wrap=name in {"AT", "NO.", "TOOK"})
    begin = call.started_at or call.created_at
    callbacks = journal.callbacks_of(loaded)
    opened = {name: number for number, name in callbacks.items()}
    ended: set[int] = set()
    for entry in loaded.entries:
        is_fork = entry.kind is EntryKind.FORKED
        kind, name, where = ("", "", "") if is_fork else commands.get(entry.command, ("", "", ""))
        if entry.kind not in (EntryKind.STEP_RETRYING, EntryKind.FORKED):
            ended.add(opened.get(entry.name or "", entry.command))
        table.add_row(
            f"+{duration(max(entry.at - begin, 0.0))}", "" if is_fork else str(entry.command or ""),
            escape(_what(entry, f"{kind} {name}".strip(), children)), str(entry.attempt or ""),
            duration(entry.seconds), _result(entry), escape(where),
        )  # fmt: skip
    for number, (kind, name, where) in commands.items():
        if number not in ended:
            child = children.get(number)
            what = f"{kind} {name}".strip() + (f" {child.id}" if child is not None else "")
            if number in callbacks:
                token = ids.callback_token(callbacks[number], home, call.id)
                what = f"callback {token}"
            state = escape(_progress(call, number, 80)) or _state(call, kind, child)
            table.add_row("", str(number), escape(what), "", "", state, escape(where))
    console.print()
    console.print(table)


def _what(entry: Entry, command: str, children: dict[int, Invocation]) -> str:
    match entry.kind:
        case EntryKind.SIGNAL_RECEIVED:
            return journal.signal_text(entry.name or "")
        case EntryKind.UPDATE_RECEIVED:
            return f"update {entry.name}"
        case EntryKind.FORKED:
            return f"forked from {entry.name}"
        case EntryKind.CANCEL_REQUESTED:
            return f"cancel requested: {entry.name}"
        case EntryKind.INNER_BEGAN:
            return f"gives its turn to {entry.name}"
        case EntryKind.INNER_SET:
            return f"has lazy field {entry.name} set"
        case EntryKind.INNER_ENDED:
            return f"has its turn back from {entry.name}"
        case EntryKind.STEP_RETRYING:
            return f"{command}, again at {instant(entry.retry_at)}"
        case EntryKind.CALL_FINISHED if entry.command in children:
            return f"{command} {children[entry.command].id}"
        case _:
            return command


def _result(entry: Entry) -> str:
    if entry.failure is not None:
        return f"[red]{escape(first_line(failure_text(entry.failure)))}[/]"
    if entry.value is not None and entry.kind is not EntryKind.INNER_BEGAN:
        return escape(payload_text(entry.value, 80))
    return "[green]✓[/]" if entry.status in (None, Status.COMPLETED) else status_text(entry.status)


def _state(call: Invocation, kind: str, child: Invocation | None) -> str:
    """What is known of a command that has no outcome in the journal."""
    if child is not None:
        return status_text(child.status)
    if kind == SeeField.kind:
        return "[green]✓[/]"
    if kind in {"signal", "cancel", "abandon", "call", "write", "close", "attributes"}:
        return "[dim]sent[/]"
    # A step or timer that was cancelled leaves no trace of it.
    return "[dim]not needed[/]" if call.status in FINISHED else "[dim]open[/]"
