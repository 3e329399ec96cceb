"""`fenbu entity ls` and `fenbu entity show`: the states of entities."""

from __future__ import annotations

import asyncio

import click
from rich.markup import escape
from rich.table import Table

from fenbu._cli.present import as_data, calls_table, console, instant, payload_text, print_json
from fenbu._cli.target import app_option, json_option, url_option, with_database
from fenbu._core.model import EntityState, Invocation
from fenbu._storage.open import Database
from fenbu._storage.protocol import CallFilter
from fenbu.errors import CallNotFound

RECENT = 1000


@click.group(epilog="\b\nExamples:\n  fenbu entity ls Stock\n  fenbu entity show Stock sku-1")
def entity() -> None:
    """Look at entities."""


@entity.command("ls", epilog="\b\nExample:\n  fenbu entity ls Stock -n 20 --json")
@click.argument("type_", metavar="[TYPE]", required=False)
@click.option("-n", "limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@app_option
@url_option
@json_option
def list_entities(
    type_: str | None, limit: int, app_name: str | None, url: str | None, *, as_json: bool
) -> None:
    """List entities, the most recently changed first."""

    async def work(database: Database) -> list[EntityState]:
        return await database.list_entities(type_, limit=limit)

    found = asyncio.run(with_database(app_name, url, work))
    if as_json:
        print_json([as_data(each) for each in found])
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("TYPE", "KEY", "CHANGED", "STATE"):
        table.add_column(name)
    for each in found:
        state = escape(payload_text(each.state, 100))
        table.add_row(escape(each.entity), escape(each.key), instant(each.changed_at), state)
    console.print(table if found else "no entities")


@entity.command("show", epilog="\b\nExample:\n  fenbu entity show Stock sku-1")
@click.argument("type_", metavar="TYPE")
@click.argument("key")
@app_option
@url_option
@json_option
def show_entity(
    type_: str, key: str, app_name: str | None, url: str | None, *, as_json: bool
) -> None:
    """Show an entity's state, and its recent operations."""

    async def work(database: Database) -> tuple[list[EntityState], list[Invocation]]:
        states = await database.load_entities([(type_, key)])
        calls = await database.list_calls(CallFilter(limit=RECENT))
        mine = [each for each in calls if each.entity == type_ and each.key == key]
        return states, mine[:20]

    states, calls = asyncio.run(with_database(app_name, url, work))
    if not states and not calls:
        raise CallNotFound(f"there is no {type_} with the key {key!r}")
    if as_json:
        state = as_data(states[0]) if states else None
        print_json({"state": state, "operations": [as_data(each) for each in calls]})
        return
    console.print(f"[bold]{escape(type_)}[/] {escape(key)}")
    for each in states:
        console.print(f"[dim]changed[/] {instant(each.changed_at)}")
        console.print(escape(payload_text(each.state, 20_000)))
    if calls:
        console.print(calls_table(calls))
