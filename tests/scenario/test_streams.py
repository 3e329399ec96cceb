"""Streams: what a call writes one by one, read live, afterwards, and across crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import (
    App,
    CallCancelled,
    CallFailed,
    CallNotFound,
    EncodingError,
    Entity,
    Retry,
    Status,
    UsageError,
    current_attempt,
    step,
    stream,
)

pytestmark = pytest.mark.timeout(60)

SOON = Retry(attempts=5, first_seconds=0.01)


async def read(handle: Any, name: str = "n", after: int = 0) -> list[Any]:
    return [each.value async for each in handle.stream(name).chunks(after)]


async def tried_again(handle: Any) -> None:
    await handle.retry()
    async with asyncio.timeout(20):
        while await handle.status() is not Status.COMPLETED:
            await asyncio.sleep(0)


class Gate:
    """Lets a body go on when the test says so."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(0)

    async def turn(self) -> None:
        await self.turns.acquire()

    def open(self, count: int = 1) -> None:
        for _ in range(count):
            self.turns.release()


async def test_a_task_is_read_while_it_writes(app: App) -> None:
    gate = Gate()

    @app.task
    async def count(to: int) -> str:
        out = stream("n", int)
        for number in range(to):
            await gate.turn()
            await out.write(number)
        return "done"

    async with app:
        handle = await count.start(3)
        seen: list[int] = []
        gate.open()
        async for number in handle.stream("n", int):
            seen.append(number)
            gate.open()
        assert seen == [0, 1, 2]
        assert await handle.result() == "done"
        # It is kept as long as its call.
        assert await read(handle) == [0, 1, 2]


async def test_from_an_offset_and_from_a_client(app: App) -> None:
    @app.task
    async def letters() -> None:
        for letter in "abcde":
            await stream("n", str).write(letter)

    async with app:
        handle = await letters.start()
        chunks = [each async for each in handle.stream("n", str).chunks()]
        assert [each.value for each in chunks] == list("abcde")
        assert [each.offset for each in chunks] == sorted({each.offset for each in chunks})
        assert all(each.at.tzinfo is not None for each in chunks)
        assert await read(handle, after=chunks[2].offset) == ["d", "e"]
        assert await read(handle, after=chunks[-1].offset) == []
        assert await read(handle, "another") == []
        if not app.url.startswith("memory"):
            client_app = App("scenario", url=app.url)
            async with client_app.client():
                assert await read(client_app.handle(handle.id), after=chunks[1].offset) == [*"cde"]


async def test_a_client_reads_live_what_a_node_writes(app: App) -> None:
    if app.url.startswith("memory"):
        pytest.skip("a database in memory is that of one process")
    gate = Gate()

    @app.workflow
    async def count(to: int) -> None:
        out = stream("n", int)
        for number in range(to):
            await out.write(number)
            await step(gate.turn)

    client_app = App("scenario", url=app.url)
    async with app, client_app.client():
        started = await count.start(4)
        seen: list[int] = []
        async for number in client_app.handle(started.id).stream("n", int):
            seen.append(number)
            gate.open()
        assert seen == [0, 1, 2, 3]


async def test_many_readers_of_many_calls(app: App) -> None:
    @app.task
    async def count(name: int) -> None:
        out = stream("n", int)
        for number in range(20):
            await out.write(name * 100 + number)

    async with app:
        handles = await count.start_many((each,) for each in range(12))
        found = await asyncio.gather(*(read(each) for each in handles for _ in range(3)))
        expected = [[name * 100 + number for number in range(20)] for name in range(12)]
        assert found == [each for each in expected for _ in range(3)]


async def test_more_than_a_page(app: App) -> None:
    @app.task
    async def count(to: int) -> None:
        out = stream("n", int)
        await asyncio.gather(*(out.write(number) for number in range(to)))

    async with app:
        handle = await count.start(1_000)
        assert await read(handle) == list(range(1_000))


async def test_a_plain_function_writes_from_its_thread(app: App) -> None:
    @app.task
    def lines() -> None:
        out = stream("n", str).sync
        assert out.resume() == []
        for line in ("one", "two"):
            out.write(line)
        out.close()

    async with app:
        handle = await lines.start()
        assert await read(handle) == ["one", "two"]
        await handle.result()


async def test_a_closed_stream_ends_before_its_call(app: App) -> None:
    gate = Gate()

    @app.workflow
    async def work() -> None:
        out = stream("n", int)
        await out.write(1)
        await out.close()
        await step(gate.turn)
        await out.close()
        with pytest.raises(UsageError, match="closed already"):
            await out.write(2)
        with pytest.raises(UsageError, match="closed by the code"):
            await step(late)

    async def late() -> None:
        await stream("n", int).close()
        await stream("n", int).write(3)

    @app.task
    async def body() -> None:
        out = stream("n", int)
        await out.write(1)
        await out.close()
        await out.close()
        with pytest.raises(UsageError, match="closed already"):
            await out.write(2)
        await gate.turn()

    async with app:
        for handler in (work, body):
            handle = await handler.start()
            assert await read(handle) == [1]
            gate.open()
            await handle.result()
            assert await read(handle) == [1]


async def test_steps_write_too_and_streams_are_apart(app: App) -> None:
    async def part(name: str) -> None:
        out = stream(name, int)
        for number in range(3):
            await out.write(number)

    @app.workflow
    async def work() -> None:
        await stream("log", str).write("begins")
        await asyncio.gather(step(part, "a"), step(part, "b"))
        await step(part, "a")
        await stream("log", str).write("ends")

    async with app:
        handle = await work.start()
        assert await read(handle, "log") == ["begins", "ends"]
        assert await read(handle, "a") == [0, 1, 2] * 2
        assert await read(handle, "b") == [0, 1, 2]


@pytest.mark.guarantee("stream-once")
async def test_an_attempt_that_writes_the_same_again_is_seen_once(app: App) -> None:
    @app.task(retry=SOON)
    async def again() -> None:
        out = stream("n", int)
        for number in range(5):
            await out.write(number)
            if number == current_attempt().number:
                raise RuntimeError("half-way")

    async with app:
        handle = await again.start()
        assert await read(handle) == [0, 1, 2, 3, 4]


@pytest.mark.guarantee("stream-once")
async def test_an_attempt_goes_on_where_the_last_one_stopped(app: App) -> None:
    resumed: list[list[int]] = []

    async def part() -> None:
        out = stream("n", int)
        done = await out.resume()
        resumed.append(done)
        await out.write(len(done))
        with pytest.raises(UsageError, match="before the first write"):
            await out.resume()
        if len(resumed) < 4:
            raise RuntimeError("half-way")
        await out.close()

    @app.workflow
    async def work() -> None:
        await stream("n", str).write("other")
        await step.options(retry=SOON)(part)

    async with app:
        handle = await work.start()
        assert await read(handle) == ["other", 0, 1, 2, 3]
        await handle.result()
    assert resumed == [[], [0], [0, 1], [0, 1, 2]]


@pytest.mark.guarantee("entity-linear")
async def test_what_a_failed_operation_wrote_is_not_there(app: App) -> None:
    async def nothing() -> None:
        pass

    @app.entity
    class Desk(Entity):
        count: int = 0

        async def note(self, text: str, fails: bool) -> None:
            out = stream("n", str)
            await out.write(text)
            await step(nothing)
            await out.write(f"{text} again")
            if fails:
                raise ValueError(text)

    async with app:
        good = await Desk("a").note.start("good", False)
        assert await read(good) == ["good", "good again"]
        bad = await Desk("a").note.start("bad", True)
        assert await read(bad) == []
        with pytest.raises(ValueError, match="bad"):
            await bad.result()


async def test_a_workflow_that_is_tried_again_writes_behind(app: App) -> None:
    fails = True

    @app.workflow
    async def work() -> None:
        out = stream("n", str)
        await out.write("a")
        await out.close()
        if fails:
            raise ValueError("no")

    async with app:
        handle = await work.start()
        with pytest.raises(ValueError, match="no"):
            await handle.result()
        assert await read(handle) == ["a"]
        fails = False
        await tried_again(handle)
        assert await read(handle) == ["a", "a"]


async def test_a_task_that_is_tried_again_goes_on(app: App) -> None:
    fails = True

    @app.task
    async def work() -> list[str]:
        out = stream("n", str)
        done = await out.resume()
        for letter in "abc"[len(done) :]:
            await out.write(letter)
            if fails:
                raise ValueError("no")
        return done

    async with app:
        handle = await work.start()
        assert await read(handle) == ["a"]
        fails = False
        await tried_again(handle)
        assert await handle.result() == ["a"]
        assert await read(handle) == ["a", "b", "c"]


async def test_a_call_that_is_not_kept_is_kept_for_its_readers(app: App) -> None:
    @app.workflow(retention=0)
    async def work() -> None:
        await stream("n", str).write("a")

    @app.task(retention=0)
    async def body() -> None:
        await stream("n", str).write("a")

    async with app:
        for handler in (work, body):
            handle = await handler.start()
            await handle.result()
            assert await read(handle) == ["a"]


async def test_a_body_that_nobody_waits_for_writes_no_more(app: App) -> None:
    began, errors = asyncio.Event(), list[BaseException]()

    async def late() -> None:
        out = stream("n", str)
        await out.write("in time")
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await out.write("too late")
            except CallCancelled as error:
                errors.append(error)

    @app.workflow
    async def work() -> None:
        running = asyncio.create_task(step(late))
        await step(began.wait)
        running.cancel()
        await asyncio.wait([running])

    @app.task
    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await stream("n", str).write("cleaned up")

    async with app:
        handle = await work.start()
        assert await read(handle) == ["in time"]
        assert "nothing that it writes is taken" in str(errors[0])
        # The body of a task that is cancelled is still its attempt.
        handle = await task.start()
        reading = asyncio.create_task(read(handle))
        await asyncio.sleep(0)
        await handle.cancel()
        assert (await reading) in (["cleaned up"], [])


async def test_wrong_use(app: App) -> None:
    with pytest.raises(UsageError, match="by the code of the call"):
        stream("n")

    @app.workflow
    async def reads(id: str) -> None:
        async for _ in app.handle(id).stream("n"):
            pass

    @app.task
    async def writes() -> None:
        for name in ("", 5, None):
            with pytest.raises(UsageError, match="cannot name a stream"):
                stream(name)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(UsageError, match="cannot name a stream"):
            stream("a\nb")
        with pytest.raises(UsageError, match="block"):
            stream("n").sync.write(1)
        with pytest.raises(EncodingError):
            await stream("n").write(object())
        await stream("n").write(1)

    async with app:
        handle = await writes.start()
        assert await read(handle) == [1]
        await handle.result()
        with pytest.raises(EncodingError):
            [each async for each in handle.stream("n", str)]
        for after in ("x", -4, None):
            with pytest.raises(UsageError, match="after must be an offset, a number from 0, not "):
                await read(handle, after=after)  # pyright: ignore[reportArgumentType]
        with pytest.raises(UsageError, match="5 cannot name a stream"):
            handle.stream(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(CallNotFound):
            await read(app.handle("unknown"))
        with pytest.raises((UsageError, CallFailed), match="read it in a step"):
            await reads(handle.id)


def test_without_await(app: App) -> None:
    @app.task
    def count(to: int) -> None:
        for number in range(to):
            stream("n", int).sync.write(number)

    with app:
        handle = count.sync.start(3)
        assert list(handle.stream("n", int)) == [0, 1, 2]
        chunks = list(handle.stream("n", int).chunks())
        assert [each.value for each in handle.stream("n", int).chunks(chunks[0].offset)] == [1, 2]


async def test_a_workflow_that_continues_as_new_goes_on_writing(app: App) -> None:
    async def say(text: str) -> None:
        await stream("n", str).write(text)

    @app.workflow
    async def work(turn: int) -> None:
        await stream("n", str).write(f"begins {turn}")
        await step(say, f"says {turn}")
        if turn < 2:
            work.continue_as_new(turn + 1)

    async with app:
        handle = await work.start(0)
        assert await read(handle) == [
            f"{what} {n}" for n in range(3) for what in ("begins", "says")
        ]
