"""`fenbu call` and `fenbu start`: make a call from the command line."""

from __future__ import annotations

import asyncio
import sys
from difflib import get_close_matches

import click
import msgspec

from fenbu import App
from fenbu._api.function import DurableFunction
from fenbu._cli.present import print_json, seconds_of
from fenbu._cli.target import app_option, is_owned, load_app, no_node_hint, url_option
from fenbu._core.model import Kind, Payload
from fenbu.errors import FenbuError, UsageError

EXAMPLE = """
\b
Examples:
  fenbu {name} checkout order-7 sku-1 -a shop.py
  fenbu {name} checkout order=order-7 sku=sku-1 -a shop.py{more}
  fenbu {name} Stock.reserve 2 --key sku-1 -a shop:app
"""


def _needs_app(app_name: str | None, url: str | None) -> App:
    if app_name is None:
        raise UsageError("which app? Pass --app shop.py or --app module:app, or set FENBU_APP")
    return load_app(app_name, url)


def _function(
    app: App, handler: str, key: str | None, args: tuple[str, ...]
) -> tuple[DurableFunction[..., object], Payload]:
    """The handler, and its arguments as a payload."""
    spec = app.registry.latest(handler)
    if spec is None:
        close = get_close_matches(handler, app.registry.names(), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(
            f"no handler {handler!r}{hint} There are: {', '.join(app.registry.names()) or 'none'}"
        )
    if (spec.kind is Kind.OPERATION) != (key is not None):
        wants = "needs --key" if key is None else "takes no --key: it is no operation of an entity"
        raise UsageError(f"{handler} {wants}")
    names = {name for name, _, _ in spec.signature.parameters()}
    values: list[str] = []
    named: dict[str, str] = {}
    for each in args:
        name, equals, value = each.partition("=")
        if equals and name in names:
            named[name] = value
        else:
            values.append(each)
    return DurableFunction(app.runtime, spec, key), spec.signature.from_json(values, named)


@click.command(epilog=EXAMPLE.format(name="call", more=" --timeout 30s"))
@click.argument("handler")
@click.argument("args", nargs=-1)
@app_option
@url_option
@click.option("--key", help="The entity's key, for an operation.")
@click.option("--id", "id_", help="The call's id: calling it again waits for the same call.")
@click.option(
    "--timeout", type=seconds_of, help="How long to wait, as 30s or 5m; the call goes on."
)
@click.option("--here", is_flag=True, help="Run a node in this process while it takes.")
def call(
    handler: str,
    args: tuple[str, ...],
    app_name: str | None,
    url: str | None,
    key: str | None,
    id_: str | None,
    timeout: float | None,
    *,
    here: bool,
) -> None:
    """Call HANDLER, wait, and print its result as JSON. ARGS are JSON or text, name=value or in order."""
    app = _needs_app(app_name, url)
    function, payload = _function(app, handler, key, args)
    if not here and not is_owned(app.url):
        raise FenbuError(no_node_hint(app.url))

    async def work() -> object:
        async with app if here else app.client():
            bound = function.options(id=id_)
            message = bound.message(payload)
            await app.runtime.gateway.start_calls([message])
            return await bound.handle_of(message).result(timeout)

    try:
        result = asyncio.run(work())
    except TimeoutError:
        raise FenbuError(f"{handler} has not ended within the timeout; it goes on") from None
    except FenbuError:
        raise
    except Exception as error:  # noqa: BLE001 - the call's own error, of whatever type
        click.echo(f"{handler} failed: {type(error).__name__}: {error}", err=True)
        sys.exit(1)
    print_json(msgspec.json.decode(msgspec.json.encode(result)))


@click.command(epilog=EXAMPLE.format(name="start", more=" --id order-7 --delay 10m"))
@click.argument("handler")
@click.argument("args", nargs=-1)
@app_option
@url_option
@click.option("--key", help="The entity's key, for an operation.")
@click.option("--id", "id_", help="The call's id: starting it again is the same call.")
@click.option("--delay", type=seconds_of, default="0", help="Begin later: 90, 10m, 2h, 7d.")
def start(
    handler: str,
    args: tuple[str, ...],
    app_name: str | None,
    url: str | None,
    key: str | None,
    id_: str | None,
    delay: float,
) -> None:
    """Start HANDLER durably and print the call's id. ARGS are JSON or text, name=value or in order."""
    app = _needs_app(app_name, url)
    function, payload = _function(app, handler, key, args)

    async def work() -> str:
        async with app.client():
            message = function.options(id=id_, delay=delay).message(payload)
            await app.runtime.gateway.start_calls([message])
            return message.invocation.id

    click.echo(asyncio.run(work()))
    if not is_owned(app.url):
        click.echo(f"accepted, but {no_node_hint(app.url)}", err=True)
