"""Replay: the same code sees the same, and other code is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fenbu._api.context import now, random, uuid4
from fenbu._api.signal import wait_signal
from fenbu._api.step import step
from fenbu._core.message import Retry, Signal
from fenbu._core.model import Kind, Status
from fenbu._core.retry import Retry as RetryPolicy
from tests.unit.drive import Drive, bodies


async def act(n: Any) -> Any:
    return n


async def other(n: Any) -> Any:
    return n


async def group() -> list[int]:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(step(act, n)) for n in range(4)]
    return [each.result() for each in made]


async def completed() -> list[int]:
    async def one(n: int) -> int:
        await step(act, n)
        return await step(other, n)

    return [await each for each in asyncio.as_completed([one(n) for n in range(4)])]


async def first() -> list[str]:
    tasks = [asyncio.create_task(step(act, n), name=str(n)) for n in range(4)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return [each.get_name() for each in done]


async def tools() -> list[Any]:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    lock, event = asyncio.Lock(), asyncio.Event()

    async def produce(n: int) -> None:
        async with lock:
            queue.put_nowait(await step(act, n))
        if queue.qsize() == 3:
            event.set()

    tasks = [asyncio.create_task(produce(n)) for n in range(3)]
    await event.wait()
    await asyncio.gather(*tasks)
    return [await queue.get() for _ in tasks]


async def chance() -> list[str]:
    seen = [str(now()), str(random()), str(uuid4())]
    await step(act, 1)
    return [*seen, str(now()), str(random()), str(uuid4())]


def finish(drive: Drive, effects: Any, *, crash: bool) -> None:
    """Let all bodies end, last started first, with a crash after each if asked for."""
    waiting = bodies(effects)
    steps = 0
    while waiting:
        steps += 1
        body = waiting.pop()
        drive.now += 1
        released = bodies(drive.completed(body, body.args[0]))
        if crash and drive.rows["a"].finished_at is None:
            before = sorted(each.command for each in [*waiting, *released])
            drive.start()
            waiting = bodies(drive.load_ready("a"))
            assert sorted(each.command for each in waiting) == before
            waiting.sort(key=lambda each: before.index(each.command))
        else:
            waiting += released
            waiting.sort(key=lambda each: each.command)
    assert steps < 50


@pytest.mark.guarantee("replay-same")
@pytest.mark.parametrize("code", [group, completed, first, tools, chance])
def test_a_crash_after_every_event_changes_nothing(code: Callable[[], Awaitable[Any]]) -> None:
    results = []
    for crash in (False, True):
        drive = Drive()
        drive.register(code, Kind.WORKFLOW)
        finish(drive, drive.call(code.__name__, id="a"), crash=crash)
        row = drive.rows["a"]
        assert row.status is Status.COMPLETED, row.failure
        results.append((row.result, [(e.kind, e.command, e.commands) for e in drive.entries["a"]]))
    assert results[0] == results[1]


def changed(drive: Drive, code: Callable[[], Awaitable[Any]]) -> None:
    """Deploy: the handler `work` has another body now."""
    drive.registry._specs.clear()
    drive.registry._latest.clear()
    code.__name__ = "work"
    drive.register(code, Kind.WORKFLOW)
    drive.start()


def begin(drive: Drive) -> None:
    async def work() -> None:
        await step(act, 1)
        await step(act, 2)

    drive.register(work, Kind.WORKFLOW)
    drive.completed(*bodies(drive.call("work", id="a")), 1)


async def asks_for_other() -> None:
    await step(act, 1)
    await step(other, 2)


async def asks_for_more() -> None:
    await step(act, 1)
    asyncio.create_task(step(other, 2))  # noqa: RUF006
    await step(act, 2)


async def ends_early() -> None: ...


@pytest.mark.guarantee("replay-same")
@pytest.mark.parametrize("code", [asks_for_other, asks_for_more, ends_early])
def test_changed_code_is_stuck_and_goes_on_when_it_is_fixed(code: Any) -> None:
    drive = Drive()
    begin(drive)
    changed(drive, code)
    drive.load_ready("a")
    row = drive.rows["a"]
    assert row.status is Status.STUCK
    assert row.failure is not None
    assert row.failure.type == "fenbu.errors:NonDeterminismError"
    assert "work a, journal position" in row.failure.message
    assert "test_replay.py:" in row.failure.message
    assert drive.entries["a"][0].status is Status.COMPLETED

    async def fixed() -> None:
        await step(act, 1)
        await step(act, 3)

    changed(drive, fixed)
    drive.event_after_load(Retry(0, "a"))
    (body,) = bodies(drive.load_ready("a"))
    drive.completed(body, 3)
    assert drive.rows["a"].status is Status.COMPLETED


def test_moved_lines_are_no_difference() -> None:
    drive = Drive()
    begin(drive)

    async def moved() -> None:
        await step(act, "another argument")

        await step(act, 2)

    changed(drive, moved)
    assert len(bodies(drive.load_ready("a"))) == 1


def test_signals_queue_until_they_are_asked_for() -> None:
    async def listens() -> list[int]:
        await step(act, 1)
        return [await wait_signal("n", int), await wait_signal("n", int)]

    drive = Drive()
    drive.register(listens, Kind.WORKFLOW)
    (body,) = bodies(drive.call("listens", id="a"))
    drive.message(Signal(0, "a", "n", "1"))
    drive.message(Signal(0, "a", "n", "2"))
    drive.completed(body, 1)
    assert drive.rows["a"].result == "[1,2]"


def test_a_signal_for_a_cancelled_wait_goes_to_the_next() -> None:
    async def listens() -> list[int]:
        waiting = asyncio.create_task(wait_signal("n", int))
        await step(act, 1)
        waiting.cancel()
        return [await wait_signal("n", int)]

    drive = Drive()
    drive.register(listens, Kind.WORKFLOW)
    (body,) = bodies(drive.call("listens", id="a"))
    drive.completed(body, 1)
    drive.message(Signal(0, "a", "n", "7"))
    assert drive.rows["a"].result == "[7]"


@pytest.mark.parametrize("waited", [10.0, 1000.0])
def test_the_total_time_of_a_steps_attempts_counts_across_a_restart(waited: float) -> None:
    drive = Drive()
    policy = RetryPolicy(attempts=None, first_seconds=1, jitter=0, total_seconds=100)

    async def work() -> int:
        return await step.options(retry=policy)(act, 1)

    drive.register(work, Kind.WORKFLOW)
    (body,) = bodies(drive.call("work", id="a"))
    drive.failed(body, ValueError("not now"), retryable=True)
    drive.start()
    drive.load_ready("a")
    (again,) = bodies(drive.tick(waited))
    assert again.attempt == 2
    drive.failed(again, ValueError("not now"), retryable=True)
    expected = "step_retrying" if waited < 100 else "step_failed"
    assert [each.kind for each in drive.entries["a"]] == ["step_retrying", expected]
