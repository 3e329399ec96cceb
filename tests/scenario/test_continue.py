"""Workflows that begin anew, journals that grow too long, and what becomes of children when a parent ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fenbu
from fenbu import (
    App,
    CallCancelled,
    Entity,
    HistoryTooLong,
    Status,
    UsageError,
    saga,
    step,
    wait_signal,
)
from fenbu._core import limit
from fenbu.testing import crash_everywhere, run


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    async def write(self, line: str) -> str:
        self.lines.append(line)
        return line


@pytest.fixture
def log() -> Log:
    return Log()


def counter_of(app: App, log: Log) -> Any:
    @app.workflow(name="count")
    async def count(n: int, until: int) -> int:
        await step(log.write, f"{n}")
        if n < until:
            count.continue_as_new(n + 1, until)
        return n

    return count


async def test_it_goes_on_as_the_same_call_without_history(app: App, log: Log) -> None:
    count = counter_of(app, log)
    async with app:
        handle = await count.options(id="c").start(0, 20)
        assert await handle.result() == 20
        assert log.lines == [str(n) for n in range(21)]
        (loaded,) = await app.runtime.gateway.storage.load_calls(["c"])
        assert len(loaded.entries) == 1
        assert await handle.status() is Status.COMPLETED


def test_it_survives_a_crash_anywhere() -> None:
    app, log = App("anew", url="memory:"), Log()
    count = counter_of(app, log)
    assert crash_everywhere(app, count, 0, 3) >= 4
    assert set(log.lines) == {"0", "1", "2", "3"}


def collector_of(app: App) -> Any:
    @app.workflow(name="collect")
    async def collect(seen: list[int], each: int, until: int) -> list[int]:
        """Takes a few signals in each run."""
        seen += [await wait_signal("n", int) for _ in range(each)]
        if len(seen) < until:
            collect.continue_as_new(seen, each, until)
        return seen

    return collect


@pytest.mark.parametrize("each", [1, 3])
async def test_signals_that_were_not_read_go_with_it_in_order(app: App, each: int) -> None:
    collect = collector_of(app)
    async with app:
        handle = await collect.start([], each, 30)
        for n in range(32):
            await handle.signal("n", n)
        # It takes `each` at a time: the last run may have taken some that nobody asked for.
        assert (await handle.result())[:30] == list(range(30))


def test_signals_are_neither_lost_nor_doubled_by_crashes() -> None:
    app = App("anew", url="memory:")
    collect = collector_of(app)

    async def scenario() -> list[int]:
        handle = await collect.options(id="c").start([], 2, 6)
        for n in range(6):
            await handle.signal("n", n)
            if n % 3 == 0:
                await asyncio.sleep(1)
        result: list[int] = await handle.result()
        assert result == list(range(6))
        return result

    assert crash_everywhere(app, scenario) >= 3


async def test_it_takes_another_version_of_itself(app: App) -> None:
    async def new(n: int) -> str:
        return f"new {n}"

    newer = app.workflow(name="poll", version=2)(new)

    @app.workflow(name="poll", version=1)
    async def old(n: int) -> str:
        await asyncio.sleep(0.01)
        newer.continue_as_new(n)

    async with app:
        assert await old(7) == "new 7"


async def test_what_the_run_before_has_left_does_not_reach_the_next(app: App, log: Log) -> None:
    """Its commands have the same numbers: a step, a timer, and a child that ends later."""
    gate = asyncio.Event()
    late = asyncio.Event()

    async def hang(n: int) -> str:
        if n == 0:
            await late.wait()
            return "old"
        await gate.wait()
        return "new"

    @app.task(name="child")
    async def child(n: int) -> str:
        return await hang(n)

    @app.workflow(name="race")
    async def race(n: int) -> list[str]:
        work = [asyncio.ensure_future(step(hang, n)), asyncio.ensure_future(child(n))]
        timer = asyncio.ensure_future(asyncio.sleep(0.05 if n == 0 else 0.5))
        await wait_signal("go")
        if n == 0:
            race.continue_as_new(1)
        await asyncio.gather(*work, timer)
        return [each.result() for each in work]

    async with app:
        handle = await race.start(0)
        await handle.signal("go")
        await handle.signal("go")
        late.set()
        gate.set()
        assert await handle.result() == ["new", "new"]


async def test_whoever_waits_goes_on_waiting(app: App, log: Log) -> None:
    count = counter_of(app, log)

    @app.workflow(name="parent")
    async def parent() -> int:
        return await count(0, 3)

    async with app:
        assert await parent() == 3


async def test_a_call_that_was_asked_to_stop_does_not_go_on(app: App) -> None:
    @app.workflow(name="stubborn")
    async def stubborn() -> None:
        try:
            await wait_signal("never")
        except asyncio.CancelledError:
            stubborn.continue_as_new()

    async with app:
        handle = await stubborn.start()
        await handle.cancel()
        with pytest.raises(CallCancelled):
            await handle.result()


async def test_where_it_does_not_belong(app: App, log: Log) -> None:
    count = counter_of(app, log)

    @app.workflow(name="other")
    async def other() -> None:
        count.continue_as_new(1, 2)

    @app.workflow(name="undoing")
    async def undoing(n: int) -> None:
        async with saga() as undo:
            undo(log.write, "undone")
            undoing.continue_as_new(n + 1)

    @app.workflow(name="forever")
    async def forever(n: int) -> None:
        forever.continue_as_new(n + 1)

    with pytest.raises(UsageError, match="belongs into the code of a workflow"):
        count.continue_as_new(1, 2)
    async with app:
        with pytest.raises(UsageError, match="other can only continue as itself"):
            await other()
        with pytest.raises(UsageError, match="would forget what is to be undone"):
            await undoing(0)
        assert log.lines == ["undone"]
        with pytest.raises(UsageError, match=r"continued as new .* times without waiting"):
            await forever(0)


def test_a_journal_that_is_too_long_ends_the_call_with_advice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (("WARN", 10), ("MAX", 20), ("CLEANUP", 5)):
        monkeypatch.setattr(limit, f"JOURNAL_ENTRIES_{name}", value)
    app, log = App("long", url="memory:"), Log()

    @app.workflow(name="endless")
    async def endless() -> None:
        try:
            while True:
                await step(log.write, f"{fenbu.journal_length()}")
        finally:
            await step(log.write, "cleaned up")

    @app.workflow(name="greedy")
    async def greedy() -> None:
        while True:
            try:
                await step(log.write, "more")
            except asyncio.CancelledError:
                continue

    async def scenario() -> None:
        with pytest.raises(HistoryTooLong, match="continue_as_new"):
            await endless()
        assert log.lines[:3] == ["0", "1", "2"]
        assert log.lines[-1] == "cleaned up"
        assert len(log.lines) <= 22
        with pytest.raises(HistoryTooLong):
            await greedy()

    run(app, scenario)
    assert "has 10 entries, and may have 20" in caplog.text


# Children.


def family_of(app: App) -> Any:
    @app.workflow(name="child")
    async def child() -> str:
        return await wait_signal("go", str)

    @app.workflow(name="parent")
    async def parent(policy: Any) -> str:
        bound = child.options(id="kid", on_parent_end=policy)
        await bound.start()
        return await wait_signal("end", str)

    return parent, child


async def test_a_child_that_is_abandoned_goes_on(app: App) -> None:
    parent, child = family_of(app)
    async with app:
        handle = await parent.start("abandon")
        await handle.signal("end", "done")
        assert await handle.result() == "done"
        kid = child.handle("kid")
        await kid.signal("go", "late")
        assert await kid.result() == "late"


async def test_a_child_is_asked_to_stop_when_its_parent_ends(app: App) -> None:
    parent, child = family_of(app)
    async with app:
        handle = await parent.start("cancel")
        await handle.signal("end", "done")
        assert await handle.result() == "done"
        with pytest.raises(CallCancelled):
            await child.handle("kid").result()


async def test_a_parent_ends_after_the_child_that_it_waits_for(app: App) -> None:
    parent, child = family_of(app)
    async with app:
        handle = await parent.start("wait")
        await handle.signal("end", "done")
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.2)
        await child.handle("kid").signal("go", "now")
        assert await handle.result() == "done"
        assert await child.handle("kid").result() == "now"


async def test_a_parent_that_is_cancelled_cancels_the_child_that_it_waits_for(app: App) -> None:
    parent, child = family_of(app)
    async with app:
        handle = await parent.start("wait")
        while not await _exists(child.handle("kid")):
            await asyncio.sleep(0)
        await handle.cancel()
        with pytest.raises(CallCancelled):
            await handle.result()
        with pytest.raises(CallCancelled):
            await child.handle("kid").result()


async def _exists(handle: Any) -> bool:
    try:
        await handle.status()
    except fenbu.CallNotFound:
        return False
    return True


@pytest.mark.parametrize("policy", ["abandon", "cancel", "wait"])
def test_children_survive_crashes_anywhere(policy: str) -> None:
    app = App("family", url="memory:")

    @app.entity
    class Tally(Entity):
        count: int = 0

        async def add(self) -> int:
            self.count += 1
            return self.count

    @app.workflow(name="child")
    async def child() -> str:
        try:
            await asyncio.sleep(60)
            return "slept"
        finally:
            await Tally("ended").add()

    @app.workflow(name="parent")
    async def parent() -> str:
        await child.options(id="kid", on_parent_end=policy).start()
        await asyncio.sleep(1)
        return "done"

    async def scenario() -> list[str]:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        first = await parent.options(id="p").start()
        result = await first.result()
        took = loop.time() - begin
        try:
            kid = await child.handle("kid").result()
        except CallCancelled:
            kid = "cancelled"
        return [result, kid, "waited" if took > 50 else "at once"]

    assert crash_everywhere(app, scenario) >= 2
    expected = {
        "abandon": ["done", "slept", "at once"],
        "cancel": ["done", "cancelled", "at once"],
        "wait": ["done", "slept", "waited"],
    }
    assert run(app, scenario) == expected[policy]


def test_a_policy_that_does_not_exist(app: App) -> None:
    with pytest.raises(UsageError, match="'abandon', 'cancel' or 'wait'"):
        family_of(app)[1].options(on_parent_end="forget")
