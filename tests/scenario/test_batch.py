"""Batches: a call for each of any number of inputs, started exactly once, whatever crashes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

import fenbu
from fenbu import (
    INJECTED,
    App,
    BatchProgress,
    CallCancelled,
    Resource,
    Status,
    TerminalError,
    UsageError,
)
from fenbu._api import batch
from fenbu.testing import crash_everywhere, run
from tests.scenario.crash import Fault, crash_after_each_commit


@dataclass
class Photo:
    name: str
    width: int


async def open_bucket() -> str:
    return "r"


class Service:
    """Photos in pages, and what became of them."""

    def __init__(self, app: App, count: int, *, page: int = 7) -> None:
        self.count = count
        self.page = page
        self.done = Counter[str]()
        self.now = self.most = self.reads = 0

        @app.task(name="resize")
        async def resize(photo: Photo) -> str:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(0)
                self.done[photo.name] += 1
                if photo.width % 10 == 3:
                    raise ValueError(photo.name)
                return photo.name
            finally:
                self.now -= 1

        self.resize = resize

    async def photos(self, cursor: int | None, bucket: str) -> tuple[list[Photo], int | None]:
        self.reads += 1
        first = cursor or 0
        last = min(self.count, first + self.page)
        found = [Photo(f"{bucket}-{number}", number) for number in range(first, last)]
        return found, None if last == self.count else last


async def test_each_input_gets_its_call_and_the_result_counts_them(app: App) -> None:
    service = Service(app, 50)
    thumbnails = app.batch("thumbnails", source=service.photos, each=service.resize, concurrency=4)
    async with app:
        found = await thumbnails.options(id="b")(None, "a")
        assert (found.started, found.completed, found.failed, found.open) == (50, 45, 5, 0)
        assert found.is_read
        assert found.errors[0].error.startswith("ValueError: a-")
        assert service.done == Counter(f"a-{number}" for number in range(50))
        assert 1 < service.most <= 4
        assert service.reads == 8
        assert await service.resize.handle("b:17").result() == "a-17"
        failed = await app.list_calls(where=[("batch", "=", "b")], statuses=[Status.FAILED])
        assert {each.id for each in failed.calls} == {each.id for each in found.errors}
        assert {each.id for each in failed.calls} == {f"b:{n}" for n in (3, 13, 23, 33, 43)}
        # Its progress can be asked for when it has ended, too.
        assert await thumbnails.handle("b").query("progress", result=BatchProgress) == found
        # From elsewhere on.
        rest = await thumbnails(45, "b")
        assert (rest.started, service.done["b-45"], service.done["b-44"]) == (5, 1, 0)


async def test_it_continues_as_new_and_nobody_waits_for_one_that_takes_long(
    app: App,
) -> None:
    hurry = asyncio.Event()

    @app.task(name="work")
    async def work(number: int) -> int:
        if number in {1, 30}:
            await hurry.wait()
        return number

    def numbers(cursor: int | None = None) -> tuple[list[int], int | None]:
        first = cursor or 0
        return list(range(first, first + 25)), first + 25 if first < 75 else None

    plan = batch.Plan(numbers, work, concurrency=5, run_entries=10)
    numbered = batch.register(app, "numbered", plan)
    async with app:
        handle = await numbered.options(id="n").start()
        async with asyncio.timeout(30):
            while (now := await handle.query("progress", result=BatchProgress)).completed < 98:
                await asyncio.sleep(0)
            assert (now.started, now.open, now.is_read) == (100, 2, True)
            loaded = await app.runtime.gateway.load("n")
            assert loaded is not None
            assert loaded.invocation.attempt >= 6
            assert len(loaded.entries) < 25
            hurry.set()
            found = await handle.result()
        assert (found.started, found.completed, found.errors) == (100, 100, ())


async def test_it_is_paused_and_cancelled(app: App) -> None:
    hurry = asyncio.Event()
    began: list[int] = []

    @app.task(name="work")
    async def work(number: int) -> None:
        began.append(number)
        await hurry.wait()

    async def numbers(cursor: int | None) -> tuple[list[int], int | None]:
        return list(range(100)), None

    numbered = app.batch("numbered", source=numbers, each=work, concurrency=3)
    async with app:
        handle = await numbered.options(id="n").start(None)
        async with asyncio.timeout(20):
            while len(began) < 3:
                await asyncio.sleep(0)
            await handle.pause()
            while await handle.status() is not Status.PAUSED:
                await asyncio.sleep(0)
            hurry.set()
            for number in range(3):
                await work.handle(f"n:{number}").result()
            assert began == [0, 1, 2]
            hurry.clear()
            await handle.resume()
            while len(began) < 6:
                await asyncio.sleep(0)
            await handle.cancel()
            with pytest.raises(CallCancelled):
                await handle.result()
            for number in range(3, 6):
                with pytest.raises(CallCancelled):
                    await work.handle(f"n:{number}").result()
        assert began == [0, 1, 2, 3, 4, 5]


async def test_a_source_that_fails_for_good_lets_open_calls_end_and_can_be_tried_again(
    app: App,
) -> None:
    service, is_down = Service(app, 20), True

    async def photos(cursor: int | None) -> tuple[list[Photo], int | None]:
        if cursor == 7 and is_down:
            raise TerminalError("no such bucket")
        return await service.photos(cursor, "a")

    thumbnails = app.batch("thumbnails", source=photos, each=service.resize, concurrency=4)
    async with app:
        handle = await thumbnails.options(id="b").start(None)
        with pytest.raises(TerminalError, match="no such bucket"):
            await handle.result()
        assert len(service.done) == 7
        is_down = False
        await handle.retry()
        async with asyncio.timeout(20):
            while await handle.status() is not Status.COMPLETED:
                await asyncio.sleep(0)
        assert (await handle.result()).started == 20
        # Calls that were started before are not made again.
        assert set(service.done.values()) == {1}


async def test_a_workflow_starts_one_and_a_source_has_resources(app: App) -> None:
    service = Service(app, 9)

    async def photos(
        cursor: int | None, bucket: Annotated[str, Resource(open_bucket)] = INJECTED
    ) -> tuple[list[Photo], int | None]:
        return await service.photos(cursor, bucket)

    resize = service.resize.options(attributes={"size": 640})
    thumbnails = app.batch("thumbnails", source=photos, each=resize)

    @app.workflow(name="nightly")
    async def nightly() -> int:
        found = await thumbnails(None)
        return found.started

    async with app:
        assert await nightly.options(id="night")() == 9
        assert service.done == Counter(f"r-{number}" for number in range(9))
        # Beside what its calls have of their own.
        calls = (await app.list_calls(where=[("batch", "=", "night/1"), ("size", "=", 640)])).calls
        assert len(calls) == 9


async def test_what_is_no_page_fails_the_batch(app: App) -> None:
    service = Service(app, 9)

    async def wrong(cursor: Any) -> Any:
        return ["a", "b", "c"]

    async def unfit(cursor: Any) -> Any:
        return [7], None

    first = app.batch("wrong", source=wrong, each=service.resize)
    second = app.batch("unfit", source=unfit, each=service.resize)
    async with app:
        with pytest.raises(UsageError, match="returns a list of inputs and the next cursor"):
            await first(None)
        with pytest.raises(fenbu.EncodingError, match="photo"):
            await second(None)


def test_what_cannot_be_a_batch_is_refused() -> None:
    app = App("refused", url="memory:")
    service = Service(app, 9)

    async def nothing() -> tuple[list[Photo], None]:
        return [], None

    with pytest.raises(UsageError, match="takes a cursor first"):
        app.batch("a", source=nothing, each=service.resize)
    with pytest.raises(UsageError, match="is no task or workflow"):
        app.batch("a", source=service.photos, each=nothing)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes no input"):
        app.batch("a", source=service.photos, each=app.task(name="idle")(nothing))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="ids of their own"):
        app.batch("a", source=service.photos, each=service.resize.options(id="x"))
    with pytest.raises(UsageError, match="concurrency must be"):
        app.batch("a", source=service.photos, each=service.resize, concurrency=0)


def test_an_empty_one_ends() -> None:
    app = App("empty", url="memory:")
    service = Service(app, 0)
    thumbnails = app.batch("thumbnails", source=service.photos, each=service.resize)
    assert run(app, lambda: thumbnails(None, "a")) == BatchProgress(is_read=True)


@pytest.mark.parametrize("fault", Fault)
async def test_whatever_commit_is_lost_each_call_is_made_once(
    fault: Fault,
) -> None:
    app = App("lost", url="memory:")
    service = Service(app, 12, page=5)
    plan = batch.Plan(service.photos, service.resize, concurrency=3, run_entries=4)
    thumbnails = batch.register(app, "thumbnails", plan)

    async def scenario() -> BatchProgress:
        return await thumbnails.options(id="b")(None, "a")

    def comparable(found: dict[str, Any]) -> Any:
        # In which order calls end, and so where a run does, depends on what happens.
        return {id_: each[:3] for id_, each in found.items() if id_.startswith("b")}

    places = await crash_after_each_commit(
        app, scenario, None, idle=0.0, fault=fault, comparable=comparable
    )
    assert places >= 5


def test_a_crash_anywhere_changes_nothing() -> None:
    app = App("batch", url="memory:")
    service = Service(app, 15, page=4)
    plan = batch.Plan(service.photos, service.resize, concurrency=3, run_entries=6)
    thumbnails = batch.register(app, "thumbnails", plan)

    async def scenario() -> Any:
        found = await thumbnails.options(id="b")(None, "a")
        # Errors stand in the order in which the calls ended.
        return found.started, found.completed, sorted(each.id for each in found.errors)

    assert crash_everywhere(app, scenario) >= 5
