"""`fenbu explain`: why a call is where it is, and what to do about it."""

from __future__ import annotations

import asyncio
import time

import click

from fenbu._cli.find import find_call
from fenbu._cli.present import duration, failure_text, instant, print_json
from fenbu._cli.target import app_option, find_url, is_owned, json_option, url_option, with_database
from fenbu._core import journal
from fenbu._core.model import FINISHED, EntryKind, Invocation, Loaded, Status
from fenbu._storage.open import Database

EXAMPLE = """
\b
Example:
  fenbu explain order-7
"""


@click.command(epilog=EXAMPLE)
@click.argument("id_", metavar="ID")
@app_option
@url_option
@json_option
def explain(id_: str, app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """Say why a call does not run, or what it is doing."""
    place = find_url(app_name, url)

    async def work(database: Database) -> tuple[Invocation, list[str]]:
        loaded = await find_call(database, id_)
        return loaded.invocation, await reasons(database, loaded, time.time())

    call, found = asyncio.run(with_database(None, place, work))
    if call.status not in FINISHED and not is_owned(place):
        found.append(f"no node runs on {place}, so nothing moves: start one with `fenbu run`")
    if as_json:
        print_json(
            {"id": call.id, "handler": call.handler, "status": call.status, "reasons": found}
        )
        return
    click.echo(f"{call.handler} {call.id} is {call.status}")
    for each in found:
        click.echo(f"  {each}")


async def reasons(database: Database, loaded: Loaded, now: float) -> list[str]:
    """In words for a person, the most important first."""
    call = loaded.invocation
    match call.status:
        case Status.PENDING:
            return await _pending(database, call, now)
        case Status.RUNNING:
            return await _running(database, loaded, now)
        case Status.SUSPENDED:
            found = [f"it waits for {call.waiting}"] if call.waiting else []
            if call.wake_at is not None:
                found.append(f"it wakes by itself {_when(call.wake_at, now)}")
            return [*found, *await _children(database, call)]
        case Status.STUCK:
            return [
                call.waiting or failure_text(call.failure),
                "a node that starts with code that fits picks it up; or cancel it with `fenbu cancel`",
            ]
        case Status.QUARANTINED:
            return [
                call.waiting or "its process went down each time that it ran",
                "let it try again with `fenbu retry`, or end it with `fenbu cancel`",
            ]
        case Status.UNHANDLED:
            return [
                f"no node has the handler {call.handler!r} version {call.version}",
                "start a node whose app registers it, and it runs",
            ]
        case _:
            ended = f"it ended at {instant(call.finished_at)}"
            why = failure_text(call.failure) or (call.cancel_reason or "")
            return [ended, why] if why else [ended]


async def _pending(database: Database, call: Invocation, now: float) -> list[str]:
    if call.wake_at is not None and call.attempt:
        return [
            f"attempt {call.attempt} failed: {failure_text(call.failure)}",
            f"it is retried {_when(call.wake_at, now)}",
        ]
    if call.wake_at is not None:
        return [f"its start is delayed: it begins {_when(call.wake_at, now)}"]
    if call.entity is not None:
        before = await database.operations_before(call, limit=1000)
        if before:
            first = before[0]
            since = duration(now - (first.started_at or first.created_at))
            return [
                f"it waits for its turn on {call.entity} {call.key}, behind {len(before)} operations",
                f"the first is {first.handler} {first.id}, {first.status} for {since}",
                f"see `fenbu explain {first.id}`",
            ]
    return ["it is accepted and waits in the backlog for a node to have room"]


async def _running(database: Database, loaded: Loaded, now: float) -> list[str]:
    call = loaded.invocation
    found = [f"its code has run for {duration(now - (call.started_at or call.created_at))}"]
    texts = [call.commands, *(each.commands for each in loaded.entries)]
    commands = [each for text in texts for each in journal.recorded(text)]
    ended = {e.command for e in loaded.entries if e.kind is not EntryKind.STEP_RETRYING}
    for number, (kind, name, where) in enumerate(commands, start=1):
        if number not in ended and kind in ("step", "call", "await", "timer"):
            last = [e for e in loaded.entries if e.command == number and e.retry_at is not None]
            again = ""
            if last and last[-1].retry_at is not None:
                again = (
                    f": attempt {last[-1].attempt} failed with {failure_text(last[-1].failure)}, "
                    f"again {_when(last[-1].retry_at, now)}"
                )
            found.append(f"{kind} {name} at {where} has no outcome yet{again}")
    return [*found, *await _children(database, call)]


async def _children(database: Database, call: Invocation) -> list[str]:
    children = await database.children(call.id, limit=1000)
    is_open = [each for each in children if each.finished_at is None]
    words = [
        f"its call {each.handler} {each.id} is {each.status}; see `fenbu explain {each.id}`"
        for each in is_open[:5]
    ]
    return words + ([f"and {len(is_open) - 5} more"] if len(is_open) > 5 else [])


def _when(at: float, now: float) -> str:
    if at <= now:
        return f"now: it has been due for {duration(now - at)}"
    return f"at {instant(at)}, in {duration(at - now)}"
