"""`fenbu signal`, `complete`, `fail`, `cancel`, `terminate`, `retry`, `pause`, `resume`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import click
import msgspec

from fenbu._cli.find import find_call, home_in
from fenbu._cli.target import app_option, find_url, no_node, url_option, with_database
from fenbu._core.failure import failure_of
from fenbu._core.ids import read_callback_token
from fenbu._core.message import Cancel, Pause, Retry, Signal
from fenbu._core.model import FINISHED, PARKED, Invocation, Status
from fenbu._core.update import HANDLER
from fenbu._storage.open import Database
from fenbu.errors import FenbuError, TerminalError


def _send(
    app_name: str | None,
    url: str | None,
    id_: str,
    message_for: Callable[[Invocation, int], Signal | Cancel | Retry | Pause],
    *,
    exact: bool = False,
) -> None:
    place = find_url(app_name, url)

    async def work(database: Database) -> None:
        call = (await find_call(database, id_, exact=exact)).call
        if call.handler == HANDLER:
            raise FenbuError(f"{call.id} is an update: cancel or signal its workflow")
        message = message_for(call, await home_in(database, call))
        ended = call.status in FINISHED
        if isinstance(message, Retry):
            if call.status not in PARKED and (not ended or call.status is Status.COMPLETED):
                raise FenbuError(f"{call.id} is {call.status}: there is nothing to try again")
        elif isinstance(message, Pause) and call.key is not None:
            raise FenbuError(
                f"{call.id} is an operation, and cannot be paused: all others on its entity would wait for it"
            )
        elif isinstance(message, Pause) and message.resumes and call.status is not Status.PAUSED:
            raise FenbuError(f"{call.id} is {call.status}, and not paused")
        elif ended:
            raise FenbuError(f"{call.id} has ended already: it is {call.status}")
        await database.enqueue([message])
        said = click.get_current_context().command.name
        click.echo(f"{call.handler} {call.id}: {said} accepted")
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
    payload = _json(value)
    _send(app_name, url, id_, lambda call, home: Signal(home, call.id, name, payload))


@click.command(epilog="\b\nExample:\n  fenbu complete 3~118~order-7 true")
@click.argument("token")
@click.argument("value", default="null")
@app_option
@url_option
def complete(token: str, value: str, app_name: str | None, url: str | None) -> None:
    """Complete a callback with a VALUE, JSON or plain text."""
    name, id_ = _read(token)
    payload = _json(value)
    _send(app_name, url, id_, lambda call, home: Signal(home, call.id, name, payload), exact=True)


@click.command(epilog='\b\nExample:\n  fenbu fail 3~118~order-7 "card refused"')
@click.argument("token")
@click.argument("message")
@app_option
@url_option
def fail(token: str, message: str, app_name: str | None, url: str | None) -> None:
    """Fail a callback: its workflow sees a TerminalError with this MESSAGE."""
    name, id_ = _read(token)
    failure = failure_of(TerminalError(message))
    _send(app_name, url, id_, lambda call, home: Signal(home, call.id, name, failure=failure))


def _read(token: str) -> tuple[str, str]:
    found = read_callback_token(token)
    if found is None:
        raise click.UsageError(f"{token!r} is not the token of a callback, like 3~118~order-7")
    return found[0], found[2]


def _json(value: str) -> str:
    """As it is if it is JSON, else as a text."""
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError:
        return msgspec.json.encode(value).decode()
    return value


@click.command(epilog='\b\nExample:\n  fenbu cancel order-7 --reason "customer asked"')
@click.argument("id_", metavar="ID")
@click.option("--reason", default="cancelled from the command line")
@app_option
@url_option
def cancel(id_: str, reason: str, app_name: str | None, url: str | None) -> None:
    """Ask a call to stop; its code may clean up."""
    _send(app_name, url, id_, lambda call, home: Cancel(home, call.id, reason))


@click.command(epilog='\b\nExample:\n  fenbu terminate order-7 --reason "does not end"')
@click.argument("id_", metavar="ID")
@click.option("--reason", default="from the command line")
@app_option
@url_option
def terminate(id_: str, reason: str, app_name: str | None, url: str | None) -> None:
    """End a call at once, without asking its code: nothing is cleaned up. Prefer cancel."""
    _send(app_name, url, id_, lambda call, home: Cancel(home, call.id, reason, at_once=True))


@click.command(epilog="\b\nExample:\n  fenbu retry order-7")
@click.argument("id_", metavar="ID")
@app_option
@url_option
def retry(id_: str, app_name: str | None, url: str | None) -> None:
    """Try again: a failed call from the start, a stuck or quarantined one from where it stopped."""
    _send(app_name, url, id_, lambda call, home: Retry(home, call.id, call.status in PARKED))


@click.command(epilog='\b\nExample:\n  fenbu pause order-7 --reason "the bank is closed"')
@click.argument("id_", metavar="ID")
@click.option("--reason", default="", help="For who asks later.")
@app_option
@url_option
def pause(id_: str, reason: str, app_name: str | None, url: str | None) -> None:
    """Let a task or workflow stand still until it is resumed. What runs of it is cut, and runs again then."""
    _send(app_name, url, id_, lambda call, home: Pause(home, call.id, reason))


@click.command(epilog="\b\nExample:\n  fenbu resume order-7")
@click.argument("id_", metavar="ID")
@app_option
@url_option
def resume(id_: str, app_name: str | None, url: str | None) -> None:
    """Let a call go on that was paused."""
    _send(app_name, url, id_, lambda call, home: Pause(home, call.id, resumes=True))
