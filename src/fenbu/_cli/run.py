"""`fenbu run`: a node until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading

import click
import msgspec

from fenbu import App
from fenbu._cli import child, supervise
from fenbu._cli.target import load_app, url_option
from fenbu._core import limit
from fenbu._storage.open import shown
from fenbu.errors import FenbuError, UsageError

EXAMPLE = """
\b
Examples:
  fenbu run shop:app
  fenbu run shop.py --url sqlite:////var/lib/shop/shop.db --drain 60
  fenbu run shop:app --url postgresql://shop@db/shop --processes 4
"""

LEFT_SECONDS = 0.5
"""How long threads without work get to end, once everything else has."""


@click.command(epilog=EXAMPLE)
@click.argument("app_name", metavar="APP", envvar="FENBU_APP")
@url_option
@click.option(
    "--drain", type=click.FloatRange(min=0), default=limit.DRAIN_SECONDS, show_default=True,
    help="Seconds that running bodies get to end after SIGTERM.",
)  # fmt: skip
@click.option(
    "--concurrency", type=click.IntRange(min=1),
    help="Bodies of tasks and steps that run at a time.  [default: the app's]",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True,
    help="Node processes, each started again when it crashes; more than one needs PostgreSQL.",
)  # fmt: skip
def run(
    app_name: str, url: str | None, drain: float, concurrency: int | None, processes: int
) -> None:
    """Run a node: APP is module:attribute or file.py. SIGTERM and SIGINT drain and stop it.

    A second signal ends it at once; what was running then runs again at the next start.
    """
    if processes > 1:
        supervise.check(app_name, url)
        options = ["--drain", str(drain)]
        options += ["--url", url] if url else []
        options += ["--concurrency", str(concurrency)] if concurrency else []
        asyncio.run(supervise.supervise(processes, drain, app_name, *options))
        return
    if child.is_child():
        child.follow_parent()
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    app = load_app(app_name, url)
    if concurrency is not None:
        app.node_options = msgspec.structs.replace(app.node_options, concurrency=concurrency)
    serve(app, drain)
    leave()


def serve(app: App, drain: float) -> None:
    """Run the app's node; says so when it is ready. A second signal ends the process at once.

    Raises:
        FenbuError: It cannot run; the message says why.
    """

    def ready() -> None:
        handlers = len(app.registry.names())
        click.echo(
            f"running app {app.name} on {shown(app.url)}: {handlers} handlers, "
            f"{app.registry.partition_count} partitions, pid {os.getpid()}",
            err=True,
        )

    def stopping() -> None:
        click.echo(f"stopping: bodies get {drain:g} s to end; again to stop at once", err=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 1)

    try:
        app.run(drain_seconds=drain, ready=ready, stopping=stopping)
    except UsageError as error:
        # The command was right; the app or its database is not.
        raise FenbuError(str(error)) from None
    click.echo("stopped", err=True)


def leave() -> None:
    """End the process although bodies still run that nobody waits for any longer.

    A plain function cannot be stopped, and Python, before it ends, waits for every thread and every
    process of a pool: a body that blocks for an hour would hold up a stop that had a deadline.
    """
    for process in multiprocessing.active_children():
        process.terminate()
    bodies = [each for each in threading.enumerate() if each.name.startswith("fenbu-body")]
    for thread in bodies:
        thread.join(LEFT_SECONDS / len(bodies))
    if any(each.is_alive() for each in bodies):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
