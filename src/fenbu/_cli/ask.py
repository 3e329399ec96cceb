"""`fenbu query` and `fenbu update`: ask a workflow."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from fenbu import App
from fenbu._api import ask
from fenbu._cli.call import ArgumentsCommand
from fenbu._cli.find import find_call, home_in
from fenbu._cli.present import print_json, seconds_of
from fenbu._cli.target import (
    app_option,
    find_url,
    load_app,
    no_node,
    open_database,
    url_option,
)
from fenbu.errors import FenbuError, UsageError


def _values(args: tuple[str, ...]) -> list[Any]:
    """Each as it is if it is JSON, else as a text."""
    values: list[Any] = []
    for each in args:
        try:
            values.append(msgspec.json.decode(each))
        except msgspec.DecodeError:
            values.append(each)
    return values


@click.command(cls=ArgumentsCommand, epilog="\b\nExample:\n  fenbu query cart-ann count -a shop.py")
@click.argument("id_", metavar="ID")
@click.argument("name")
@click.argument("args", nargs=-1)
@app_option
@url_option
def query(
    id_: str, name: str, args: tuple[str, ...], app_name: str | None, url: str | None
) -> None:
    """Print what a query of a workflow answers, as JSON. ARGS are JSON or text, in order.

    The workflow's code is run through its journal here, so its app is needed; a node is not.
    """
    if app_name is None:
        raise UsageError("which app? Pass --app shop.py or --app module:app, or set FENBU_APP")
    app = load_app(app_name, url)

    async def work() -> Any:
        async with app.client():
            call = (await find_call(open_database(app), id_)).call
            return await app.handle(call.id).query(name, *_values(args))

    print_json(asyncio.run(work()))


@click.command(
    cls=ArgumentsCommand, epilog="\b\nExample:\n  fenbu update cart-ann add sku-1 --id click-7"
)
@click.argument("id_", metavar="ID")
@click.argument("name")
@click.argument("args", nargs=-1)
@app_option
@url_option
@click.option("--id", "update_id", help="The update's id: asking again is the same update.")
@click.option(
    "--timeout", type=seconds_of, help="How long to wait, as 30s or 5m; the update goes on."
)
def update(
    id_: str,
    name: str,
    args: tuple[str, ...],
    app_name: str | None,
    url: str | None,
    update_id: str | None,
    timeout: float | None,
) -> None:
    """Ask a workflow for an update, wait, and print its answer as JSON. ARGS are JSON or text, in order."""
    app = load_app(app_name, url) if app_name is not None else App("fenbu", url=find_url(None, url))

    async def work() -> Any:
        async with app.client():
            database = open_database(app)
            call = (await find_call(database, id_)).call
            if await database.owner() is None:
                raise FenbuError(f"{no_node(app.url)}: nobody would answer")
            home = await home_in(database, call)
            wanted = ask.Wanted(call.id, home, name, _values(args), {}, update_id, Any)
            handle = await ask.start_update(app.runtime, wanted)
            click.echo(f"{call.handler} {call.id}: update {handle.id} accepted", err=True)
            return await handle.result(timeout)

    try:
        print_json(asyncio.run(work()))
    except TimeoutError:
        raise FenbuError("it was not answered within the timeout; it goes on") from None
    except FenbuError:
        raise
    except Exception as error:  # noqa: BLE001 - of the workflow's own type
        raise FenbuError(f"refused or failed: {type(error).__name__}: {error}") from None
