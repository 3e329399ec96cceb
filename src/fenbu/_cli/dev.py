"""`fenbu dev`: run an app from a file, show what happens, start again when a file changes.

The app runs in a child process, which is stopped in good order before it is started again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from fenbu._cli.present import console, duration, failure_text, payload_text, status_text
from fenbu._cli.run import serve
from fenbu._cli.target import load_app, url_option
from fenbu._core.batch import CommitBatch
from fenbu._core.model import FINISHED, Entry, EntryKind, Invocation, Status

CHILD = "FENBU_DEV_CHILD"
DRAIN_SECONDS = 2.0

EXAMPLE = """
\b
Examples:
  fenbu dev shop.py
  fenbu dev shop:app --no-reload
"""


@click.command(epilog=EXAMPLE)
@click.argument("app_name", metavar="APP", envvar="FENBU_APP")
@url_option
@click.option("--no-reload", is_flag=True, help="Do not watch for changes.")
def dev(app_name: str, url: str | None, *, no_reload: bool) -> None:
    """Run APP (file.py or module:attribute), show what happens, reload when a file changes."""
    if no_reload or os.environ.get(CHILD):
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        app = load_app(app_name, url)
        app.listen(View().show)
        serve(app, DRAIN_SECONDS)
        return
    place = app_name.partition(":")[0]
    watched = Path(place).resolve().parent if place.endswith(".py") else Path.cwd()
    asyncio.run(_reload(app_name, url, watched))


async def _reload(app_name: str, url: str | None, watched: Path) -> None:
    """Keep a child running; watchfiles tells when to start it again."""
    from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType]

    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    command = [sys.executable, "-m", "fenbu", "dev", app_name, *(("--url", url) if url else ())]
    environment = {**os.environ, CHILD: "1"}
    child = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: ASYNC220, S603
    try:
        async for changes in awatch(watched, watch_filter=PythonFilter(), stop_event=asked):
            names = ", ".join(sorted({Path(path).name for _, path in changes}))
            console.print(f"[dim]{names} changed: starting again[/]")
            await _stop(child)
            child = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: ASYNC220, S603
    finally:
        await _stop(child)


async def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    await asyncio.to_thread(child.wait)


class View:
    """One line for each thing that has become durable."""

    def __init__(self) -> None:
        self._handlers: dict[str, str] = {}
        """Handler by id of calls that are open, for the lines of their journals."""

    def show(self, rows: CommitBatch) -> None:
        """A batch is on disk."""
        for call in rows.inserted:
            self._handlers[call.id] = call.handler
            self._line(call.id, "accepted", payload_text(call.args, 80))
        for entry in rows.entries:
            self._line(entry.id, *_entry_words(entry))
        for call in (*rows.inserted, *rows.updated):
            if call.status in FINISHED:
                self._line(call.id, status_text(call.status), _outcome(call))
                self._handlers.pop(call.id, None)
            elif call.waiting:
                self._line(call.id, status_text(call.status), call.waiting)

    def _line(self, id_: str, what: str, more: str) -> None:
        handler = self._handlers.get(id_, "")
        clock = time.strftime("%H:%M:%S")
        more = more.splitlines()[0] if more else ""
        console.print(
            f"[dim]{clock}[/] [bold]{handler}[/] [dim]{id_}[/] {what}", end=" ", soft_wrap=True
        )
        console.print(more, markup=False, soft_wrap=True)


def _outcome(call: Invocation) -> str:
    took = duration((call.finished_at or 0) - (call.started_at or 0))
    return f"{failure_text(call.failure) or payload_text(call.result, 80)} ({took})"


def _entry_words(entry: Entry) -> tuple[str, str]:
    what = entry.kind.value.replace("_", " ")
    if entry.command:
        what += f" {entry.command}"
    if entry.kind is EntryKind.STEP_RETRYING:
        what = f"[yellow]{what}[/]"
    elif entry.status not in (None, Status.COMPLETED):
        what = f"[red]{what}[/]"
    more = failure_text(entry.failure) or payload_text(entry.value, 80) or (entry.name or "")
    took = f" ({duration(entry.seconds)})" if entry.seconds is not None else ""
    return what, more + took
