"""The proof itself: it counts right, and no wrong total gets past it."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from rich.console import Console

from fenbu._cli.demo.app import Report, Totals
from fenbu._cli.demo.check import Books, Expected, differences, expect
from fenbu._cli.demo.flights import parse
from fenbu._cli.demo.result import Result
from tests.demo.record import COLUMNS, record, records


def counted_as_expected(expected: Expected) -> Books:
    return {kind: dict(books) for kind, books in expected.books.items()}


def some() -> Expected:
    return expect(parse(records(40).splitlines()))


def test_it_counts():
    lines = [
        record(delay=10, miles=100, minute=1),
        record(delay="NA", miles=1000, minute=9, aircraft="NA"),
        record(delay=-4, miles=20, minute=5, origin="JFK", day=2),
    ]
    expected = expect(parse([COLUMNS, *lines]))
    first, last = (
        datetime(2013, 1, 1, 10, 9, tzinfo=UTC),
        datetime(2013, 1, 2, 10, 5, tzinfo=UTC),
    )
    assert expected.flights == 3
    assert expected.calls == 3 * 5 - 1
    assert expected.flights_of_day == {"2013-01-01": 2, "2013-01-02": 1}
    books = expected.books
    assert books["aircraft"] == {"N14228": Totals(2, 0, 120, 6, last)}
    assert books["airports"] == {
        "EWR": Totals(2, 1, 100, 10, first),
        "JFK": Totals(1, 0, 20, -4, last),
        "IAH": Totals(3, 1, 120, 6, last),
    }
    assert books["carriers"] == {"UA": Totals(3, 1, 120, 6, last)}
    assert books["days"]["2013-01-01"] == Totals(2, 1, 100, 10, first)
    assert books["day reports"]["2013-01-01"] == Report("2013-01-01", 2, 1, 100, 10, 10.0)
    assert books["year reports"] == {"2013": Report("2013", 3, 1, 120, 6, 3.0)}
    assert set(books["files"]) == {"2013", "2013-01-01", "2013-01-02"}


def test_a_day_without_departures_has_no_mean():
    expected = expect(parse([COLUMNS, record(delay="NA")]))
    assert expected.books["day reports"]["2013-01-01"] == Report("2013-01-01", 1, 1, 0, 0, None)


def test_what_is_right_has_no_differences():
    expected = some()
    assert differences(expected.books, counted_as_expected(expected)) == []


FIELDS = ["flights", "cancelled", "miles", "delay_minutes"]
KINDS = ["aircraft", "airports", "carriers", "days", "day reports", "year reports", "files"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_more_anywhere_is_found(kind: str, field: str):
    expected = some()
    counted = counted_as_expected(expected)
    key = next(iter(counted[kind]))
    wrong: Any = counted[kind][key]
    counted[kind][key] = msgspec.structs.replace(wrong, **{field: getattr(wrong, field) + 1})
    (found,) = differences(expected.books, counted)
    assert found.startswith(f"{kind}, {key}: expected ")


def test_two_errors_that_cancel_out_are_found():
    expected = some()
    counted = counted_as_expected(expected)
    (one, first), (other, second) = list(counted["carriers"].items())[:2]
    counted["carriers"][one] = msgspec.structs.replace(first, flights=first.flights + 1)
    counted["carriers"][other] = msgspec.structs.replace(second, flights=second.flights - 1)
    assert len(differences(expected.books, counted)) == 2


def test_a_wrong_instant_is_found():
    expected = some()
    counted = counted_as_expected(expected)
    key, right = next(iter(counted["airports"].items()))
    counted["airports"][key] = msgspec.structs.replace(right, last_seen=None)
    assert len(differences(expected.books, counted)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_book_too_few_or_too_many_is_found(kind: str):
    expected = some()
    counted = counted_as_expected(expected)
    key, book = counted[kind].popitem()
    assert differences(expected.books, counted) == [
        f"{kind}, {key}: expected {_words(book)}, counted no such book"
    ]
    counted = counted_as_expected(expected)
    counted[kind]["NA"] = book
    assert differences(expected.books, counted) == [
        f"{kind}, NA: expected no such book, counted {_words(book)}"
    ]


def test_a_kind_that_was_not_counted_is_found():
    expected = some()
    counted = counted_as_expected(expected)
    del counted["carriers"]
    assert len(differences(expected.books, counted)) == 3


def test_the_result_says_yes():
    expected = some()
    result = Result(expected=expected, counted=counted_as_expected(expected), seconds=2.0)
    assert json.loads(result.as_json())["ok"] is True
    text = _printed(result)
    assert "Every total is the one computed from the file." in text
    assert (text.count("✓"), text.count("✗")) == (7, 0)
    assert result.calls == expected.calls + 3 * 4 + 1
    assert f"{result.calls} calls, 10 steps and 8 signals in 2.0 s" in text


def test_the_result_says_no_and_where():
    expected = some()
    counted = counted_as_expected(expected)
    counted["carriers"].pop("UA")
    result = Result(expected=expected, counted=counted, seconds=2.0)
    found = json.loads(result.as_json())
    assert (found["ok"], found["differences"]) == (False, 1)
    assert [each["ok"] for each in found["books"].values()].count(False) == 1
    text = _printed(result)
    assert (text.count("✓"), text.count("✗")) == (6, 1)
    assert "carriers, UA: expected flights=" in text


def _printed(result: Result) -> str:
    console = Console(file=io.StringIO(), width=100)
    result.print(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _words(book: Totals | Report) -> str:
    return ", ".join(f"{key}={value}" for key, value in msgspec.structs.asdict(book).items())
