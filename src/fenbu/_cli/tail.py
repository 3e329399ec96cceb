"""`fenbu tail`: what a call writes to a stream, live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import click
import msgspec

from fenbu._api.stream import Progress
from fenbu._cli.find import find_call
from fenbu._cli.present import payload_data
from fenbu._cli.target import app_option, find_url, json_option, url_option, with_database
from fenbu._core.codec import Codec
from fenbu._core.handler import Registry
from fenbu._core.model import FINISHED, Chunk
from fenbu._node.clock import SystemClock
from fenbu._node.gateway import RemoteGateway
from fenbu._storage.open import Database
from fenbu.errors import FenbuError, UsageError

EXAMPLE = """
\b
Examples:
  fenbu tail chat-7
  fenbu tail chat-7 tokens --join
  fenbu tail import-3 log --after 1812 --json
"""

LOOK_SECONDS = 0.5
"""How often it is looked whether a call has begun with a stream."""


@click.command(epilog=EXAMPLE)
@click.argument("id_", metavar="ID")
@click.argument("stream", required=False)
@click.option("--after", type=click.IntRange(0), default=0, help="Only what comes after an offset.")
@click.option("--join", is_flag=True, help="Print texts one behind the other, as tokens are read.")
@app_option
@url_option
@json_option
def tail(
    id_: str,
    stream: str | None,
    after: int,
    app_name: str | None,
    url: str | None,
    *,
    join: bool,
    as_json: bool,
) -> None:
    """Print what a call writes to a STREAM, until that has ended. Without a name: its only one.

    With --json each value is a line: its offset, when it was written, and the value.
    """

    async def work(database: Database) -> None:
        call = (await find_call(database, id_)).call
        name = stream if stream is not None else await _only_stream(database, call.id)
        show = _show_json if as_json else _show_joined if join else _show
        await _follow(database, call.id, name, after, show)
        if join and not as_json:
            click.echo()

    asyncio.run(with_database(find_url(app_name, url), work))


async def _only_stream(database: Database, id_: str) -> str:
    """The stream that a call has; waits for it if the call has not ended.

    Raises:
        UsageError: It has several.
        FenbuError: It has ended, and has none.
    """
    while True:
        loaded = await database.load_calls([id_])
        found = await database.list_streams(id_)
        if len(found) > 1:
            names = ", ".join(each.stream for each in found)
            raise UsageError(f"{id_} has several streams, say which: {names}")
        if found:
            return found[0].stream
        if loaded and loaded[0].invocation.status in FINISHED:
            raise FenbuError(f"{id_} has ended, and has written to no stream")
        await asyncio.sleep(LOOK_SECONDS)


async def _follow(
    database: Database, id_: str, name: str, after: int, show: Callable[[Chunk], None]
) -> None:
    gateway = RemoteGateway(Registry(Codec()), SystemClock(), database)
    progress = Progress(after)
    try:
        while not progress.done:
            for each in progress.take(await gateway.read_stream(id_, name, progress.after)):
                show(each)
    finally:
        await gateway.close()


def _show(chunk: Chunk) -> None:
    click.echo(_text(chunk))


def _show_joined(chunk: Chunk) -> None:
    click.echo(_text(chunk), nl=False)


def _show_json(chunk: Chunk) -> None:
    line = {"offset": chunk.number, "at": chunk.at, "value": payload_data(chunk.value)}
    click.echo(msgspec.json.encode(line))


def _text(chunk: Chunk) -> str:
    """A text as it is, anything else as JSON."""
    encoded = msgspec.json.encode(payload_data(chunk.value))
    value: Any = msgspec.json.decode(encoded)
    return value if isinstance(value, str) else encoded.decode()
