"""Soft and hard limits of an attempt's time."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import fenbu
from fenbu import App, CallCancelled, CallTimedOut, Retry, SoftTimeout, UsageError, step
from fenbu._node.processes import Processes
from fenbu._node.worker import Job
from fenbu.testing import run as run_in_virtual_time

SOON = Retry(attempts=3, first_seconds=0)

cpu_app = App("cpu-limits", url="memory:", processes=2)


@cpu_app.task(cpu=True, attempt_timeout=0.5, retry=SOON)
def spin(path: str) -> int:
    attempt = fenbu.current_attempt()
    if attempt.number < 2:
        with Path(path).open("a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            pass
    return attempt.number


@cpu_app.task(cpu=True)
def wait_for_file(path: str) -> int:
    while not Path(path).exists():
        time.monotonic()
    return os.getpid()


@cpu_app.task(cpu=True, soft_timeout=0.2)
def told(caught: bool) -> str:
    attempt = fenbu.current_attempt()
    try:
        while True:
            attempt.heartbeat("spinning")
    except SoftTimeout:
        if caught:
            assert attempt.time_is_up.is_set()
            return "in time"
        raise


@cpu_app.task(cpu=True, retry=SOON)
def resumes() -> int:
    attempt = fenbu.current_attempt()
    if attempt.number < 3:
        attempt.heartbeat((attempt.last_heartbeat(int) or 0) + 10)
        raise OSError
    return attempt.last_heartbeat(int) or 0


@cpu_app.task(cpu=True)
def dies() -> None:
    os._exit(7)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.end_to_end
def test_a_hard_limit_ends_the_process_and_disturbs_no_other(tmp_path) -> None:
    async def main() -> None:
        async with cpu_app:
            other = await wait_for_file.start(f"{tmp_path}/go")
            assert await spin(f"{tmp_path}/pids") == 2
            (killed,) = {int(each) for each in (tmp_path / "pids").read_text("ascii").split()}
            (tmp_path / "go").touch()
            assert await other.result() != killed
            assert await other.status() is fenbu.Status.COMPLETED
            while alive(killed):
                await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.end_to_end
def test_bodies_in_processes_are_told_of_their_limit_and_can_beat() -> None:
    async def main() -> None:
        async with cpu_app:
            assert await told(True) == "in time"
            with pytest.raises(CallTimedOut, match=r"soft timeout of 0\.2 s"):
                await told(False)
            assert await resumes() == 20
            with pytest.raises(BrokenProcessPool, match="exit code 7"):
                await dies()
            # The pool is whole again.
            assert await resumes() == 20

    asyncio.run(main())


@pytest.mark.end_to_end
def test_a_cancelled_body_does_not_go_on_in_its_process(tmp_path) -> None:
    async def main() -> None:
        async with cpu_app:
            handle = await spin.start(f"{tmp_path}/pids")
            while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text("ascii"):
                await asyncio.sleep(0)
            pid = int((tmp_path / "pids").read_text("ascii").split()[0])
            await handle.cancel()
            with pytest.raises(CallCancelled):
                await handle.result()
            while alive(pid):
                await asyncio.sleep(0)

    asyncio.run(main())


def pid_after_growing(megabytes: int) -> int:
    globals()["kept"] = bytearray(megabytes * 2**20)
    return os.getpid()


def job(*args: object) -> Job:
    return Job(
        __name__, "pid_after_growing", args, {}, "id", 0, 1, "grow", "run", None, None, None, None
    )


@pytest.mark.end_to_end
def test_processes_are_replaced_by_count_and_by_memory() -> None:
    def ignore(value: object = None) -> None: ...

    async def main() -> None:
        by_count = Processes(1, 2, None)
        pids = [await by_count.run(job(0), ignore, ignore) for _ in range(5)]
        await by_count.close()
        assert [len(set(each)) for each in (pids[:2], pids[2:4], pids)] == [1, 1, 3]
        by_memory = Processes(1, None, 150)
        pids = [await by_memory.run(job(each), ignore, ignore) for each in (0, 0, 200, 0)]
        await by_memory.close()
        assert len(set(pids[:3])) == 1
        assert pids[3] != pids[0]
        assert not any(alive(pid) for pid in pids)

    asyncio.run(main())


# Coroutines and threads.


def test_a_coroutine_is_told_and_can_save_what_it_has() -> None:
    app = App("soft", url="memory:")
    cancelled: list[int] = []

    async def part(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    @app.task(soft_timeout=10, attempt_timeout=20)
    async def save() -> str:
        assert fenbu.current_attempt().remaining_seconds == pytest.approx(10)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(part(number))
        except SoftTimeout:
            await asyncio.sleep(5)
            return f"saved {fenbu.current_attempt().remaining_seconds:.3f} s before the end"
        return "never"

    @app.task(soft_timeout=10)
    async def careless() -> None:
        try:
            await asyncio.sleep(3600)
        except Exception:  # A soft timeout is not of them.
            raise AssertionError from None

    @app.task(soft_timeout=10, attempt_timeout=20)
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except SoftTimeout:
                continue

    @app.task(soft_timeout=10)
    async def quick() -> str:
        async with asyncio.timeout(20):
            await asyncio.sleep(9)
        return "quick"

    @app.workflow
    async def flow() -> str:
        return await step.options(soft_timeout=10, timeout=20)(save.__wrapped__)

    async def scenario() -> None:
        assert await save() == "saved 5.000 s before the end"
        assert sorted(cancelled) == [0, 1, 2]
        with pytest.raises(CallTimedOut, match=r"careless: attempt 1 .* soft timeout of 10 s"):
            await careless()
        with pytest.raises(CallTimedOut, match=r"stubborn: attempt 1 .* its timeout of 20 s"):
            await stubborn()
        assert await quick() == "quick"
        assert await flow() == "saved 5.000 s before the end"

    run_in_virtual_time(app, scenario)


def test_a_cancellation_at_the_same_moment_counts() -> None:
    app = App("both", url="memory:")

    @app.task(soft_timeout=10, attempt_timeout=20)
    async def wait() -> None:
        try:
            await asyncio.sleep(3600)
        except SoftTimeout:
            await asyncio.sleep(3600)

    async def scenario() -> None:
        handle = await wait.start()
        await asyncio.sleep(15)
        await handle.cancel()
        with pytest.raises(CallCancelled):
            await handle.result()

    run_in_virtual_time(app, scenario)


async def test_a_plain_function_can_look_at_its_time(app: App) -> None:
    released: list[bool] = []

    @app.task(soft_timeout=0.05, attempt_timeout=60)
    def plain() -> float:
        attempt = fenbu.current_attempt()
        remaining, deadline = attempt.remaining_seconds, attempt.deadline
        assert remaining is not None
        assert deadline is not None
        assert abs((deadline - fenbu.now()).total_seconds() - remaining) < 1
        released.append(attempt.time_is_up.wait(20))
        return remaining

    @app.task
    def unlimited() -> tuple[object, object, bool]:
        attempt = fenbu.current_attempt()
        return attempt.remaining_seconds, attempt.deadline, attempt.time_is_up.is_set()

    async with app:
        assert await plain() <= 0.05
        assert released == [True]
        assert await unlimited() == (None, None, False)


async def test_the_hard_limit_sets_the_event_too(app: App) -> None:
    seen: asyncio.Queue[bool] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @app.task(attempt_timeout=0.05)
    def plain() -> None:
        event: threading.Event = fenbu.current_attempt().time_is_up
        loop.call_soon_threadsafe(seen.put_nowait, event.wait(20))

    async with app:
        with pytest.raises(CallTimedOut):
            await plain()
        assert await asyncio.wait_for(seen.get(), 20)


def test_limits_are_checked_where_they_are_given(app: App) -> None:
    with pytest.raises(UsageError, match="soft_timeout"):
        app.task(soft_timeout=-1)(len)
    with pytest.raises(UsageError, match="heartbeat_timeout"):
        step.options(heartbeat_timeout=-1)
