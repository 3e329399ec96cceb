"""The demo on a cluster that is being broken all the time: every total must be that of the file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fenbu import Bound
from fenbu._cli.demo import check, feed
from fenbu._cli.demo.app import app, calls_of, close_year, closing
from fenbu._cli.demo.flights import Flight, find_flights, read_flights
from fenbu._storage.open import storage_of
from tests.chaos import flights as program
from tests.chaos.rig import patiently, rig_of
from tests.demo.record import records
from tests.fixture.postgres import Server

FLIGHTS_PER_SECOND = 100
CHUNK = 20


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("message-once-in-order")
@pytest.mark.guarantee("no-split-brain")
@pytest.mark.end_to_end
def test_every_total_of_the_demo_is_exact(
    server: Server, tmp_path: Path, minutes: float, seed: int, real_flights: bool
) -> None:
    seconds = minutes * 60
    if real_flights:
        path, limit = find_flights(), int(seconds * FLIGHTS_PER_SECOND)
    else:
        path, limit = tmp_path / "flights.csv", None
        path.write_text(records(int(seconds * FLIGHTS_PER_SECOND)))
    flights = list(read_flights(path, limit))
    asyncio.run(_rage_and_check(server, tmp_path, seconds, seed, flights))


async def _rage_and_check(
    server: Server, folder: Path, seconds: float, seed: int, flights: list[Flight]
) -> None:
    expected = check.expect(flights)
    days = expected.flights_of_day
    async with rig_of(app, Path(program.__file__), server, folder, seed) as rig:
        await patiently(lambda: feed.open_books(days))
        feeding = asyncio.create_task(_feed(flights, seconds))
        await rig.rage(seconds)
        observer = storage_of(rig.url)
        await observer.open()
        async with asyncio.timeout(180):
            await feeding
            for year in {day[:4] for day in days}:
                await patiently(close_year.handle(closing(year)).result)
            counted = await check.collect(observer, days, folder)
        await observer.close()
        assert not check.differences(expected.books, counted)
        await rig.stop()
        rig.check()
        assert rig.completed("close_day") == len(days)


async def _feed(flights: list[Flight], seconds: float) -> None:
    """Start the calls of all flights, spread over so long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, chunk in enumerate(feed.chunks(flights, CHUNK)):
        calls = [
            Bound(each.function.options(id=f"f{number}-{place}"), each.args)
            for place, each in enumerate(call for flight in chunk for call in calls_of(flight))
        ]
        await patiently(lambda calls=calls: app.start_many(calls))
        due = began + seconds * number * CHUNK / len(flights)
        await asyncio.sleep(max(0.0, due - loop.time()))
