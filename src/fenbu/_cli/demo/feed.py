"""The client's side: opens the books, then starts the calls of flight after flight.

A client may start calls faster than the worker applies them, or while there is no worker at all: they
wait in the inbox. So that the inbox stays small it waits, after each chunk, until no more than
`IN_FLIGHT_MAX` calls are in flight. More in flight would not be faster, and a worker that starts on them has
to read them first. One operation in fifteen is on the same airport, so 8,000 calls are some 500 of it, half
of what one entity's mailbox holds in memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from fenbu._cli.demo.app import app, calls_of, close_day, close_year, closing
from fenbu._cli.demo.flights import Flight
from fenbu._cli.demo.gauge import Gauge

CHUNK_FLIGHTS = 500
"""Fed in one transaction: 2,500 calls, 30 ms of encoding."""

IN_FLIGHT_MAX = 8_000

WAIT_SECONDS = 0.02


async def open_books(flights_of_day: Mapping[str, int]) -> None:
    """Start the workflows, which wait for their flights.

    Args:
        flights_of_day: How many flights each day has.
    """
    days_of_year = Counter(day[:4] for day in flights_of_day)
    years = [
        close_year.options(id=closing(year)).bind(year, days) for year, days in days_of_year.items()
    ]
    days = [
        close_day.options(id=closing(day)).bind(day, flights)
        for day, flights in flights_of_day.items()
    ]
    await app.start_many([*years, *days])


async def feed(flights: Iterable[Flight], gauge: Gauge, *, total: int) -> None:
    """Start the calls of all flights, chunk by chunk."""
    # A short run is fed in smaller pieces, so that it too is killed while it is being fed.
    chunk_flights = max(1, min(CHUNK_FLIGHTS, total // 20))
    in_flight_max = min(IN_FLIGHT_MAX, 15 * chunk_flights)
    for chunk in chunks(flights, chunk_flights):
        calls = [call for flight in chunk for call in calls_of(flight)]
        async with gauge.turn:
            await app.start_many(calls)
            gauge.flights += len(chunk)
            gauge.calls += len(calls)
        await gauge.read()
        while gauge.in_flight > in_flight_max:
            await asyncio.sleep(WAIT_SECONDS)
            await gauge.read()


def chunks(flights: Iterable[Flight], size: int) -> Iterator[list[Flight]]:
    """The flights in lists of so many."""
    rest = iter(flights)
    while chunk := list(islice(rest, size)):
        yield chunk
