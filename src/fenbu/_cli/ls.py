"""`fenbu ls`: calls, newest first."""

from __future__ import annotations

import asyncio

import click

from fenbu._cli.filter import filter_of, filter_options
from fenbu._cli.present import (
    call_data,
    calls_table,
    console,
    count_of,
    print_json,
)
from fenbu._cli.target import app_option, find_url, json_option, no_node, url_option, with_database
from fenbu._core.attribute import Condition
from fenbu._core.model import Invocation
from fenbu._storage.open import Database

EXAMPLE = """
\b
Examples:
  fenbu ls
  fenbu ls --status failed --status stuck --since 2h
  fenbu ls --where customer=7 --where "total>100"
  fenbu ls --handler checkout --since 2026-01-01 --before 2026-02-01 -n 500 --json
"""


@click.command(epilog=EXAMPLE)
@app_option
@url_option
@filter_options
@click.option("-n", "limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@json_option
def ls(
    app_name: str | None,
    url: str | None,
    statuses: tuple[str, ...],
    handler: str | None,
    since: float | None,
    before: float | None,
    conditions: tuple[Condition, ...],
    limit: int,
    *,
    as_json: bool,
) -> None:
    """List calls, newest first."""
    place = find_url(app_name, url)
    where = filter_of(statuses, handler, since, before, conditions, limit)

    async def work(database: Database) -> tuple[list[Invocation], int, str | None]:
        calls = await database.list_calls(where)
        return calls, await database.inbox_count(), await database.owner()

    calls, inbox_count, owner = asyncio.run(with_database(place, work))
    if as_json:
        print_json([call_data(each) for each in calls])
        return
    if calls:
        console.print(calls_table(calls))
    else:
        click.echo("no calls")
    if inbox_count and owner is None:
        # Calls among them are in no list until a node has read them.
        click.echo(
            f"{count_of(inbox_count, 'message')} in the inbox, but {no_node(place)}", err=True
        )
