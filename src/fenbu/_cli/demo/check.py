"""The proof: what the file says, what the engine says, and every difference between them.

What the file says is computed here with nothing but additions: no fenbu, and none of the code that the
entities and workflows run. What the engine says is asked of each entity by a call, which comes after all
calls that were accepted before it, of each workflow by its result, and of the files that steps wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from fenbu import Handle
from fenbu._cli.demo.app import (
    Aircraft,
    Airport,
    Book,
    Carrier,
    Day,
    Report,
    Totals,
    app,
    close_day,
    close_year,
    closing,
)
from fenbu._cli.demo.flights import Flight
from fenbu._storage.observer import Observer

ENTITIES: Mapping[str, type[Book]] = {
    "aircraft": Aircraft,
    "airports": Airport,
    "carriers": Carrier,
    "days": Day,
}
ENTITIES_MAX = 100_000

RESULT_SECONDS_MAX = 60.0
"""A call that has not ended by then never will: its book is missing."""

Books: TypeAlias = dict[str, dict[str, Totals | Report]]
"""By kind and key. Kinds: those of ENTITIES, `day reports`, `year reports` and `files`."""


class Count:
    """The sums of one book."""

    __slots__ = ("cancelled", "delay_minutes", "flights", "last_seen", "miles")

    def __init__(self, first_seen: datetime) -> None:
        self.flights = self.cancelled = self.miles = self.delay_minutes = 0
        self.last_seen = first_seen

    def add(self, flight: Flight) -> None:
        """Add one flight."""
        departed = flight.delay_minutes is not None
        self.flights += 1
        self.cancelled += not departed
        self.miles += flight.miles * departed
        self.delay_minutes += flight.delay_minutes or 0
        self.last_seen = max(self.last_seen, flight.scheduled)

    def totals(self) -> Totals:
        """As an entity says it."""
        return Totals(self.flights, self.cancelled, self.miles, self.delay_minutes, self.last_seen)

    def report(self, period: str) -> Report:
        """As a workflow says it."""
        departed = self.flights - self.cancelled
        mean = self.delay_minutes / departed if departed else None
        return Report(period, self.flights, self.cancelled, self.miles, self.delay_minutes, mean)


class Expected(Struct):
    """What the file says."""

    flights: int
    calls: int
    """Of `record`: one for each book that each flight belongs in."""
    flights_of_day: dict[str, int]
    books: Books


def expect(flights: Iterable[Flight]) -> Expected:
    """Count the flights directly."""
    counts: dict[str, dict[str, Count]] = {kind: {} for kind in (*ENTITIES, "years")}
    calls = 0
    for flight in flights:
        places = [
            ("airports", flight.origin),
            ("airports", flight.destination),
            ("carriers", flight.carrier),
            ("days", flight.day),
        ]
        if flight.aircraft is not None:
            places.append(("aircraft", flight.aircraft))
        calls += len(places)
        for kind, key in (*places, ("years", flight.day[:4])):
            count = counts[kind].get(key)
            if count is None:
                count = counts[kind][key] = Count(flight.scheduled)
            count.add(flight)
    years = {year: count.report(year) for year, count in counts.pop("years").items()}
    days = {day: count.report(day) for day, count in counts["days"].items()}
    books: Books = {
        kind: {key: count.totals() for key, count in of_kind.items()}
        for kind, of_kind in counts.items()
    }
    books.update({"day reports": {**days}, "year reports": {**years}, "files": {**days, **years}})
    flights_of_day = {day: report.flights for day, report in days.items()}
    return Expected(sum(flights_of_day.values()), calls, flights_of_day, books)


async def collect(observer: Observer, flights_of_day: Iterable[str], folder: Path) -> Books:
    """Ask entities, workflows and files what they have counted."""
    books: Books = {}
    for kind, entity in ENTITIES.items():
        found = await observer.list_entities(entity.__name__, limit=ENTITIES_MAX)
        keys = sorted(each.key for each in found)
        handles = await app.start_many([entity(key).totals.bind() for key in keys])
        books[kind] = await _results(dict(zip(keys, handles, strict=True)))
    days = sorted(flights_of_day)
    years = sorted({day[:4] for day in days})
    books["day reports"] = await _results({day: close_day.handle(closing(day)) for day in days})
    books["year reports"] = await _results(
        {year: close_year.handle(closing(year)) for year in years}
    )
    books["files"] = {
        path.stem: msgspec.json.decode(path.read_bytes(), type=Report)
        for path in (folder / "reports").glob("*.json")
    }
    return books


async def _results(
    handles: Mapping[str, Handle[Totals] | Handle[Report]],
) -> dict[str, Totals | Report]:
    """By key, of the calls that have ended well."""
    results = await asyncio.gather(
        *(each.result(RESULT_SECONDS_MAX) for each in handles.values()), return_exceptions=True
    )
    return {
        key: result
        for key, result in zip(handles, results, strict=True)
        if not isinstance(result, BaseException)
    }


def differences(expected: Books, counted: Books) -> list[str]:
    """Each book that is not what it should be, in words; nothing if all are."""
    return [
        f"{kind}, {key}: expected {_words(wanted.get(key))}, counted {_words(got.get(key))}"
        for kind in sorted({*expected, *counted})
        for wanted, got in [(expected.get(kind, {}), counted.get(kind, {}))]
        for key in sorted({*wanted, *got})
        if wanted.get(key) != got.get(key)
    ]


def _words(book: Totals | Report | None) -> str:
    if book is None:
        return "no such book"
    return ", ".join(f"{name}={value}" for name, value in msgspec.structs.asdict(book).items())
