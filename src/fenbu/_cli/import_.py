"""`fenbu import`: bring a call from a file into a database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from fenbu._api.options import checked_id
from fenbu._cli.target import app_option, find_url, no_node, url_option, with_database
from fenbu._core import history
from fenbu._core.model import FINISHED
from fenbu._storage.open import Database
from fenbu.errors import FenbuError, UsageError


@click.command(
    "import",
    epilog="\b\nExamples:\n  fenbu import order-7.json\n  fenbu import order-7.json --go-on -a shop.py\n"
    "  fenbu import order-7.json --id order-7-copy",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "id_", help="Another id, for a call that has ended or not begun.")
@click.option(
    "--go-on", is_flag=True, help="Let an open call run; else it waits for `fenbu retry`."
)
@app_option
@url_option
def import_(
    file: Path, id_: str | None, app_name: str | None, url: str | None, *, go_on: bool
) -> None:
    """Bring a call that `fenbu export` wrote, with its whole history, into a database.

    A call that has ended is there as it was. One that has not is parked until `fenbu retry`, or goes on at
    once with --go-on: then be sure that it does not go on where it comes from as well.
    """
    place = find_url(app_name, url)
    try:
        found = history.read(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None

    async def work(database: Database) -> None:
        meta = await database.open(create=False)
        message = history.restored(found, meta.partition_count, id_=checked_id(id_), goes_on=go_on)
        if await database.outcomes([message.id]):
            raise FenbuError(
                f"there is a call {message.id} already: give --id to import this one under another id"
            )
        await database.enqueue([message])
        call = message.invocation
        how = (
            "ended"
            if call.status in FINISHED
            else "goes on"
            if go_on
            else "waits for `fenbu retry`"
        )
        click.echo(f"{call.handler} {call.id} is imported: it {how}")
        if await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))
