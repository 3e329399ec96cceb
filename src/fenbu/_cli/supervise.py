"""`fenbu run --processes N`: so many node processes, each started again when it ends by itself."""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from fenbu._cli import child
from fenbu._cli.target import load_app
from fenbu.errors import UsageError

PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 30.0
"""Between an end and the next start: doubles each time …"""

STEADY_SECONDS = 60.0
"""… and is short again after a process has run for so long."""

STOP_SECONDS = 10.0
"""What a process gets to stop beyond its time to drain."""


def check(app_name: str, url: str | None) -> None:
    """Refuse what cannot work before anything is started.

    Raises:
        UsageError: The app cannot be loaded, or its database allows one node.
    """
    place = load_app(app_name, url).url
    if not place.startswith(("postgresql:", "postgres:")):
        raise UsageError(
            f"{place} allows one node at a time: several processes need PostgreSQL, as in "
            "--url postgresql://user@host/database"
        )


async def supervise(count: int, drain: float, *arguments: str) -> None:
    """Keep `fenbu run` running so many times, until SIGTERM or SIGINT."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    command = (sys.executable, "-m", "fenbu", "run", *arguments)
    await asyncio.gather(*(_keep(each + 1, command, drain, asked) for each in range(count)))


async def _keep(number: int, command: tuple[str, ...], drain: float, asked: asyncio.Event) -> None:
    stopping = asyncio.create_task(asked.wait())
    loop = asyncio.get_running_loop()
    pause = PAUSE_SECONDS_MIN
    while not asked.is_set():
        process = await child.start(*command)
        began = loop.time()
        ended = asyncio.create_task(process.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            if not await child.stop(process, drain + STOP_SECONDS):
                _say(f"process {number} did not stop: killed; what was running runs elsewhere")
            break
        if loop.time() - began >= STEADY_SECONDS:
            pause = PAUSE_SECONDS_MIN
        _say(f"process {number} ended with status {ended.result()}; again in {pause:g} s")
        await asyncio.wait((stopping,), timeout=pause)
        pause = min(2 * pause, PAUSE_SECONDS_MAX)
    stopping.cancel()


def _say(text: str) -> None:
    click.echo(text, err=True)
