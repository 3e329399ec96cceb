"""`fenbu signal`, `fenbu cancel`, `fenbu retry`: say something to a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import click
import msgspec

from fenbu._cli.find import find_call
from fenbu._cli.target import app_option, find_url, no_node, url_option, with_database
from fenbu._core.message import Cancel, Retry, Signal
from fenbu._core.model import FINISHED, PARKED, Invocation, Status
from fenbu._storage.open import Database
from fenbu.errors import FenbuError


def _send(
    app_name: str | None,
    url: str | None,
    id_: str,
    message_for: Callable[[Invocation], Signal | Cancel | Retry],
) -> None:
    place = find_url(app_name, url)

    async def work(database: Database) -> None:
        call = (await find_call(database, id_)).call
        message = message_for(call)
        ended = call.status in FINISHED
        if isinstance(message, Retry):
            if call.status not in PARKED and (not ended or call.status is Status.COMPLETED):
                raise FenbuError(f"{call.id} is {call.status}: there is nothing to try again")
        elif ended:
            raise FenbuError(f"{call.id} has ended already: it is {call.status}")
        await database.enqueue([message])
        click.echo(f"{call.handler} {call.id}: {type(message).__name__.lower()} accepted")
        if await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))


@click.command(epilog="\b\nExample:\n  fenbu signal order-7 approval true")
@click.argument("id_", metavar="ID")
@click.argument("name")
@click.argument("value", default="null")
@app_option
@url_option
def signal(id_: str, name: str, value: str, app_name: str | None, url: str | None) -> None:
    """Send a named VALUE, JSON or plain text, to a call."""
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError:
        value = msgspec.json.encode(value).decode()
    _send(app_name, url, id_, lambda call: Signal(call.partition, call.id, name, value))


@click.command(epilog='\b\nExample:\n  fenbu cancel order-7 --reason "customer asked"')
@click.argument("id_", metavar="ID")
@click.option("--reason", default="cancelled from the command line")
@app_option
@url_option
def cancel(id_: str, reason: str, app_name: str | None, url: str | None) -> None:
    """Ask a call to stop; its code may clean up."""
    _send(app_name, url, id_, lambda call: Cancel(call.partition, call.id, reason))


@click.command(epilog="\b\nExample:\n  fenbu retry order-7")
@click.argument("id_", metavar="ID")
@app_option
@url_option
def retry(id_: str, app_name: str | None, url: str | None) -> None:
    """Try again: a failed call from the start, a stuck or quarantined one from where it stopped."""
    _send(app_name, url, id_, lambda call: Retry(call.partition, call.id))
