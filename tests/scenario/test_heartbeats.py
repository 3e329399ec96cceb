"""Heartbeats: how far a body is, for its next attempt, for whoever waits, and for those who watch over it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import fenbu
from fenbu import App, CallCancelled, CallTimedOut, EncodingError, Retry, UsageError, step
from fenbu.testing import crash_everywhere
from fenbu.testing import run as run_in_virtual_time

SOON = Retry(attempts=3, first_seconds=0)


async def seen(handle: fenbu.Handle[object], value: object) -> None:
    """Wait until its progress is this."""
    async with asyncio.timeout(20):
        while await handle.progress() != value:
            await asyncio.sleep(0)


@pytest.mark.parametrize("threaded", [False, True])
async def test_the_next_attempt_goes_on_where_the_last_one_was(app: App, threaded: bool) -> None:
    began: list[int | None] = []

    def work() -> str:
        attempt = fenbu.current_attempt()
        began.append(attempt.last_heartbeat(int))
        for number in range(began[-1] or 0, 10):
            fenbu.heartbeat(number)
            if number in (3, 6) and attempt.number < 3 and number > (began[-1] or 0):
                raise OSError(number)
        return "done"

    async def work_in_loop() -> str:
        return work()

    function = work if threaded else work_in_loop
    task = app.task(name="work", retry=SOON)(function)

    @app.workflow
    async def flow() -> str:
        return await step.options(retry=SOON)(function)

    async with app:
        handle = await task.start()
        assert await handle.result() == "done"
        assert began == [None, 3, 6]
        assert await handle.progress(int) == 9
        began.clear()
        assert await flow() == "done"
        assert began == [None, 3, 6]


async def test_progress_is_seen_from_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    node, client = App("one", url=url), App("two", url=url)
    go_on = asyncio.Event()

    @node.task
    async def copy() -> str:
        fenbu.heartbeat({"rows": 7})
        await go_on.wait()
        return "done"

    async with node, client.client():
        handle = await copy.options(id="c").start()
        await seen(client.handle("c"), {"rows": 7})
        await seen(handle, {"rows": 7})
        go_on.set()
        assert await client.handle("c").result() == "done"
        with pytest.raises(EncodingError):
            await handle.progress(int)


async def test_nothing_is_told_of_a_task_that_says_nothing(app: App) -> None:
    @app.task
    async def silent() -> None:
        assert fenbu.current_attempt().last_heartbeat() is None

    async with app:
        handle = await silent.start()
        await handle.result()
        assert await handle.progress() is None
        with pytest.raises(UsageError, match="belongs into the body"):
            fenbu.heartbeat(1)


async def test_heartbeats_cost_no_commit_each(app: App) -> None:
    commits: list[object] = []

    @app.task
    async def chatty() -> None:
        for number in range(10_000):
            fenbu.heartbeat(number)
            if number % 100 == 0:
                await asyncio.sleep(0)

    app.listen(commits.append)
    async with app:
        handle = await chatty.start()
        await handle.result()
        assert await handle.progress(int) == 9_999
    assert len(commits) < 100


async def test_a_value_that_cannot_be_stored_is_refused_where_it_is_given(app: App) -> None:
    @app.task
    async def wrong() -> str:
        with pytest.raises(EncodingError):
            fenbu.heartbeat(object())
        return "refused"

    async with app:
        assert await wrong() == "refused"


def test_silence_for_too_long_is_a_failure() -> None:
    app = App("silence", url="memory:")
    tries: list[int] = []

    @app.task(retry=SOON, heartbeat_timeout=10)
    async def flaky() -> str:
        tries.append(fenbu.current_attempt().number)
        for _ in range(5):
            await asyncio.sleep(9)
            fenbu.heartbeat()
        if len(tries) < 2:
            await asyncio.sleep(11)
        return "done"

    @app.workflow
    async def flow() -> str:
        return await step.options(heartbeat_timeout=1)(asyncio.sleep, 2, "never")

    async def scenario() -> None:
        assert await flaky() == "done"
        assert tries == [1, 2]
        with pytest.raises(CallTimedOut, match=r"sleep: attempt 1 gave no heartbeat for 1 s"):
            await flow()

    run_in_virtual_time(app, scenario)


async def test_a_plain_function_hears_that_nobody_waits_for_it(app: App) -> None:
    ended: asyncio.Queue[Exception] = asyncio.Queue()
    loop, over = asyncio.get_running_loop(), threading.Event()

    @app.task
    def endless() -> None:
        try:
            while True:
                fenbu.heartbeat()
                over.wait(0.001)
        except Exception as error:
            loop.call_soon_threadsafe(ended.put_nowait, error)
            raise

    async with app:
        handle = await endless.start()
        await seen(handle, None)
        await handle.cancel()
        with pytest.raises(CallCancelled):
            await handle.result()
        error = await asyncio.wait_for(ended.get(), 20)
        assert isinstance(error, CallCancelled)
        assert "nobody waits for it" in str(error)


@pytest.mark.guarantee("accepted-never-lost")
def test_it_survives_a_crash_anywhere_and_goes_on() -> None:
    app = App("heartbeats", url="memory:")
    starts: list[int] = []

    @app.task
    async def copy() -> int:
        start = fenbu.current_attempt().last_heartbeat(int) or 0
        starts.append(start)
        for number in range(start, 20):
            await asyncio.sleep(1)
            fenbu.heartbeat(number + 1)
        return 20

    @app.workflow
    async def flow() -> int:
        return await copy() + await step(copy.__wrapped__)

    assert crash_everywhere(app, flow) >= 20
    assert len(set(starts)) > 10


def test_after_a_drain_that_cut_it_the_last_heartbeat_is_there(tmp_path: Path) -> None:
    app = App("drained", url=f"sqlite:///{tmp_path}/app.db")
    beaten = threading.Event()

    @app.task
    async def hang() -> str:
        last = fenbu.current_attempt().last_heartbeat(str)
        if last is not None:
            return last
        fenbu.heartbeat("first")
        # Not reported by itself for another second.
        while await hang_handle().progress() != "first":
            await asyncio.sleep(0)
        fenbu.heartbeat("second")
        beaten.set()
        await asyncio.sleep(3600)
        return "never"

    def hang_handle() -> fenbu.Handle[str]:
        return hang.handle("h")

    async def cut() -> None:
        async with app:
            await hang.options(id="h").start()
            while not beaten.is_set():
                await asyncio.sleep(0)
            await app.close(drain_seconds=0)

    async def go_on() -> None:
        async with app:
            assert await hang_handle().result() == "second"

    asyncio.run(cut())
    asyncio.run(go_on())
