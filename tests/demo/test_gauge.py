"""How far the demo is: never further than it is, and at an end when nothing moves any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import Status
from fenbu._cli.demo import gauge as gauge_module
from fenbu._cli.demo.feed import chunks
from fenbu._cli.demo.gauge import Gauge, Stalled


class Database:
    """So many messages and calls, and nothing else."""

    def __init__(self) -> None:
        self.inbox = 0
        self.calls: dict[tuple[str, Status], int] = {}

    async def inbox_count(self) -> int:
        return self.inbox

    async def count_calls(self) -> dict[tuple[str, Status], int]:
        return self.calls


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def gauge(database: Database) -> Gauge:
    observer: Any = database
    return Gauge(observer, lambda _: None)


def test_a_call_is_applied_when_it_is_neither_message_nor_open(database: Database, gauge: Gauge):
    gauge.calls = 100
    database.inbox = 40
    database.calls = {
        ("Day.record", Status.PENDING): 7,
        ("Airport.record", Status.RUNNING): 3,
        ("close_day", Status.SUSPENDED): 5,
        ("close_day", Status.COMPLETED): 2,
    }
    asyncio.run(gauge.read())
    assert (gauge.in_flight, gauge.applied, gauge.days) == (50, 50, 2)


def test_what_was_applied_stays_applied(database: Database, gauge: Gauge):
    gauge.calls = 100
    asyncio.run(gauge.read())
    database.inbox = 30
    asyncio.run(gauge.read())
    assert (gauge.in_flight, gauge.applied) == (30, 100)


def test_a_run_that_loses_a_call_comes_to_an_end(gauge: Gauge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gauge_module, "STALLED_SECONDS", -1.0)
    gauge.calls = 100
    asyncio.run(gauge.read())
    with pytest.raises(Stalled):
        asyncio.run(gauge.read())


def test_chunks_hold_every_flight_once():
    numbers: Any = range(7)
    assert list(chunks(numbers, 3)) == [[0, 1, 2], [3, 4, 5], [6]]
