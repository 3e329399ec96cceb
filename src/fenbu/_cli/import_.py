"""`fenbu import`: bring a call from a file into a database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from fenbu._api.moving import bring
from fenbu._cli.target import app_option, find_url, no_node, url_option, with_database
from fenbu._core import history
from fenbu._core.model import FINISHED, Invocation, Status
from fenbu._storage.open import Database
from fenbu.errors import UsageError


@click.command(
    "import",
    epilog="\b\nExamples:\n  fenbu import order-7.json\n  fenbu import order-7.json --go-on -a shop.py\n"
    "  fenbu import order-7.json --id order-7-copy --url postgresql://…",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", "id_", help="Another id, for a call that has ended or not begun.")
@click.option(
    "--go-on", is_flag=True, help="Let an open call run; else it waits for `fenbu retry`."
)
@click.option("--alone", is_flag=True, help="Only the call itself, without those of its tree.")
@click.option(
    "--restart-operations",
    is_flag=True,
    help="Let operations that have begun begin anew on the entity's state here.",
)
@app_option
@url_option
def import_(
    file: Path,
    id_: str | None,
    app_name: str | None,
    url: str | None,
    *,
    go_on: bool,
    alone: bool,
    restart_operations: bool,
) -> None:
    """Bring a call that `fenbu export` wrote, with its history and its tree, into a database: all or nothing.

    Calls that have ended are there as they were. Those that have not are parked until `fenbu retry`, or go on
    at once with --go-on: then be sure that they do not go on where they come from as well.
    """
    place = find_url(app_name, url)
    try:
        found = history.read(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None

    async def work(database: Database) -> None:
        meta = await database.open(create=False)
        calls = await bring(
            database,
            found,
            meta.partition_count,
            id_=id_,
            go_on=go_on,
            alone=alone,
            restart_operations=restart_operations,
        )
        for each in calls:
            click.echo(f"{each.handler} {each.id} is imported: it {_how(each, go_on=go_on)}")
        if await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))


def _how(call: Invocation, *, go_on: bool) -> str:
    if call.status in FINISHED:
        return "ended"
    if call.status is Status.PAUSED:
        return "waits for `fenbu resume`"
    return "goes on" if go_on else "waits for `fenbu retry`"
