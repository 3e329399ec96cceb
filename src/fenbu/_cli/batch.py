"""`fenbu batch`: how far batches are, what failed in them, and trying that again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fenbu import App
from fenbu._api.batch import ATTRIBUTE, BatchProgress
from fenbu._api.bulk import Forks, steer
from fenbu._cli.find import find_call, home_in
from fenbu._cli.present import (
    call_data,
    calls_table,
    console,
    count_of,
    duration,
    instant,
    instant_short,
    print_json,
    status_text,
)
from fenbu._cli.target import (
    app_option,
    json_option,
    load_app,
    no_node,
    place_of,
    url_option,
    with_database,
)
from fenbu._core.attribute import condition
from fenbu._core.message import Cancel
from fenbu._core.model import FINISHED, Invocation, Loaded, Status
from fenbu._core.query import answer
from fenbu._node.clock import SystemClock
from fenbu._storage.observer import CallFilter
from fenbu._storage.open import Database
from fenbu.errors import NonDeterminismError, UsageError

EXAMPLE = """
\b
Examples:
  fenbu batch ls -a shop.py
  fenbu batch show thumbnails-2026 --follow
  fenbu batch retry thumbnails-2026
"""

LOOK_SECONDS = 0.5
"""How often `--follow` looks."""

FAILED = (Status.FAILED, Status.TIMED_OUT, Status.CANCELLED)


class _Batch(Struct, frozen=True):
    call: Invocation
    progress: BatchProgress | None
    """None if its code has not begun, or is another one by now and does not fit."""


@click.group(epilog=EXAMPLE)
def batch() -> None:
    """Batches of the app: a batch's code says how far it is, so its app is needed; a node is not."""


@batch.command(
    "ls",
    epilog="\b\nExamples:\n  fenbu batch ls -a shop.py\n  fenbu batch ls thumbnails -n 5 --json",
)
@click.argument("name", required=False)
@click.option("-n", "limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@app_option
@url_option
@json_option
def list_batches(
    name: str | None, limit: int, app_name: str | None, url: str | None, *, as_json: bool
) -> None:
    """List batches, newest first: all of the app, or those of the batch NAME."""
    app = _app(app_name, url)
    if name is not None and name not in app.batches:
        raise UsageError(f"no batch {name!r}: the app has {', '.join(app.batches) or 'none'}")

    async def work(database: Database) -> list[_Batch]:
        calls: list[Invocation] = []
        for each in app.batches if name is None else [name]:
            calls += await database.list_calls(CallFilter(handler=each, limit=limit))
        newest = sorted(calls, key=lambda each: each.created_at, reverse=True)[:limit]
        found: list[_Batch] = []
        for each in newest:
            found += [_batch(app, loaded) for loaded in await database.load_calls([each.id])]
        return found

    found = asyncio.run(with_database(place_of(app), work))
    if as_json:
        print_json([_data(each) for each in found])
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("ID", "BATCH", "STATUS", "ACCEPTED", "STARTED", "DONE", "FAILED", "OPEN", ""):
        is_number = column in ("STARTED", "DONE", "FAILED", "OPEN")
        table.add_column(column, justify="right" if is_number else "left")
    for each in found:
        call = each.call
        table.add_row(
            escape(call.id), escape(call.handler), status_text(call.status),
            instant_short(call.created_at), *_cells(each.progress),
        )  # fmt: skip
    console.print(table if found else "no batches")


def _cells(progress: BatchProgress | None) -> list[str]:
    if progress is None:
        return ["-"] * 4
    counts = (progress.started, progress.completed, progress.failed, progress.open)
    return [
        *(f"{each:,}" for each in counts),
        "" if progress.is_read else "[dim]and more to come[/]",
    ]


@batch.command(
    "show",
    epilog="\b\nExamples:\n  fenbu batch show thumbnails-2026\n"
    "  fenbu batch show thumbnails-2026 --follow --json",
)
@click.argument("id_", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Show its progress, live, until it has ended.")
@click.option(
    "-n", "limit", type=click.IntRange(0, 100_000), default=20, show_default=True,
    help="How many of its calls that failed are listed, the newest first.",
)  # fmt: skip
@app_option
@url_option
@json_option
def show(
    id_: str, limit: int, app_name: str | None, url: str | None, *, follow: bool, as_json: bool
) -> None:
    """Show how far a batch is, and its calls that failed, also if they are well by now.

    With --follow and --json each change is a line.
    """
    app = _app(app_name, url)

    async def work(database: Database) -> tuple[_Batch, list[Invocation]]:
        found = await _find(app, database, id_)
        if follow:
            found = await _follow(app, database, found, as_json=as_json)
        failed = await database.list_calls(_calls_of(found.call.id, FAILED, limit)) if limit else []
        return found, failed

    found, failed = asyncio.run(with_database(place_of(app), work))
    if as_json:
        if not follow:
            print_json(_data(found) | {"calls_failed": [call_data(each) for each in failed]})
        return
    _print(found)
    if failed:
        console.print(calls_table(failed))


def _print(found: _Batch) -> None:
    call, progress = found.call, found.progress
    console.print(f"[bold]{escape(call.handler)}[/]  {escape(call.id)}  {status_text(call.status)}")
    took = None
    if call.finished_at is not None:
        # Not from `started_at`: a batch continues as new, and that is when its last run began.
        took = duration(call.finished_at - call.created_at)
    rows = [
        ("accepted", instant(call.created_at)),
        ("finished", f"{instant(call.finished_at)}, after {took}" if took else ""),
        ("progress", "not known: its code has not begun, or is another by now"),
    ]
    if progress is not None:
        more = "" if progress.is_read else ", and the source has more"
        rows[-1:] = [
            ("started", f"{progress.started:,}{more}"),
            ("done", f"{progress.completed:,}"),
            ("failed", f"{progress.failed:,}"),
            ("open", f"{progress.open:,}"),
        ]
    grid = Table.grid(padding=(0, 2))
    for name, text in rows:
        if text:
            grid.add_row(f"[dim]{name}[/]", text)
    console.print(grid)


async def _follow(app: App, database: Database, found: _Batch, *, as_json: bool) -> _Batch:
    """Show the progress of a batch until it has ended."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[text]}"), TimeElapsedColumn(), console=console, transient=True,
        disable=as_json or not sys.stdout.isatty(),
    ) as bar:  # fmt: skip
        task = bar.add_task(escape(found.call.id), total=None, text="")
        shown: dict[str, Any] | None = None
        while True:
            progress, data = found.progress or BatchProgress(), _data(found)
            if as_json and data != shown:
                click.echo(msgspec.json.encode(data))
            shown = data
            ended = progress.completed + progress.failed
            # Until the source is read, nobody knows how many there will be.
            total = progress.started if progress.is_read else None
            bar.update(task, completed=ended, total=total, text=_text(progress))
            if found.call.status in FINISHED:
                return found
            await asyncio.sleep(LOOK_SECONDS)
            found = await _find(app, database, found.call.id)


def _text(progress: BatchProgress) -> str:
    return f"{progress.completed:,} done, {progress.failed:,} failed, {progress.open:,} open"


# Steering.


@batch.command("retry", epilog="\b\nExample:\n  fenbu batch retry thumbnails-2026")
@click.argument("id_", metavar="ID")
@app_option
@url_option
def retry(id_: str, app_name: str | None, url: str | None) -> None:
    """Try the calls of a batch again that failed or timed out. Its own counts stay as they are."""
    app = _app(app_name, url)
    place = place_of(app)

    async def work(database: Database) -> None:
        call = (await _find(app, database, id_)).call
        meta = await database.open(create=False)
        where = _calls_of(call.id, (Status.FAILED, Status.TIMED_OUT), 1)
        steered = await steer(
            "retry", where, reason="", calls=database, send=database.enqueue,
            forks=Forks(SystemClock(), meta.partition_count),
        )  # fmt: skip
        click.echo(f"retry accepted by {count_of(steered.told, 'call')} of {call.id}")
        if steered.told and await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))


@batch.command(
    "cancel", epilog='\b\nExample:\n  fenbu batch cancel thumbnails-2026 --reason "too early"'
)
@click.argument("id_", metavar="ID")
@click.option("--reason", default="cancelled from the command line")
@app_option
@url_option
def cancel(id_: str, reason: str, app_name: str | None, url: str | None) -> None:
    """Cancel a batch and its calls that are open."""
    app = _app(app_name, url)
    place = place_of(app)

    async def work(database: Database) -> None:
        call = (await _find(app, database, id_)).call
        if call.status in FINISHED:
            raise UsageError(f"{call.handler} {call.id} has ended already: it is {call.status}")
        await database.enqueue([Cancel(await home_in(database, call), call.id, reason)])
        click.echo(f"{call.handler} {call.id}: cancel accepted")
        if await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))


# Finding.


def _app(app_name: str | None, url: str | None) -> App:
    if app_name is None:
        raise UsageError("which app? Pass --app shop.py or --app module:app, or set FENBU_APP")
    return load_app(app_name, url)


async def _find(app: App, database: Database, id_: str) -> _Batch:
    found = await find_call(database, id_)
    if found.call.handler not in app.batches:
        raise UsageError(
            f"{found.call.id} is no batch of this app, but {found.call.handler}: "
            f"its batches are {', '.join(app.batches) or 'none'}"
        )
    return _batch(app, found.loaded)


def _batch(app: App, loaded: Loaded) -> _Batch:
    codec = app.registry.codec
    nothing = codec.of(Any).encode([])
    try:
        progress = answer(app.registry, loaded, "progress", nothing)
    except (NonDeterminismError, UsageError):
        progress = None
    decoded = None if progress is None else codec.of(BatchProgress).decode(progress)
    return _Batch(loaded.invocation, decoded)


def _calls_of(id_: str, statuses: Sequence[Status], limit: int) -> CallFilter:
    """The calls of a batch."""
    where = (condition(ATTRIBUTE, "=", id_),)
    return CallFilter(statuses=tuple(statuses), where=where, limit=limit)


def _data(found: _Batch) -> dict[str, Any]:
    call, progress = found.call, found.progress
    data: dict[str, Any] = {
        "id": call.id,
        "batch": call.handler,
        "status": call.status,
        "created_at": call.created_at,
        "started_at": call.started_at,
        "finished_at": call.finished_at,
        "progress": None,
    }
    if progress is not None:
        data["progress"] = {
            "started": progress.started,
            "completed": progress.completed,
            "failed": progress.failed,
            "open": progress.open,
            "is_read": progress.is_read,
            "errors": [{"id": each.id, "error": each.error} for each in progress.errors],
        }
    return data
