"""Tasks and workflows as a user sees them."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest

import fenbu
from fenbu import (
    App,
    CallCancelled,
    CallNotFound,
    CallTimedOut,
    EncodingError,
    Entity,
    Retry,
    RetryLater,
    Status,
    TerminalError,
    UsageError,
    saga,
    step,
    wait_signal,
)
from fenbu.testing import run


class OutOfStock(Exception):
    def __init__(self, sku: str) -> None:
        super().__init__(f"no {sku}")
        self.sku = sku


def square(n: int) -> int:
    return n * n


cpu_app = App("cpu", url="memory:")


@cpu_app.task(cpu=True)
def process_id() -> int:
    return os.getpid()


@cpu_app.workflow
async def computes() -> list[int]:
    return [await step.options(cpu=True)(square, n) for n in (2, 3)]


def test_plain_functions_run_in_threads_and_marked_ones_in_processes(app: App) -> None:
    @app.task
    def thread_id() -> int:
        return threading.get_ident()

    async def main() -> None:
        async with app:
            assert await thread_id() != threading.get_ident()
        async with cpu_app:
            assert await process_id() != os.getpid()
            assert await computes() == [4, 9]

    asyncio.run(main())


def test_errors_keep_their_type_across_calls(app: App) -> None:
    @app.task
    async def sell(sku: str) -> None:
        raise OutOfStock(sku)

    @app.workflow
    async def order(sku: str) -> str:
        try:
            await sell(sku)
        except OutOfStock as error:
            return f"caught {error.sku}"
        return "sold"

    async def main() -> None:
        async with app:
            assert await order("tea") == "caught tea"
            with pytest.raises(OutOfStock, match="no tea") as caught:
                await sell("tea")
            assert "test_calls.py" in caught.value.__notes__[0]

    asyncio.run(main())


def test_retries_stop_at_success_at_the_last_attempt_and_at_terminal_errors(app: App) -> None:
    attempts: list[str] = []
    quick = Retry(attempts=3, first_seconds=0.01)

    @app.task(retry=quick)
    async def task(name: str) -> int:
        attempts.append(name)
        if name == "terminal":
            raise TerminalError(name)
        if name == "never" or attempts.count(name) < 3:
            raise ValueError(name)
        return fenbu.current_attempt().number

    async def body(name: str) -> int:
        attempts.append(name)
        if attempts.count(name) < 2:
            raise ValueError(name)
        return fenbu.current_attempt().number

    @app.workflow
    async def steps() -> int:
        return await step.options(retry=quick)(body, "step")

    async def main() -> None:
        async with app:
            assert await task("third") == 3
            with pytest.raises(ValueError, match="never"):
                await task("never")
            with pytest.raises(TerminalError):
                await task("terminal")
            assert await steps() == 2
        assert [attempts.count(each) for each in ("third", "never", "terminal", "step")] == [
            3,
            3,
            1,
            2,
        ]

    asyncio.run(main())


def test_what_is_to_run_again_later_spends_no_attempt(app: App) -> None:
    asked: list[str] = []

    async def fetch(name: str) -> tuple[int, str]:
        asked.append(name)
        if asked.count(name) < 4:
            raise RetryLater("not there yet", after=timedelta(milliseconds=20))
        attempt = fenbu.current_attempt()
        return attempt.number, attempt.idempotency_key

    @app.task
    async def task(name: str) -> int:
        return (await fetch(name))[0]

    @app.workflow
    async def report() -> list[int]:
        quick = Retry(attempts=2, first_seconds=0.01)
        plain, key = await step(fetch, "plain")
        policy, other = await step.options(retry=quick)(fetch, "policy")
        assert key != other
        return [plain, policy]

    async def main() -> None:
        async with app:
            assert await task("task") == 1
            assert await report() == [1, 1]
        assert len(asked) == 12

    asyncio.run(main())


def test_retries_end_with_their_total_time() -> None:
    app = App("scenario", url="memory:")
    asked: list[str] = []
    policy = Retry(attempts=None, first_seconds=20, factor=1, jitter=0, total_seconds=50)

    @app.task(retry=policy)
    async def task() -> None:
        asked.append("task")
        raise ConnectionError("not now")

    async def body() -> None:
        asked.append("step")
        raise RetryLater("not there yet", after=20)

    @app.workflow
    async def steps() -> None:
        await step.options(retry=policy)(body)

    async def scenario() -> None:
        with pytest.raises(ConnectionError):
            await task()
        with pytest.raises(RetryLater, match="not there yet"):
            await steps()

    run(app, scenario)
    assert asked == ["task"] * 3 + ["step"] * 3


def test_timeouts_of_calls_attempts_and_waiting(app: App) -> None:
    @app.task(attempt_timeout=0.05, retry=Retry(attempts=2, first_seconds=0.01))
    async def slow() -> None:
        await asyncio.sleep(60)

    @app.workflow(timeout=timedelta(seconds=0.1))
    async def patient() -> None:
        await asyncio.sleep(60)

    @app.workflow
    async def caller() -> str:
        try:
            await patient()
        except CallTimedOut:
            return "gave up"
        return "?"

    async def main() -> None:
        async with app:
            with pytest.raises(CallTimedOut, match="attempt 2"):
                await slow()
            with pytest.raises(CallTimedOut):
                await patient()
            assert await caller() == "gave up"
            handle = await patient.options(timeout=60).start()
            with pytest.raises(TimeoutError):
                await handle.result(timeout=0.05)
            await handle.cancel()
            with pytest.raises(CallCancelled):
                await handle.result()

    asyncio.run(main())


def test_cancellation_cleans_up_and_reaches_children(app: App) -> None:
    done: list[str] = []

    async def note(text: str) -> None:
        done.append(text)

    @app.workflow
    async def child() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await step(note, "child")

    @app.workflow
    async def parent() -> None:
        try:
            await child()
        finally:
            await step(note, "parent")

    async def main() -> None:
        async with app:
            handle = await parent.start()
            while await handle.status() is not Status.SUSPENDED:
                await asyncio.sleep(0)
            await handle.cancel("enough")
            with pytest.raises(CallCancelled):
                await handle.result()
            kid = app.handle(f"{handle.id}/1")
            with pytest.raises(CallCancelled):
                await kid.result()
            assert sorted(done) == ["child", "parent"]

    asyncio.run(main())


def test_an_id_is_one_call_and_delays_are_kept(app: App) -> None:
    ran: list[int] = []

    @app.task
    async def once(n: int) -> int:
        ran.append(n)
        return n

    async def main() -> None:
        async with app:
            first = await once.options(id="one").start(1)
            second = await once.options(id="one").start(2)
            assert [await first.result(), await second.result()] == [1, 1]
            assert await once.options(id="one")(3) == 1
            assert ran == [1]
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await once.options(delay=0.2)(4) == 4
            assert loop.time() - began >= 0.19
            with pytest.raises(CallNotFound):
                await app.handle("nothing").result()
            with pytest.raises(UsageError, match="id must be"):
                once.options(id="a/b")

    asyncio.run(main())


def test_many_at_once(app: App) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async def main() -> None:
        async with app:
            handles = await double.start_many([(n,) for n in range(20_000)])
            results = [await each.result() for each in handles[::500]]
            assert results == [2 * n for n in range(0, 20_000, 500)]
            assert await handles[-1].result() == 39_998

    asyncio.run(main())


def test_a_wrong_argument_fails_where_the_call_is_made(app: App) -> None:
    @app.task
    async def typed(n: int, *, name: str = "") -> None: ...

    async def main() -> None:
        async with app:
            with pytest.raises(EncodingError, match="got `str` at `n`"):
                await typed("1")  # type: ignore[arg-type]
            with pytest.raises(EncodingError, match=r"typed\(name=…\): cannot encode"):
                await typed.start(1, name=object())  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="unexpected keyword argument 'nme'"):
                await typed(1, nme="x")  # type: ignore[call-arg]

    asyncio.run(main())


def test_what_does_not_belong_into_workflow_code_says_so(app: App) -> None:
    outside: list[asyncio.Future[None]] = []

    @app.workflow
    async def threads() -> None:
        await asyncio.to_thread(print)

    @app.workflow
    async def sockets() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    @app.workflow
    async def foreign() -> None:
        await outside[0]

    @app.workflow
    async def nested() -> None:
        await step(threads)

    async def main() -> None:
        async with app:
            outside.append(asyncio.get_running_loop().create_future())
            for workflow in (threads, sockets, foreign):
                with pytest.raises(UsageError, match="step"):
                    await workflow()
            with pytest.raises(UsageError, match="called directly"):
                await nested()
            with pytest.raises(UsageError, match="belongs into the code of a workflow"):
                step(print)

    asyncio.run(main())


def test_a_saga_undoes_in_reverse_each_once(app: App) -> None:
    done: list[str] = []

    async def act(text: str) -> str:
        if text == "boom":
            raise ValueError(text)
        done.append(text)
        return text

    @app.workflow
    async def trip() -> None:
        async with saga() as undo:
            for text in ("flight", "hotel", "car"):
                await step(act, text)
                undo(act, f"no {text}")
            await step(act, "boom")

    async def main() -> None:
        async with app:
            with pytest.raises(ValueError, match="boom"):
                await trip()
        assert done == ["flight", "hotel", "car", "no car", "no hotel", "no flight"]

    asyncio.run(main())


def test_signals_wait_in_order_and_wake_an_evicted_workflow(app: App) -> None:
    @app.workflow
    async def listener(count: int) -> list[int]:
        return [await wait_signal("n", int) for _ in range(count)]

    async def main() -> None:
        async with app:
            handle = await listener.start(5)
            await handle.signal("n", 0)
            await handle.signal("n", 1)
            while await handle.status() is not Status.SUSPENDED:
                await asyncio.sleep(0)
            for n in (2, 3, 4):
                await handle.signal("n", n)
            assert await handle.result() == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_time_and_chance_repeat_and_idempotency_keys_stay(app: App) -> None:
    keys: list[str] = []

    async def key() -> None:
        keys.append(fenbu.current_attempt().idempotency_key)
        if len(keys) < 3:
            raise ValueError

    @app.workflow
    async def work() -> list[str]:
        before = [str(fenbu.now()), str(fenbu.uuid4()), str(fenbu.random())]
        await step.options(retry=Retry(attempts=3, first_seconds=0.15))(key)
        return [*before, fenbu.current_id()]

    async def main() -> None:
        async with app:
            first = await work.options(id="a").start()
            result = await first.result()
            assert result[3] == "a"
            assert len(set(keys)) == 1
            assert await work() != result

    asyncio.run(main())


def test_the_sync_twins(tmp_path: Path) -> None:
    app = App("twins", url=f"sqlite:///{tmp_path}/twins.db")

    @app.task
    def double(n: int) -> int:
        return 2 * n

    @app.task
    def quadruple(n: int) -> int:
        return double.sync(double.sync(n))

    @app.workflow
    async def listener() -> int:
        return await wait_signal("n", int)

    with app:
        assert quadruple.sync(2) == 8
        handle = listener.options(id="l").sync.start()
        handle.signal("n", 5)
        assert handle.result(timeout=10) == 5
        assert handle.status() is Status.COMPLETED
        assert [each.result() for each in double.sync.start_many([(1,), (2,)])] == [2, 4]
        assert listener.sync.handle("l").result() == 5

    async def wrong() -> None:
        async with app:
            with pytest.raises(UsageError, match=r"without `\.sync`"):
                double.sync(1)

    asyncio.run(wrong())
    with pytest.raises(UsageError, match="is not open here"):
        double.sync(1)


@pytest.mark.guarantee("message-once-in-order")
def test_cleaning_up_does_nothing_when_a_workflow_only_leaves_memory(app: App) -> None:
    @app.entity
    class Bell(Entity):
        rings: int = 0

        async def ring(self) -> int:
            self.rings += 1
            return self.rings

    @app.workflow(name="sleeper")
    async def sleeper() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(3600))
                await asyncio.sleep(3600)
        finally:
            await Bell("a").ring()

    async def main() -> None:
        async with app:
            handle = await sleeper.start()
            async with asyncio.timeout(20):
                while await handle.status() is not Status.SUSPENDED:
                    await asyncio.sleep(0)
            await handle.cancel()
            with pytest.raises(CallCancelled):
                await handle.result()
            assert await Bell("a").ring() == 2

    asyncio.run(main())
