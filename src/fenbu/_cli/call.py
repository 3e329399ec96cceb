"""`fenbu call` and `fenbu start`: make a call from the command line."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import time
from difflib import get_close_matches
from typing import Any

import click

from fenbu import App
from fenbu._api.function import DurableFunction
from fenbu._cli.present import attribute_of, failure_text, payload_data, print_json, seconds_of
from fenbu._cli.target import (
    app_option,
    find_owner,
    load_app,
    no_node,
    open_database,
    url_option,
)
from fenbu._core.attribute import AttributeValue
from fenbu._core.handler import HandlerSpec
from fenbu._core.message import Call, IfExists
from fenbu._core.model import PARKED, Kind, Outcome, Payload, Status
from fenbu.errors import CallNotFound, FenbuError, UsageError

EXAMPLE = """
\b
Examples:
  fenbu {name} checkout order-7 sku-1 -a shop.py
  fenbu {name} checkout order=order-7 sku=sku-1 -a shop.py{more}
  fenbu {name} Stock.reserve 2 --key sku-1 -a shop:app
"""

LOOK_SECONDS = 1.0
"""How often somebody who waits looks whether there is still something to wait for."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

_NEGATIVE = re.compile(r"-\.?\d")
_NAMED = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)


class ArgumentsCommand(click.Command):
    """A command whose arguments may be negative numbers, which click would take for options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Mark them with a NUL, which no argument of a program can have, until click is done."""
        marked = [f"\0{each}" if _NEGATIVE.match(each) else each for each in args]
        rest = super().parse_args(ctx, marked)
        for name, value in ctx.params.items():
            if isinstance(value, str):
                ctx.params[name] = value.removeprefix("\0")
        ctx.params["args"] = tuple(each.removeprefix("\0") for each in ctx.params["args"])
        return rest


def _needs_app(app_name: str | None, url: str | None) -> App:
    if app_name is None:
        raise UsageError("which app? Pass --app shop.py or --app module:app, or set FENBU_APP")
    return load_app(app_name, url)


# What is called.


def _function(
    app: App, handler: str, key: str | None, args: tuple[str, ...]
) -> tuple[DurableFunction[..., Any], Payload]:
    """The handler, and its arguments as a payload."""
    spec = app.registry.latest(handler)
    if spec is None:
        names = app.registry.names()
        close = get_close_matches(handler, names, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"no handler {handler!r}: {hint}The app has: {', '.join(names) or 'none'}")
    if spec.kind is Kind.OPERATION and key is None:
        raise UsageError(f"{handler} is an operation of an entity and needs --key")
    if spec.kind is not Kind.OPERATION and key is not None:
        raise UsageError(f"{handler} takes no --key: it is no operation of an entity")
    values, named = _split(spec, args)
    return DurableFunction(app.runtime, spec, key), spec.signature.from_json(values, named)


def _split(spec: HandlerSpec, args: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Those in order and those by name."""
    names = [name for name, _, _ in spec.signature.parameters()]
    parameters = inspect.signature(spec.function).parameters.values()
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    values: list[str] = []
    named: dict[str, str] = {}
    for each in args:
        found = _NAMED.fullmatch(each)
        if found is None:
            values.append(each)
            continue
        name, value = found.groups()
        if name not in names and not takes_any:
            # Rather an error than a misspelled name that becomes a value.
            first = names[0] if names else "name"
            raise UsageError(
                f"{spec.name} has no parameter {name!r}: it takes {', '.join(names) or 'nothing'}. A "
                f"text with = in it is given by name, as in {first}={each}"
            )
        if name in named:
            raise UsageError(f"{spec.name}: {name} is given twice")
        named[name] = value
    return values, named


# Waiting for it.


class Wait:
    """Waits for the outcome of a call, and says on stderr what it waits for if that may take for ever."""

    def __init__(self, app: App, message: Call, *, here: bool) -> None:
        self._app = app
        self._message = message
        self._here = here
        self._told: str | None = None

    async def outcome(self, timeout: float | None) -> Outcome:  # noqa: ASYNC109 - seconds to wait
        """The call's outcome.

        Raises:
            TimeoutError: There is none after so many seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        waiting = asyncio.create_task(self._app.runtime.gateway.call(self._message))
        try:
            while True:
                left = LOOK_SECONDS if until is None else until - time.monotonic()
                done, _ = await asyncio.wait({waiting}, timeout=min(max(left, 0.0), LOOK_SECONDS))
                if done:
                    return waiting.result()
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError
                await self._look()
        finally:
            waiting.cancel()

    async def _look(self) -> None:
        """Say it if nothing will come of waiting, each reason once."""
        reason = await self._reason()
        if reason is not None and reason != self._told:
            click.echo(f"{reason}; {self._message.invocation.id} is still waited for", err=True)
        self._told = reason

    async def _reason(self) -> str | None:
        call = self._message.invocation
        try:
            status = await self._app.runtime.gateway.status(call.id)
        except CallNotFound:
            return None
        if status in PARKED:
            return f"{call.handler} is {status}: `fenbu explain {call.id}` says why"
        if not self._here and await open_database(self._app).owner() is None:
            return no_node(self._app.url)
        return None


@click.command(cls=ArgumentsCommand, epilog=EXAMPLE.format(name="call", more=" --timeout 30s"))
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
    function = function.options(id=id_)
    accepted: list[str] = []

    async def work() -> tuple[Outcome, Any]:
        if not here and await find_owner(app.url) is None:
            raise FenbuError(f"{no_node(app.url)}, or run this call with `fenbu call --here`")
        async with app if here else app.client():
            message = function.message(payload, waited=True)
            accepted.append(message.invocation.id)
            outcome = await Wait(app, message, here=here).outcome(timeout)
            return outcome, _readable(app, outcome)

    try:
        outcome, value = asyncio.run(work())
    except TimeoutError:
        raise FenbuError(
            f"{handler} {accepted[0]} has not ended within the timeout; it goes on"
        ) from None
    except KeyboardInterrupt:
        click.echo("".join(f"{handler} {each} goes on" for each in accepted), err=True)
        sys.exit(INTERRUPTED)
    if outcome.status is Status.COMPLETED:
        print_json(value)
        return
    _say_failure(f"{handler} {accepted[0]}", outcome)
    sys.exit(1)


def _readable(app: App, outcome: Outcome) -> Any:
    """The result as JSON: as it was stored, or as the app's codec decodes it."""
    if isinstance(outcome.value, bytes):
        return app.registry.codec.of(Any).decode(outcome.value)
    return payload_data(outcome.value)


def _say_failure(call: str, outcome: Outcome) -> None:
    if outcome.failure is None:
        click.echo(f"{call} was cancelled", err=True)
        return
    if outcome.failure.traceback and outcome.status is Status.FAILED:
        click.echo(outcome.failure.traceback.rstrip("\n"), err=True)
    click.echo(f"{call} failed: {failure_text(outcome.failure)}", err=True)


@click.command(cls=ArgumentsCommand, epilog=EXAMPLE.format(name="start", more=" --delay 10m"))
@click.argument("handler")
@click.argument("args", nargs=-1)
@app_option
@url_option
@click.option("--key", help="The entity's key, for an operation.")
@click.option("--id", "id_", help="The call's id: starting it again is the same call.")
@click.option("--delay", type=seconds_of, default="0", help="Begin later: 90, 10m, 2h, 7d.")
@click.option(
    "--if-exists",
    type=click.Choice([each.value for each in IfExists]),
    help="What it means if there is a call with that id (default: reuse, that one).",
)
@click.option(
    "--attribute", "attributes", multiple=True, type=attribute_of, metavar="NAME=VALUE",
    help="A search attribute, for --where: customer=7, vip=true, city=Oslo, due=2026-01-31.",
)  # fmt: skip
def start(
    handler: str,
    args: tuple[str, ...],
    app_name: str | None,
    url: str | None,
    key: str | None,
    id_: str | None,
    delay: float,
    if_exists: Any,
    attributes: tuple[tuple[str, AttributeValue], ...],
) -> None:
    """Start HANDLER durably and print the call's id. ARGS are JSON or text, name=value or in order."""
    app = _needs_app(app_name, url)
    function, payload = _function(app, handler, key, args)
    function = function.options(
        id=id_, delay=delay, if_exists=if_exists, attributes=dict(attributes) or None
    )

    async def work() -> tuple[str, str | None]:
        async with app.client():
            message = function.message(payload)
            await app.runtime.gateway.start_calls([message])
            return message.invocation.id, await open_database(app).owner()

    accepted, owner = asyncio.run(work())
    click.echo(accepted)
    if owner is None:
        click.echo(f"accepted, but {no_node(app.url)}", err=True)
