"""The demo's service: books on a year of flights, kept by entities and closed by workflows.

Each flight is five calls, one for each book that it belongs in: its aircraft's, its two airports', its
carrier's and its day's. A day's last flight signals the day's workflow, which closes the day and signals
the year's.

Why the client starts those five calls itself: they are then accepted, once, in one transaction with those
of hundreds of other flights. Measured with 30,000 flights on 2 cores, calls a second:

    31,000  the client starts the five calls (this)
    16,000  the client starts one call, on the day, which starts the other four
     8,500  the client starts one workflow, which makes the five calls and waits for each

The other two count as exactly, for the ids of a call's own calls derive from its id, and are the better
choice where a client should not know which books there are.

Nobody asks what became of a `record`, so finished ones are not kept: `retention=0`. One that is accepted
and finished in the same batch is then never written, only what it did to its entity.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from fenbu import App, Bound, Entity, operation, step, wait_signal
from fenbu._cli.demo.flights import Flight

app = App("demo")


class Totals(Struct, frozen=True):
    """What a book says."""

    flights: int = 0
    cancelled: int = 0
    miles: int = 0
    """Of the flights that departed, as are the minutes."""
    delay_minutes: int = 0
    last_seen: datetime | None = None
    """The latest scheduled departure."""


class Report(Struct, frozen=True):
    """The closed books of a day, or of a year."""

    period: str
    flights: int
    cancelled: int
    miles: int
    delay_minutes: int
    mean_delay: float | None
    """Minutes a flight that departed; None if none did."""


class Book(Entity):
    """What all entities of the demo have in common."""

    flights: int = 0
    cancelled: int = 0
    miles: int = 0
    delay_minutes: int = 0
    last_seen: datetime | None = None

    @operation(retention=0)
    async def record(self, flight: Flight) -> None:
        """Count one more flight."""
        self.add(flight)

    @operation(read_only=True)
    async def totals(self) -> Totals:
        """What has been counted."""
        return Totals(self.flights, self.cancelled, self.miles, self.delay_minutes, self.last_seen)

    def add(self, flight: Flight) -> None:
        """An ordinary method: a part of the operation that calls it."""
        self.flights += 1
        if flight.delay_minutes is None:
            self.cancelled += 1
        else:
            self.miles += flight.miles
            self.delay_minutes += flight.delay_minutes
        if self.last_seen is None or flight.scheduled > self.last_seen:
            self.last_seen = flight.scheduled


@app.entity
class Aircraft(Book):
    """By tail number: `N14228`."""


@app.entity
class Airport(Book):
    """By code: `JFK`. A flight counts at both of its ends."""


@app.entity
class Carrier(Book):
    """By code: `UA`."""


@app.entity
class Day(Book):
    """By date: `2013-01-31`. It knows how many flights to expect, and tells when they are in."""

    expected: int | None = None

    @operation(retention=0)
    async def record(self, flight: Flight) -> None:
        """Count one more flight."""
        self.add(flight)
        await self._tell()

    @operation(retention=0)
    async def expect(self, flights: int) -> None:
        """Signal the day's workflow after so many flights."""
        self.expected = flights
        await self._tell()

    async def _tell(self) -> None:
        if self.flights == self.expected:
            await close_day.handle(closing(self.key)).signal("complete")


@app.workflow
async def close_day(day: str, flights: int) -> Report:
    """Wait until the day's flights are in, close its books and tell the year."""
    await Day(day).expect(flights)
    await wait_signal("complete")
    totals = await Day(day).totals()
    report = await step(summarise, day, totals)
    await step(file_report, report)
    await close_year.handle(closing(day[:4])).signal("day", report)
    return report


@app.workflow
async def close_year(year: str, days: int) -> Report:
    """Wait for the reports of the days and close the year's books."""
    reports = [await wait_signal("day", Report) for _ in range(days)]
    report = await step(add_up, year, reports)
    await step(file_report, report)
    return report


def closing(period: str) -> str:
    """The id of the workflow that closes a day or a year: with it anybody can reach it."""
    return f"close-{period}"


def calls_of(flight: Flight) -> Iterator[Bound[None]]:
    """The calls that count a flight, once in each book that it belongs in."""
    if flight.aircraft is not None:
        yield Aircraft(flight.aircraft).record.bind(flight)
    yield Airport(flight.origin).record.bind(flight)
    yield Airport(flight.destination).record.bind(flight)
    yield Carrier(flight.carrier).record.bind(flight)
    yield Day(flight.day).record.bind(flight)


# Steps: their outcomes are recorded, so they are not repeated after a crash once they have ended.


def summarise(period: str, totals: Totals) -> Report:
    """The report of a day."""
    departed = totals.flights - totals.cancelled
    return Report(
        period=period,
        flights=totals.flights,
        cancelled=totals.cancelled,
        miles=totals.miles,
        delay_minutes=totals.delay_minutes,
        mean_delay=totals.delay_minutes / departed if departed else None,
    )


def add_up(year: str, reports: list[Report]) -> Report:
    """The report of a year, from those of its days."""
    return summarise(
        year,
        Totals(
            flights=sum(each.flights for each in reports),
            cancelled=sum(each.cancelled for each in reports),
            miles=sum(each.miles for each in reports),
            delay_minutes=sum(each.delay_minutes for each in reports),
        ),
    )


def file_report(report: Report) -> None:
    """Write it below the worker's folder. If a crash makes it run again it writes the same again."""
    path = Path("reports", f"{report.period}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
