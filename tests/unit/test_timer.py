"""The queue of instants: what no longer matters does not pile up in it."""

from __future__ import annotations

import asyncio

from fenbu._core.model import Kind
from fenbu._core.timer import COMPACT_MIN, TimerQueue
from tests.unit.drive import Drive


def test_entries_that_no_longer_matter_are_forgotten() -> None:
    queue = TimerQueue()
    open_calls = {f"call-{n}" for n in range(0, COMPACT_MIN, 16)}
    for n in range(COMPACT_MIN):
        queue.push(1000.0 - n % 7, 3, f"call-{n}", n)
        queue.compact(lambda _, id_: id_ in open_calls)
    found = list(iter(lambda: queue.pop_due(2000.0), None))
    assert {id_ for _, id_, _ in found} == open_calls
    assert len(found) == len(open_calls)
    instants = [1000.0 - number % 7 for _, _, number in found]
    assert instants == sorted(instants)


def test_timers_of_calls_that_ended_early_do_not_fill_memory(drive: Drive) -> None:
    async def quick() -> None: ...

    drive.register(quick, Kind.WORKFLOW, timeout_seconds=3600.0)
    for n in range(2 * COMPACT_MIN):
        drive.call("quick", id=f"q{n}", deadline_at=drive.now + 3600.0)
    assert len(drive.engine.timers) < COMPACT_MIN + 1


def test_timers_of_calls_that_have_left_memory_do_not_stay_behind(drive: Drive) -> None:
    async def sleeper() -> None:
        await asyncio.sleep(50_000)

    drive.register(sleeper, Kind.WORKFLOW)
    for n in range(COMPACT_MIN):
        drive.call("sleeper", id=f"s{n}")
    assert len(drive.engine.timers) == COMPACT_MIN
    drive.tick(60.0)
    drive.tick(60.0)
    assert {each.status for each in drive.rows.values()} == {"suspended"}
    assert len(drive.engine.timers) == 0


def test_too_many_idle_calls_are_evicted_at_once(drive: Drive) -> None:
    async def sleeper() -> None:
        await asyncio.sleep(500)

    drive.register(sleeper, Kind.WORKFLOW)
    drive.engine.idle._calls_max = 3
    for n in range(3):
        drive.call("sleeper", id=f"s{n}")
    wanted = drive.engine.next_tick()
    assert wanted is not None
    assert wanted > drive.now
    drive.call("sleeper", id="s3")
    assert drive.engine.next_tick() == drive.now
    drive.tick()
    assert drive.rows["s0"].status == "suspended"
    assert drive.rows["s1"].status == "running"
