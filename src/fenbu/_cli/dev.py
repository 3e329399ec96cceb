"""`fenbu dev`: run an app from a file, show what happens, start again when a file changes.

The app runs in a child process, which is stopped in good order before it is started again. It holds the
other end of a pipe and stops when that closes: however its parent ends, it does not keep the database.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from pathlib import Path

import click
from msgspec import Struct, field
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fenbu._cli import child
from fenbu._cli.present import (
    COLOURS,
    console,
    duration,
    failure_text,
    first_line,
    payload_text,
)
from fenbu._cli.run import leave, serve
from fenbu._cli.target import load_app, url_option
from fenbu._core import journal
from fenbu._core.batch import CommitBatch
from fenbu._core.command import UNNUMBERED
from fenbu._core.model import FINISHED, PARKED, Entry, EntryKind, Invocation, Status
from fenbu.errors import UsageError

DRAIN_SECONDS = 2.0

STOP_SECONDS_MAX = 10.0
"""After so long the child is killed: code that holds its event loop cannot hear that it should stop."""

LINES_PER_SECOND_MAX = 200
"""More nobody can read, and printing a line costs as much time as running ten calls."""

CALLS_MAX = 20_000
"""Open calls whose names are remembered."""

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
    if child.is_child():
        child.follow_parent()
    if child.is_child() or no_reload:
        _run(app_name, url)
    else:
        place = app_name.rpartition(":")[0] or app_name
        watched = Path(place).resolve().parent if place.endswith(".py") else Path.cwd()
        asyncio.run(_reload(app_name, url, watched))


def _run(app_name: str, url: str | None) -> None:
    view = View(console)
    live = Live(console=console, get_renderable=view.status, refresh_per_second=4, transient=True)
    with live if console.is_terminal else nullcontext():
        # Now, because it writes to what the live display has put in the place of stderr.
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        app = load_app(app_name, url)
        app.listen(view.show)
        serve(app, DRAIN_SECONDS)
    console.print(view.status())
    leave()


# The parent.


async def _reload(app_name: str, url: str | None, watched: Path) -> None:
    """Keep a child running; start it again when a file has changed, and wait for that if it has ended."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    command = (sys.executable, "-m", "fenbu", "dev", app_name, *(("--url", url) if url else ()))
    changes = _changes(watched, asked)
    process = await child.start(*command)
    try:
        ended = asyncio.create_task(process.wait())
        changed = asyncio.create_task(anext(changes, None))
        while True:
            await asyncio.wait((ended, changed), return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not changed.done():
                _say(f"it ended with exit status {ended.result()}; the next change starts it again")
                await asyncio.wait((changed,))
            names = changed.result()
            if names is None:
                return
            _say(f"{names} changed: starting again")
            await _stop(process)
            process = await child.start(*command)
            ended = asyncio.create_task(process.wait())
            changed = asyncio.create_task(anext(changes, None))
    finally:
        await _stop(process)


async def _changes(watched: Path, asked: asyncio.Event) -> AsyncGenerator[str, None]:
    """The names of the files that change, until it is asked to stop."""
    try:
        from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType]
    except ImportError:
        raise UsageError(
            'reloading needs a package more: pip install "fenbu[cli]", or pass --no-reload'
        ) from None
    async for changes in awatch(watched, watch_filter=PythonFilter(), stop_event=asked):
        yield ", ".join(sorted({Path(path).name for _, path in changes}))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if not await child.stop(process, STOP_SECONDS_MAX):
        _say("it does not stop: killed; what was running runs again")


def _say(text: str) -> None:
    console.print(Text(text, "dim"), soft_wrap=True)


# The child's view.


class Shown(Struct):
    """What is known of an open call."""

    handler: str
    commands: list[tuple[str, str, str]] | None = field(default_factory=list)
    """None if it began before this process did: then the numbers of its commands tell nothing."""
    is_started: bool = False
    attempt: int = 0


class View:
    """One line for each thing that has become durable, and a line of counts."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._began = time.time()
        self._calls: dict[str, Shown] = {}
        self._ended: dict[str, None] = {}
        """The last that have ended: a row may show the outcome before the batch that it belongs to."""
        self._counts: Counter[str] = Counter()
        self._lines: list[Text] = []
        self._left = float(LINES_PER_SECOND_MAX)
        self._looked = time.monotonic()
        self._skipped = 0

    def show(self, rows: CommitBatch) -> None:
        """A batch is on disk."""
        now = time.monotonic()
        self._left += (now - self._looked) * LINES_PER_SECOND_MAX
        self._left = min(self._left, float(LINES_PER_SECOND_MAX))
        self._looked = now
        for call in rows.inserted:
            self._begin(call, is_new=True)
        for call in rows.updated:
            self._begin(call, is_new=False)
        for entry in rows.entries:
            self._entry(entry)
        for call in (*rows.inserted, *rows.updated):
            self._state(call)
        if self._lines:
            self._out.print(Text("\n").join(self._lines), soft_wrap=True)
            self._lines.clear()

    def status(self) -> Text:
        """How much there was of what."""
        counts = self._counts
        parts = [f"{len(self._calls):,} open", f"{counts[Status.COMPLETED]:,} completed"]
        parts += [
            f"{counts[each]:,} {each.replace('_', ' ')}"
            for each in (Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, *sorted(PARKED))
            if counts[each]
        ]
        parts.append(f"{counts['step']:,} steps")
        if self._skipped:
            parts.append(f"{self._skipped:,} lines left out")
        return Text(" · ".join(parts), "reverse")

    def _begin(self, call: Invocation, *, is_new: bool) -> None:
        """Accepted, started, or loaded again."""
        is_finished = call.status in FINISHED
        if call.id in self._ended:
            if is_finished:
                return
            del self._ended[call.id]  # It was retried.
        shown = self._calls.get(call.id)
        if shown is None:
            is_old = call.started_at is not None and call.started_at < self._began
            shown = self._calls[call.id] = Shown(call.handler, None if is_old else [])
            if len(self._calls) > CALLS_MAX:
                del self._calls[next(iter(self._calls))]
        is_started, shown.is_started = shown.is_started, call.started_at is not None
        if shown.commands == [] and call.commands is not None:
            shown.commands = journal.recorded(call.commands)
        if is_new:
            what = "started" if shown.is_started else "accepted"
            self._line(call.id, what, "cyan", f"{payload_text(call.args, 80)}{_delay(call)}")
        elif shown.is_started and not is_started and not is_finished:
            self._line(call.id, "goes on" if shown.commands is None else "started", "cyan", "")

    def _entry(self, entry: Entry) -> None:
        """Something that its code waited for has happened."""
        shown = self._calls.get(entry.id)
        commands = shown.commands if shown is not None else None
        if commands is not None:
            numbered = journal.recorded(entry.commands)
            commands += [each for each in numbered if each[0] not in UNNUMBERED]
        kind = entry.kind.value.partition("_")[0]
        name = str(entry.command)
        if commands is not None and 0 < entry.command <= len(commands):
            kind, name, _ = commands[entry.command - 1]
        took = f" ({duration(entry.seconds)})" if entry.seconds is not None else ""
        failed = first_line(failure_text(entry.failure))
        value = payload_text(entry.value, 80)
        match entry.kind:
            case EntryKind.STEP_RETRYING:
                again = duration((entry.retry_at or entry.at) - entry.at)
                words = (f"step {name} attempt {entry.attempt} failed", "yellow", failed)
                self._line(entry.id, *words, f"{took}, again in {again}")
            case EntryKind.SIGNAL_RECEIVED:
                self._line(
                    entry.id, journal.signal_text(entry.name or ""), "magenta", failed or value
                )
            case EntryKind.UPDATE_RECEIVED:
                self._line(entry.id, f"update {entry.name}", "magenta", value)
            case EntryKind.CANCEL_REQUESTED:
                self._line(entry.id, "cancel requested", "yellow", entry.name or "")
            case EntryKind.INNER_BEGAN:
                self._line(entry.id, "gives its turn to", "magenta", entry.name or "")
            case EntryKind.INNER_SET:
                self._line(entry.id, f"has lazy field {entry.name} set", "magenta", value)
            case EntryKind.FIELD_READ:
                self._line(entry.id, f"lazy field {entry.name} read", "magenta", "")
            case EntryKind.INNER_ENDED:
                self._line(entry.id, "has its turn back from", "magenta", entry.name or "")
            case EntryKind.TIMER_FIRED:
                self._line(entry.id, "timer", "magenta", "")
            case _ if entry.status is Status.COMPLETED:
                self._counts["step"] += entry.kind is EntryKind.STEP_COMPLETED
                self._line(entry.id, f"{kind} {name} done", "green", value, took)
            case _:
                status = entry.status or Status.FAILED
                self._line(entry.id, f"{kind} {name} {status}", "red", failed, took)

    def _state(self, call: Invocation) -> None:
        """Ended, waiting for another attempt, parked, or out of memory."""
        shown = self._calls.get(call.id)
        status = call.status
        if shown is None:
            return
        if status in FINISHED:
            self._counts[status] += 1
            took = f" ({duration((call.finished_at or 0) - (call.started_at or 0))})"
            outcome = failure_text(call.failure) or payload_text(call.result, 80)
            self._line(call.id, status, COLOURS[status], first_line(outcome), took)
            del self._calls[call.id]
            self._ended[call.id] = None
            if len(self._ended) > CALLS_MAX:
                del self._ended[next(iter(self._ended))]
        elif status in PARKED:
            self._counts[status] += 1
            self._line(call.id, status, COLOURS[status], first_line(call.waiting or ""))
        elif status is Status.SUSPENDED:
            self._line(call.id, "waits", COLOURS[status], call.waiting or "")
        elif call.wake_at is not None and call.attempt > shown.attempt:
            shown.attempt = call.attempt
            words = (
                f"attempt {call.attempt} failed",
                "yellow",
                first_line(failure_text(call.failure)),
            )
            self._line(call.id, *words, f", again in {duration(call.wake_at - time.time())}")

    def _line(self, id_: str, what: str, style: str, more: str, end: str = "") -> None:
        if self._left < 1.0:
            self._skipped += 1
            return
        self._left -= 1.0
        shown = self._calls.get(id_)
        self._lines.append(
            Text.assemble(
                (time.strftime("%H:%M:%S "), "dim"), (shown.handler if shown else "", "bold"),
                (f" {id_} ", "dim"), (what, style), f" {more}" if more else "", (end, "dim"),
            )
        )  # fmt: skip


def _delay(call: Invocation) -> str:
    return "" if call.wake_at is None else f" begins in {duration(call.wake_at - time.time())}"
