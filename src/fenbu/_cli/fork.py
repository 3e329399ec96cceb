"""`fenbu fork`: another call goes on from a step of one."""

from __future__ import annotations

import asyncio

import click
import msgspec

from fenbu._api.options import checked_id
from fenbu._cli.bulk import step_of
from fenbu._cli.find import find_call
from fenbu._cli.target import app_option, find_url, no_node, url_option, with_database
from fenbu._core import ids
from fenbu._core.fork import forked, place_of
from fenbu._core.model import Payload
from fenbu._node.clock import SystemClock
from fenbu._storage.open import Database
from fenbu.errors import AlreadyExists

EXAMPLE = """
\b
Examples:
  fenbu fork order-7
  fenbu fork order-7 --step charge
  fenbu fork order-7 --step 5 --result 5='"paid by hand"' --id order-7-again
"""


@click.command(epilog=EXAMPLE)
@click.argument("id_", metavar="ID")
@click.option(
    "--step",
    help="The number (see `fenbu show`) or name of the step or call that is done again first.",
)
@click.option(
    "--result",
    "results",
    multiple=True,
    metavar="STEP=JSON",
    help="Another result for one; may be repeated.",
)
@click.option("--id", "new_id", help="The new call's id.")
@app_option
@url_option
def fork(
    id_: str,
    step: str | None,
    results: tuple[str, ...],
    new_id: str | None,
    app_name: str | None,
    url: str | None,
) -> None:
    """Start another call that goes on from a step of one that has ended or is parked, which stays as it is.

    What was done before is not done again; from there on all is done anew, by the code as it is now. Without
    --step, from the last step or call that failed. A result for the step itself stands for it.
    """
    place = find_url(app_name, url)
    given = dict(map(_result, results))

    async def work(database: Database) -> None:
        meta = await database.open(create=False)
        loaded = (await find_call(database, id_)).loaded
        clock = SystemClock()
        now = clock.now()
        chosen = checked_id(new_id) or ids.invocation_id(now, clock.entropy())
        if new_id is not None and await database.outcomes([new_id]):
            raise AlreadyExists(f"there is a call with the id {new_id!r} already")
        message = forked(
            loaded, step=step_of(step), id_=chosen, partition_count=meta.partition_count, now=now,
            results={place_of(loaded, step_of(key)): value for key, value in given.items()},
        )  # fmt: skip
        await database.enqueue([message])
        click.echo(chosen)
        if await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))


def _result(text: str) -> tuple[str, Payload]:
    name, separator, value = text.partition("=")
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError:
        separator = ""
    if not separator or not name:
        raise click.UsageError(f"--result {text}: write STEP=JSON, as in 5='\"paid\"'")
    return name, value
