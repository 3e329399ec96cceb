"""`fenbu export`, `fenbu replay`: a call's history as a file, and today's code over a history."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from fenbu import App
from fenbu._api.moving import histories_in
from fenbu._cli.debugger import Debugger
from fenbu._cli.find import find_call, histories_of
from fenbu._cli.present import count_of, print_json
from fenbu._cli.target import (
    app_option,
    find_url,
    json_option,
    load_app,
    place_of,
    url_option,
    with_database,
)
from fenbu._core import history
from fenbu._core.history import Histories, History
from fenbu._core.model import FINISHED
from fenbu._core.rehearsal import Divergence, rehearse
from fenbu._storage.open import Database
from fenbu.errors import FenbuError, UsageError


async def _history_of(database: Database, id_: str) -> History:
    found = await find_call(database, id_)
    (made,) = await histories_of(database, [found.loaded])
    return made


async def _histories_of(database: Database, id_: str, *, alone: bool) -> Histories:
    found = await find_call(database, id_)
    meta = await database.open(create=False)
    return await histories_in(database, found.call.id, meta.partition_count, alone=alone)


@click.command(
    epilog="\b\nExamples:\n  fenbu export order-7\n  fenbu export order-7 -o tests/histories/order-7.json\n"
    "  fenbu export order-7 --alone"
)
@click.argument("id_", metavar="ID")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file.")
@click.option("--alone", is_flag=True, help="Without the calls that it has started or waits for.")
@app_option
@url_option
def export(
    id_: str, output: Path | None, app_name: str | None, url: str | None, *, alone: bool
) -> None:
    """Write a call with its whole history as JSON, to replay it elsewhere or to report a bug.

    With it come the calls that it has started or waits for, and what is on the way to them: all as they are
    in one moment. They go on where they are; what is imported elsewhere is a second call with the same id.
    """

    async def work(database: Database) -> Histories:
        return await _histories_of(database, id_, alone=alone)

    found = asyncio.run(with_database(find_url(app_name, url), work))
    text = history.write(found)
    for line in _left_behind(found):
        click.echo(line, err=True)
    if output is None:
        click.echo(text.decode(), nl=False)
        return
    try:
        output.write_bytes(text)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"{output}: {len(text):,} bytes", err=True)


def _left_behind(found: Histories) -> Iterator[str]:
    """What belongs to the calls and is not in the file."""
    for each in found.calls:
        call = each.loaded.invocation
        if call.entity is not None and call.status not in FINISHED:
            yield (
                f"{call.handler} {call.id} is open: the state of {call.entity} {call.key!r} is in the file "
                "to replay it, and is not imported"
            )
    for each in found.outside:
        yield (
            f"{each.id}, command {each.command}: {each.kind} {each.name} is not in the file"
            + (f" ({each.location})" if each.location else "")
        )


EXAMPLE = """
\b
Examples:
  fenbu replay order-7 -a shop.py
  fenbu replay tests/histories/order-7.json -a shop.py
  fenbu replay order-7 -a shop.py --pdb --at 3
"""


@click.command(epilog=EXAMPLE)
@click.argument("what", metavar="ID|FILE")
@app_option
@url_option
@click.option("--pdb", "debug", is_flag=True, help="Stop in the debugger at a journal position.")
@click.option(
    "--at", type=click.IntRange(0), metavar="N",
    help="Which position; by default the first that differs, or the last.",
)  # fmt: skip
@click.option(
    "--call", "call_id", metavar="ID", help="Of those in a FILE; by default the exported one."
)
@json_option
def replay(
    what: str,
    app_name: str | None,
    url: str | None,
    at: int | None,
    call_id: str | None,
    *,
    debug: bool,
    as_json: bool,
) -> None:
    """Run today's code over a recorded call: does it still ask for the same? Nothing is called again.

    The call is one of the app's database, or stands in a FILE that `fenbu export` wrote. Exit status 1 if
    the code differs.
    """
    if app_name is None:
        raise UsageError("which code? Pass --app shop.py, or set FENBU_APP")
    app = load_app(app_name, url)
    found = _find(what, call_id, app)
    divergence = rehearse(app.registry, found)
    if debug:
        _debug(app, found, divergence, at)
    elif at is not None:
        raise UsageError("--at says where --pdb stops: pass both")
    else:
        _tell(found, divergence, as_json=as_json)
    if divergence is not None:
        sys.exit(1)


def _find(what: str, call_id: str | None, app: App) -> History:
    path = Path(what)
    if path.suffix != ".json" and not path.is_file():
        return asyncio.run(
            with_database(place_of(app), lambda database: _history_of(database, what))
        )
    try:
        calls = history.read(path.read_bytes()).calls
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    for each in calls:
        if call_id in (None, each.loaded.invocation.id):
            return each
    known = ", ".join(each.loaded.invocation.id for each in calls)
    raise UsageError(f"{path} has no call {call_id}, but {known}")


def _tell(found: History, divergence: Divergence | None, *, as_json: bool) -> None:
    call, count = found.loaded.invocation, len(found.loaded.entries)
    if as_json:
        data: dict[str, Any] = {"id": call.id, "handler": call.handler, "version": call.version}
        data |= {"status": call.status, "entries": count, "agrees": divergence is None}
        data["divergence"] = None if divergence is None else msgspec.to_builtins(divergence)
        print_json(data)
    elif divergence is None:
        click.echo(
            f"{call.handler} {call.id} is {call.status}: this code agrees with its journal of "
            f"{count_of(count, 'event')}"
        )
    else:
        where = "" if divergence.position is None else f", journal position {divergence.position}"
        click.echo(f"{call.handler} {call.id}{where}: {divergence.reason}")


def _debug(app: App, found: History, divergence: Divergence | None, at: int | None) -> None:
    last = len(found.loaded.entries)
    if at is None:
        at = last if divergence is None or divergence.position is None else divergence.position
    if at > last:
        raise UsageError(f"its journal has {last} positions beyond 0, and --at is {at}")
    debugger = Debugger(at)
    try:
        rehearse(app.registry, found, debugger.before)
    finally:
        debugger.done()
    if not debugger.has_stopped:
        raise FenbuError(
            "the code did not come so far: "
            + (divergence.reason if divergence is not None else "it has not begun")
        )
