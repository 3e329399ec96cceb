"""`fenbu run`: a node until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import click

from fenbu import App
from fenbu._cli.target import load_app, url_option
from fenbu._core import limit

EXAMPLE = """
\b
Examples:
  fenbu run shop:app
  fenbu run shop.py --url sqlite:////var/lib/shop/shop.db --drain 60
"""


@click.command(epilog=EXAMPLE)
@click.argument("app_name", metavar="APP", envvar="FENBU_APP")
@url_option
@click.option(
    "--drain", type=click.FloatRange(min=0), default=limit.DRAIN_SECONDS, show_default=True,
    help="Seconds that running bodies get to end after SIGTERM.",
)  # fmt: skip
def run(app_name: str, url: str | None, drain: float) -> None:
    """Run a node: APP is module:attribute or file.py. SIGTERM and SIGINT drain and stop it."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    serve(load_app(app_name, url), drain)


def serve(app: App, drain: float) -> None:
    """Run the app's node; says so when it is ready. A second signal ends the process at once."""

    def ready() -> None:
        handlers = len(app.registry.names())
        click.echo(
            f"running app {app.name} on {app.url}: {handlers} handlers, "
            f"{app.registry.partition_count} partitions, pid {os.getpid()}",
            err=True,
        )

    def stopping() -> None:
        click.echo(f"stopping: bodies get {drain:g} s to end; again to stop at once", err=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 1)

    app.run(drain_seconds=drain, ready=ready, stopping=stopping)
    click.echo("stopped", err=True)
