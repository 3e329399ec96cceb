"""`fenbu migrate`: make the tables, or bring them up to date, apart from any node."""

from __future__ import annotations

import asyncio

import click

from fenbu._cli.target import app_option, find_url, url_option
from fenbu._storage.open import migration_sql, shown, storage_of


@click.command(
    epilog="\b\nExamples:\n  fenbu migrate --url postgresql://owner@db/shop\n"
    "  fenbu migrate --sql --url postgresql://owner@db/shop | less"
)
@app_option
@url_option
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements and change nothing.")
def migrate(app_name: str | None, url: str | None, *, as_sql: bool) -> None:
    """Create or update the tables of a database. Safe while older nodes run on it."""
    place = find_url(app_name, url)
    if as_sql:
        click.echo(migration_sql(place))
        return

    async def work() -> None:
        storage = storage_of(place)
        await storage.open()
        await storage.close()

    asyncio.run(work())
    click.echo(f"{shown(place)} is up to date")
