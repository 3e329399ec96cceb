"""The run: feeds a year of flights, kills the worker on the way, and collects what was counted.

This process is a client only: it runs no call, and all that it knows comes from the database.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from fenbu._cli.demo.app import app
from fenbu._cli.demo.check import Expected, collect, expect
from fenbu._cli.demo.feed import feed, open_books
from fenbu._cli.demo.flights import read_flights
from fenbu._cli.demo.gauge import Gauge, Stalled
from fenbu._cli.demo.result import Restart, Result
from fenbu._cli.demo.screen import Screen
from fenbu._cli.demo.worker import Worker
from fenbu._storage.open import storage_of
from fenbu.errors import FenbuError, UsageError

KILL_AT = (1 / 3, 2 / 3)
"""Of the calls: the worker is killed when so many have been applied."""


async def run(
    path: Path, worker: Worker, screen: Screen, *, limit: int | None = None, kill: bool = True
) -> Result:
    """Run the demo once, on a new database.

    Args:
        path: The file of flights.
        worker: Not started yet; whoever made it stops it, whatever happens here.
        screen: Where the story is told.
        limit: How many flights; None: all.
        kill: Whether to kill the worker on the way.

    Raises:
        UsageError: The file holds no flights.
        WorkerLost: The worker ended, and it was not killed from here.
    """
    screen.say(f"reading {path.name}")
    expected = await asyncio.to_thread(lambda: expect(read_flights(path, limit)))
    if not expected.flights:
        raise UsageError(f"{path} holds no flights")
    days = expected.flights_of_day
    screen.expect(flights=expected.flights, calls=expected.calls, days=len(days))
    app.url = worker.url
    observer = storage_of(worker.url)
    await observer.open()
    try:
        async with app.client():
            gauge = Gauge(observer, screen.show)
            began = time.monotonic()
            restarts = await _work(path, worker, screen, gauge, expected, limit=limit, kill=kill)
            seconds = time.monotonic() - began
            screen.say("asking every entity and workflow what it has counted")
            counted = await collect(observer, days, worker.folder)
    finally:
        await observer.close()
    return Result(expected=expected, counted=counted, seconds=seconds, restarts=restarts)


async def _work(
    path: Path,
    worker: Worker,
    screen: Screen,
    gauge: Gauge,
    expected: Expected,
    *,
    limit: int | None,
    kill: bool,
) -> list[Restart]:
    """Until everything is applied and closed, or nothing moves: the comparison says what is missing."""
    ready = await worker.start()
    screen.say(f"worker {worker.pid} is ready after {ready:.1f} s")
    restarts: list[Restart] = []
    try:
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(gauge.run()), group.create_task(worker.watch())]
            await open_books(expected.flights_of_day)
            feeding = group.create_task(
                feed(read_flights(path, limit), gauge, total=expected.flights)
            )
            if kill:
                for part in KILL_AT:
                    await gauge.until_busy(int(expected.calls * part))
                    restarts.append(await _restart(worker, screen, gauge, expected.calls))
            await feeding
            books = expected.books
            await gauge.until_done(expected.calls, len(books["days"]), len(books["year reports"]))
            for each in watching:
                each.cancel()
    except* Stalled as group:
        screen.say(f"{group.exceptions[0]}: comparing what there is")
    except* FenbuError as group:
        raise group.exceptions[0] from None
    return restarts


async def _restart(worker: Worker, screen: Screen, gauge: Gauge, calls: int) -> Restart:
    """Kill the worker and start another; meanwhile the feeding goes on."""
    pid, began = worker.pid, time.monotonic()
    await worker.kill()
    await gauge.read()
    applied, in_flight = gauge.applied, gauge.in_flight
    screen.say(f"killed worker {pid} with SIGKILL, {in_flight:,} calls in flight")
    await worker.start()
    ready_seconds = time.monotonic() - began
    await gauge.until_applied(min(applied + 1, calls))
    resumed_seconds = time.monotonic() - began
    screen.say(
        f"worker {worker.pid} is ready after {ready_seconds:.2f} s, and at work after {resumed_seconds:.2f} s"
    )
    return Restart(
        applied=applied,
        in_flight=in_flight,
        ready_seconds=round(ready_seconds, 3),
        resumed_seconds=round(resumed_seconds, 3),
    )
