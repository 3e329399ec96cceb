"""`fenbu entity ls` and `fenbu entity show`: the states of entities."""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from fenbu._cli.present import (
    call_data,
    calls_table,
    console,
    entity_data,
    instant,
    instant_short,
    payload_text,
    print_json,
)
from fenbu._cli.target import app_option, find_url, json_option, url_option, with_database
from fenbu._core.model import EntityState, Invocation
from fenbu._storage.observer import CallFilter
from fenbu._storage.open import Database
from fenbu.errors import CallNotFound, UsageError

RECENT = 1000
"""Among so many of the newest calls its own are looked for: no index leads to those that have ended."""

SHOWN = 20


@click.group(epilog="\b\nExamples:\n  fenbu entity ls Stock\n  fenbu entity show Stock sku-1")
def entity() -> None:
    """Look at entities."""


@entity.command(
    "ls",
    epilog="\b\nExamples:\n  fenbu entity ls Stock -n 20 --json\n  fenbu entity ls Stock --after sku-100",
)
@click.argument("type_", metavar="[TYPE]", required=False)
@click.option("-n", "limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option(
    "--after", metavar="KEY", help="in order of keys, those behind this one; '' for the first page"
)
@app_option
@url_option
@json_option
def list_entities(
    type_: str | None,
    limit: int,
    after: str | None,
    app_name: str | None,
    url: str | None,
    *,
    as_json: bool,
) -> None:
    """List entities, the most recently changed first, or with --after page by page in order of their keys."""
    if after is not None and type_ is None:
        raise UsageError("--after needs the TYPE whose keys are meant")

    async def work(database: Database) -> list[EntityState]:
        if after is None or type_ is None:
            return await database.list_entities(type_, limit=limit)
        found = await database.scan_entities((type_, after), limit=limit)
        return [each for each in found if each.entity == type_]

    found = asyncio.run(with_database(find_url(app_name, url), work))
    if as_json:
        print_json([entity_data(each) for each in found])
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("TYPE", "KEY", "CHANGED", "STATE"):
        table.add_column(name, no_wrap=True, overflow="fold" if name == "KEY" else "ellipsis")
    for each in found:
        state = escape(payload_text(each.state, 100))
        changed = instant_short(each.changed_at)
        table.add_row(escape(each.entity), escape(each.key), changed, state)
    console.print(table if found else "no entities")
    if after is not None and len(found) == limit:
        console.print(f"[dim]more:[/] --after {escape(shlex.quote(found[-1].key))}")


@entity.command("show", epilog="\b\nExample:\n  fenbu entity show Stock sku-1")
@click.argument("type_", metavar="TYPE")
@click.argument("key")
@app_option
@url_option
@json_option
def show_entity(
    type_: str, key: str, app_name: str | None, url: str | None, *, as_json: bool
) -> None:
    """Show an entity's state, names and sizes of its lazy fields, and its operations, open and ended."""

    async def work(
        database: Database,
    ) -> tuple[list[EntityState], list[tuple[str, int]], list[Invocation], list[Invocation]]:
        states = await database.load_entities([(type_, key)])
        last = Invocation(
            id="", partition=0, handler="", entity=type_, key=key, sequence=sys.maxsize
        )
        is_open = await database.operations_before(last, limit=SHOWN)
        calls = await database.list_calls(CallFilter(limit=RECENT))
        mine = [each for each in calls if each.entity == type_ and each.key == key]
        ended = [each for each in mine if each.finished_at is not None]
        lazy = await database.list_fields(type_, key) if states else []
        return states, lazy, is_open, ended[:SHOWN]

    states, lazy, is_open, ended = asyncio.run(with_database(find_url(app_name, url), work))
    if not states and not is_open and not ended:
        raise CallNotFound(f"there is no {type_} with the key {key!r}")
    if as_json:
        data: dict[str, Any] = {"entity": type_, "key": key, "state": None}
        for each in states:
            data |= entity_data(each) | {"lazy": dict(lazy)}
        data["open"] = [call_data(each) for each in is_open]
        data["ended"] = [call_data(each) for each in ended]
        print_json(data)
        return
    console.print(f"[bold]{escape(type_)}[/] {escape(key)}")
    for each in states:
        console.print(f"[dim]changed[/] {instant(each.changed_at)}")
        if each.expires_at is not None:
            console.print(f"[dim]forgotten if not changed until[/] {instant(each.expires_at)}")
        console.print(escape(payload_text(each.state, 20_000)))
    for name, size in lazy:
        console.print(f"[dim]lazy[/] {escape(name)} [dim]{size:,} bytes[/]")
    for title, calls in (("its turns, in order", is_open), ("ended, newest first", ended)):
        if calls:
            console.print(f"\n[dim]{title}[/]")
            console.print(calls_table(calls))
