"""`fenbu explain`: why a call is where it is, and what to do about it."""

from __future__ import annotations

import asyncio
import time

import click

from fenbu._api.callback import open_callbacks
from fenbu._cli.find import Found, find_call, home_in
from fenbu._cli.present import count_of, duration, failure_text, instant, print_json
from fenbu._cli.target import app_option, find_url, json_option, no_node, url_option, with_database
from fenbu._core.journal import commands_of
from fenbu._core.model import FINISHED, Entry, EntryKind, Invocation, Loaded, Status
from fenbu._storage.open import Database

EXAMPLE = """
\b
Example:
  fenbu explain order-7
"""

NAMED_MAX = 5
"""How many of many are told one by one."""

LOOKED_AT_MAX = 1000


@click.command(epilog=EXAMPLE)
@click.argument("id_", metavar="ID")
@app_option
@url_option
@json_option
def explain(id_: str, app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """Say why a call does not run, or what it is doing. ID may be a unique beginning."""
    place = find_url(app_name, url)

    async def work(database: Database) -> tuple[Invocation, str | None, list[str]]:
        found = await find_call(database, id_)
        owner = await database.owner()
        return found.call, owner, await _reasons(database, found, place, owner)

    call, owner, found = asyncio.run(with_database(place, work))
    if as_json:
        print_json(
            {
                "id": call.id,
                "handler": call.handler,
                "status": call.status,
                "node": owner,
                "reasons": found,
            }
        )
        return
    click.echo(f"{call.handler} {call.id} is {call.status}")
    for each in found:
        click.echo(f"  {each}")


async def _reasons(database: Database, found: Found, place: str, owner: str | None) -> list[str]:
    """In words for a person, the most important first."""
    call = found.call
    if call.status in FINISHED:
        why = failure_text(call.failure) or (call.cancel_reason or "")
        return [f"it ended at {instant(call.finished_at)}", *([why] if why else [])]
    reasons = [f"nothing moves: {no_node(place)}"] if owner is None else []
    now = time.time()
    if found.in_inbox:
        reasons.append(
            f"it was accepted {_since(call.created_at, now)} and is in the inbox: a node reads it from there"
        )
        if call.wake_at is not None:
            reasons.append(f"then its start is delayed: it begins {_when(call.wake_at, now)}")
        return reasons
    if call.cancel_reason is not None:
        reasons.append(f"it was asked to stop ({call.cancel_reason}); its code may be cleaning up")
    reasons += await _of_status(database, found.loaded, now, runs=owner is not None)
    if call.deadline_at is not None:
        reasons.append(f"its time is up {_when(call.deadline_at, now)}")
    return reasons


async def _of_status(database: Database, loaded: Loaded, now: float, *, runs: bool) -> list[str]:
    call = loaded.invocation
    match call.status:
        case Status.PENDING:
            return await _pending(database, call, now)
        case Status.RUNNING:
            return await _running(database, loaded, now, runs=runs)
        case Status.SUSPENDED:
            reasons = [f"it waits for {call.waiting}"] if call.waiting else []
            if call.wake_at is not None:
                reasons.append(f"it wakes by itself {_when(call.wake_at, now)}")
            home = await home_in(database, call)
            reasons += _some(
                [
                    f"its callback {each.token} is open; see `fenbu complete`"
                    for each in open_callbacks(loaded, home)
                ]
            )
            return [*reasons, *_steps(loaded, now), *await _calls(database, loaded)]
        case Status.STUCK:
            return [
                call.waiting or failure_text(call.failure),
                "a node that starts with code that fits picks it up; or end it with `fenbu cancel`",
            ]
        case Status.PAUSED:
            return [f"it is paused, and waits for {call.waiting}"]
        case Status.QUARANTINED:
            return [
                call.waiting or "its process went down each time that it ran",
                "let it try again with `fenbu retry`, or end it with `fenbu cancel`",
            ]
        case _:
            return [
                f"it waits for {call.waiting or f'a node that has registered {call.handler}'}",
                "start a node whose app registers it, and it goes on",
            ]


async def _pending(database: Database, call: Invocation, now: float) -> list[str]:
    if call.wake_at is not None and call.attempt:
        return [
            f"attempt {call.attempt} failed: {failure_text(call.failure)}",
            f"it is tried again {_when(call.wake_at, now)}",
        ]
    if call.wake_at is not None:
        return [f"its start is delayed: it begins {_when(call.wake_at, now)}"]
    if call.entity is not None:
        before = await database.operations_before(call, limit=LOOKED_AT_MAX)
        in_the_way = [each for each in before if _is_in_the_way(each)]
        if in_the_way:
            first = in_the_way[0]
            behind = count_of(len(in_the_way), "operation")
            since = instant(first.started_at or first.created_at)
            return [
                f"it waits for its turn on {call.entity} {call.key}, behind {behind}",
                (
                    f"the first is {first.handler} {first.id}, which is {first.status} since {since}; "
                    f"see `fenbu explain {first.id}`"
                ),
            ]
    return ["it is accepted and waits in the backlog until a node has room for it"]


def _is_in_the_way(operation: Invocation) -> bool:
    """It has its entity's turn, or gets it first. One that is delayed, or that nobody runs, has not."""
    if operation.status is Status.PENDING:
        return operation.wake_at is None
    return operation.status in {Status.RUNNING, Status.STUCK}


async def _running(database: Database, loaded: Loaded, now: float, *, runs: bool) -> list[str]:
    call = loaded.invocation
    began = _since(call.started_at or call.created_at, now)
    if not runs:
        return [
            f"it began {began} and was running when its node went; it goes on with the next one"
        ]
    reasons = [f"its code began {began}"]
    if call.attempt and call.failure is not None:
        reasons.append(
            f"attempt {call.attempt} failed ({failure_text(call.failure)}); the next one runs"
        )
    waits = [*_steps(loaded, now), *await _calls(database, loaded)]
    if not waits and loaded.invocation.commands is not None:
        waits.append("no step or call of it is open: it waits for a timer or signal, or computes")
    return reasons + waits


def _steps(loaded: Loaded, now: float) -> list[str]:
    """Its steps that have no outcome yet."""
    commands = commands_of(loaded)
    ended = {each.command for each in loaded.entries if each.kind is not EntryKind.STEP_RETRYING}
    ended |= {int(name) for kind, name, _ in commands.values() if kind == "abandon"}
    failed: dict[int, Entry] = {
        each.command: each for each in loaded.entries if each.kind is EntryKind.STEP_RETRYING
    }
    found: list[str] = []
    for number, (kind, name, where) in commands.items():
        if kind != "step" or number in ended:
            continue
        last = failed.get(number)
        if last is None or last.retry_at is None:
            found.append(f"its step {name} at {where} has no outcome yet")
        else:
            found.append(
                f"its step {name} at {where}: attempt {last.attempt} failed with "
                f"{failure_text(last.failure)}, again {_when(last.retry_at, now)}"
            )
    return _some(found)


async def _calls(database: Database, loaded: Loaded) -> list[str]:
    """The calls that it waits for."""
    call = loaded.invocation
    commands = commands_of(loaded)
    ended = {each.command for each in loaded.entries}
    awaited = [
        name
        for number, (kind, name, _) in commands.items()
        if kind == "await" and number not in ended
    ]
    others = [each.invocation for each in await database.load_calls(awaited)]
    children = await database.children(call.id, limit=LOOKED_AT_MAX)
    others += [each for each in children if each.parent is not None and each.parent.id == call.id]
    is_open = {each.id: each for each in others if each.finished_at is None}
    return _some(
        [
            f"it waits for {each.handler} {id_}, which is {each.status}; see `fenbu explain {id_}`"
            for id_, each in is_open.items()
        ]
    )


def _some(found: list[str]) -> list[str]:
    if len(found) <= NAMED_MAX:
        return found
    return [*found[:NAMED_MAX], f"and {len(found) - NAMED_MAX:,} more like these"]


def _when(at: float, now: float) -> str:
    if at <= now:
        return f"now: it has been due for {duration(now - at)}"
    return f"at {instant(at)}, in {duration(at - now)}"


def _since(at: float, now: float) -> str:
    return f"{duration(max(now - at, 0.0))} ago"
