"""`fenbu topic`: look at topics and their consumer groups, read and publish events, steer groups."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich.markup import escape
from rich.table import Table

from fenbu._api.topic_group import ANY, Consumer, find_consumers
from fenbu._api.topic_log import LOG, Notice, opened
from fenbu._cli.present import (
    console,
    count_of,
    instant_of,
    instant_short,
    payload_data,
    payload_text,
    print_json,
)
from fenbu._cli.target import (
    app_option,
    find_url,
    json_option,
    load_app,
    no_node,
    url_option,
    with_database,
)
from fenbu._core import limit
from fenbu._core.codec import Codec
from fenbu._core.handler import Registry
from fenbu._core.model import Chunk
from fenbu._core.topic import STREAM, log_id, log_key
from fenbu._node.clock import SystemClock
from fenbu._node.gateway import RemoteGateway
from fenbu._storage.open import Database
from fenbu.errors import FenbuError, UsageError

EXAMPLE = """
\b
Examples:
  fenbu topic ls
  fenbu topic tail orders --since 1h
  fenbu topic publish orders '{"id": 7, "total": 99}' -a shop.py
  fenbu topic seek orders send_receipt --since 1d
"""


class _Log(Struct, frozen=True):
    """A shard of a topic, as the database has it."""

    topic: str
    shard: int
    count: int
    changed_at: float
    groups: list[Consumer]


@click.group(epilog=EXAMPLE)
def topic() -> None:
    """Topics and their consumer groups."""


@topic.command("ls", epilog="\b\nExamples:\n  fenbu topic ls\n  fenbu topic ls orders --json")
@click.argument("name", required=False)
@app_option
@url_option
@json_option
def list_topics(name: str | None, app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """List topics with their events, and where each group is. BEHIND is how many are to come, at most."""
    logs = asyncio.run(with_database(find_url(app_name, url), lambda found: _logs(found, name)))
    if as_json:
        print_json([_data(each) for each in logs])
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("TOPIC", "SHARD", "EVENTS", "LAST", "GROUP", "OFFSET", "BEHIND", ""):
        is_number = column in ("SHARD", "EVENTS", "OFFSET", "BEHIND")
        table.add_column(column, justify="right" if is_number else "left")
    for each in logs:
        row = [
            escape(each.topic),
            str(each.shard),
            f"{each.count:,}",
            instant_short(each.changed_at),
        ]
        for group in each.groups or [None]:
            table.add_row(*row, *(_cells(each, group) if group is not None else ()))
            row = [""] * len(row)
    console.print(table if logs else "no topics: nothing has been published yet")


def _cells(log: _Log, group: Consumer) -> list[str]:
    position = group.position
    begun = position.after is not None
    return [
        escape(group.group),
        f"{position.after:,}" if begun else "-",
        f"{max(0, log.count - position.seen):,}" if begun else "-",
        "[yellow]paused[/]" if position.is_paused else "",
    ]


def _data(log: _Log) -> dict[str, Any]:
    return {
        "topic": log.topic,
        "shard": log.shard,
        "events": log.count,
        "changed_at": log.changed_at,
        "groups": [
            {
                "group": each.group,
                "call": each.id,
                "offset": each.position.after,
                "behind": max(0, log.count - each.position.seen),
                "paused": each.position.is_paused,
            }
            for each in log.groups
        ],
    }


async def _logs(database: Database, name: str | None) -> list[_Log]:
    """By name and shard, of one topic or of all."""
    states = await database.list_entities(LOG, limit=limit.LIST_LOGS_MAX)
    handlers = sorted({handler for handler, _ in await database.count_calls() if ":" in handler})
    found: list[_Log] = []
    meta = await database.open(create=False)
    for each in states:
        of, _, shard = each.key.rpartition("/")
        if name in (None, of):
            groups = [
                handler.removeprefix(f"{of}:")
                for handler in handlers
                if handler.startswith(f"{of}:")
            ]
            state = ANY.decode(each.state)
            made = await find_consumers(database, of, groups, [int(shard)], meta.partition_count)
            found.append(_Log(of, int(shard), state["count"], each.changed_at, made))
    return sorted(found, key=lambda log: (log.topic, log.shard))


# Reading and writing.


@topic.command(
    "tail",
    epilog="\b\nExamples:\n  fenbu topic tail orders\n  fenbu topic tail orders --after 1812 --json",
)
@click.argument("name")
@click.option("--after", type=click.IntRange(0), help="Only what comes after an offset.")
@click.option("--since", help="From an instant, or so long ago: 30m, 2h, 7d.")
@click.option("--shard", type=click.IntRange(0), default=0, show_default=True)
@click.option("-n", "count", type=click.IntRange(1), help="Stop after so many.")
@app_option
@url_option
@json_option
def tail(
    name: str,
    after: int | None,
    since: str | None,
    shard: int,
    count: int | None,
    app_name: str | None,
    url: str | None,
    *,
    as_json: bool,
) -> None:
    """Print events as they come. Without --after or --since: what comes from now on.

    With --json each is a line: its offset, when it came, its key, and the event.
    """
    if after is not None and since is not None:
        raise click.UsageError("--after and --since do not go together")
    began = instant_of(since) if since is not None else None

    async def work(database: Database) -> None:
        id_, place = log_id(log_key(name, shard)), after
        if not await database.load_entities([(LOG, log_key(name, shard))]):
            click.echo(f"nothing has been published to {name} yet: waiting for it", err=True)
        if place is None:
            place = await database.last_chunk(id_, STREAM, began)
        gateway = RemoteGateway(Registry(Codec()), SystemClock(), database)
        left = count
        try:
            while left is None or left > 0:
                for each in (await gateway.read_stream(id_, STREAM, place)).chunks[:left]:
                    place = each.number
                    _show(each, as_json=as_json)
                    left = None if left is None else left - 1
        finally:
            await gateway.close()

    asyncio.run(with_database(find_url(app_name, url), work))


def _show(chunk: Chunk, *, as_json: bool) -> None:
    key, payload = opened(chunk)
    if as_json:
        line = {"offset": chunk.number, "at": chunk.at, "key": key, "event": payload_data(payload)}
        click.echo(msgspec.json.encode(line))
    else:
        shown = f"{chunk.number}  {instant_short(chunk.at)}  {key or '-'}  {payload_text(payload, 2000)}"
        click.echo(shown)


@topic.command(
    "publish",
    epilog='\b\nExample:\n  fenbu topic publish orders \'{"id": 7, "total": 99}\' -a shop.py',
)
@click.argument("name")
@click.argument("events", metavar="EVENT...", nargs=-1, required=True)
@click.option("--id", "id_", help="Publishing with it again, within a day, does nothing.")
@app_option
@url_option
def publish(
    name: str, events: tuple[str, ...], id_: str | None, app_name: str | None, url: str | None
) -> None:
    """Publish each EVENT, JSON, to a topic of the app."""
    if app_name is None:
        raise UsageError("which app? Pass --app shop.py or --app module:app, or set FENBU_APP")
    if id_ is not None and len(events) > 1:
        raise click.UsageError("--id is for one event")
    app = load_app(app_name, url)
    found = app.topics.get(name)
    if found is None:
        raise UsageError(f"no topic {name!r}: the app has {', '.join(app.topics) or 'none'}")
    values = [found.from_json(each) for each in events]

    async def work() -> None:
        async with app.client():
            if id_ is not None:
                await found.publish(values[0], id=id_)
            else:
                await found.publish_many(values)

    asyncio.run(work())
    click.echo(f"{name}: {count_of(len(values), 'event')} accepted")


# Steering groups.


@topic.command("pause", epilog="\b\nExample:\n  fenbu topic pause orders send_receipt")
@click.argument("name")
@click.argument("group")
@app_option
@url_option
def pause(name: str, group: str, app_name: str | None, url: str | None) -> None:
    """Have a GROUP get nothing more until it is resumed."""
    _tell(name, group, None, Notice("pause"), app_name, url)


@topic.command("resume", epilog="\b\nExample:\n  fenbu topic resume orders send_receipt")
@click.argument("name")
@click.argument("group")
@app_option
@url_option
def resume(name: str, group: str, app_name: str | None, url: str | None) -> None:
    """Let a GROUP go on from where it was."""
    _tell(name, group, None, Notice("resume"), app_name, url)


@topic.command(
    "seek",
    epilog="\b\nExamples:\n  fenbu topic seek orders send_receipt --since 2026-11-25T08:00\n"
    "  fenbu topic seek orders send_receipt --offset 0",
)
@click.argument("name")
@click.argument("group")
@click.option("--offset", type=click.IntRange(0), help="Behind this event; 0 is the beginning.")
@click.option("--since", help="From an instant on, or so long ago: 30m, 2h, 7d.")
@click.option("--end", is_flag=True, help="Only what comes from now on.")
@click.option("--shard", type=click.IntRange(0), help="Only in this shard.")
@app_option
@url_option
def seek(
    name: str,
    group: str,
    offset: int | None,
    since: str | None,
    shard: int | None,
    app_name: str | None,
    url: str | None,
    *,
    end: bool,
) -> None:
    """Have a GROUP go on elsewhere: events are delivered again, or passed over."""
    if (offset is not None) + (since is not None) + end != 1:
        raise click.UsageError("say where to: --offset, --since or --end")
    instant = instant_of(since) if since is not None else limit.END_OF_TIME if end else None
    _tell(name, group, shard, Notice("seek", offset, instant), app_name, url)


def _tell(
    name: str,
    group: str,
    shard: int | None,
    notice: Notice,
    app_name: str | None,
    url: str | None,
) -> None:
    place = find_url(app_name, url)

    async def work(database: Database) -> None:
        logs = [each for each in await _logs(database, name) if shard in (None, each.shard)]
        found = [each for log in logs for each in log.groups if each.group == group]
        if not found:
            known = sorted({each.group for log in logs for each in log.groups})
            raise FenbuError(
                f"topic {name} has no group {group}"
                + (f"; it has {', '.join(known)}" if known else "")
            )
        if notice.what == "seek" and notice.after and len(found) > 1:
            raise UsageError(
                f"{name} has several shards, and an offset belongs to one: give --shard"
            )
        await database.enqueue([each.told(notice) for each in found])
        click.echo(f"{group} of {name}: {notice.what} accepted")
        if await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))
