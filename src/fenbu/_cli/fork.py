"""`fenbu fork`: another call goes on from a step of one."""

from __future__ import annotations

import asyncio

import click
import msgspec

from fenbu._api.forking import fork_of
from fenbu._cli.bulk import step_of
from fenbu._cli.find import find_call
from fenbu._cli.target import app_option, find_url, no_node, url_option, with_database
from fenbu._core.ids import callback_token
from fenbu._core.journal import open_callbacks
from fenbu._core.model import Loaded, Payload
from fenbu._node.clock import SystemClock
from fenbu._storage.open import Database

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
        made, completions = await fork_of(
            database,
            loaded,
            step=step_of(step),
            results={step_of(key): value for key, value in given.items()},
            new_id=new_id,
            clock=SystemClock(),
            partition_count=meta.partition_count,
        )
        await database.enqueue([made, *completions])
        click.echo(made.id)
        is_open = open_callbacks(Loaded(made.invocation, made.entries))
        for name in sorted(set(is_open.values()) - {each.name for each in completions}):
            token = callback_token(name, made.partition, made.id)
            click.echo(f"its callback {token} is open: only `fenbu complete` ends it", err=True)
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
