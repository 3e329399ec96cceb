"""Many inputs, so many calls at a time: in workflow code, in a node's process and without `await`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import fenbu
from fenbu import App, CallCancelled, Status, UsageError, step
from fenbu.testing import crash_everywhere, run


class Watch:
    """How many calls are open, and how many inputs were taken."""

    def __init__(self) -> None:
        self.now = self.most = self.taken = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1

    def inputs(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.taken += 1
            yield number


def squares(app: App, watch: Watch) -> Any:
    @app.workflow(name="square")
    async def square(number: int) -> int:
        with watch:
            await asyncio.sleep(0.001 * ((number * 7) % 5))
        if number == 13:
            raise ValueError(number)
        return number * number

    return square


async def test_results_come_in_order_and_no_more_are_open_than_may_be(app: App) -> None:
    watch = Watch()
    square = squares(app, watch)
    found: list[int] = []
    async with app:
        async for result in square.map(watch.inputs(12), concurrency=3):
            found.append(result)
            assert watch.taken <= len(found) + 3
    assert found == [number * number for number in range(12)]
    assert 2 <= watch.most <= 3


async def test_results_come_as_calls_end(app: App) -> None:
    hurry = asyncio.Event()

    @app.task
    async def waits(number: int) -> int:
        if number == 0:
            await hurry.wait()
        return number

    async with app:
        results = waits.map(range(10), concurrency=2, ordered=False)
        found = [await anext(results) for _ in range(9)]
        assert sorted(found) == list(range(1, 10))
        hurry.set()
        assert [each async for each in results] == [0]
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_errors_are_raised_in_their_place_or_returned(app: App) -> None:
    square = squares(app, Watch())
    async with app:
        results = square.map(range(100), concurrency=4)
        found: list[Any] = [await anext(results) for _ in range(13)]
        with pytest.raises(ValueError, match="13"):
            await anext(results)
        assert [each async for each in results] == []
        assert found == [number * number for number in range(13)]
        found = [
            each
            async for each in square.map(
                range(11, 15), concurrency=4, ordered=False, return_exceptions=True
            )
        ]
        assert sorted(map(repr, found)) == sorted(["121", "144", "ValueError(13)", "196"])


async def test_inputs_may_come_one_by_one(app: App) -> None:
    square = squares(app, Watch())
    more = asyncio.Event()

    async def inputs() -> AsyncIterator[int]:
        yield 1
        yield 2
        await more.wait()
        yield 3

    async with app:
        results = square.map(inputs(), concurrency=5)
        # What has ended is given while the next input is waited for.
        assert [await anext(results), await anext(results)] == [1, 4]
        more.set()
        assert [each async for each in results] == [9]


async def test_each_call_may_have_its_own_id_and_arguments(app: App) -> None:
    @app.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    async with app:
        calls = (add.options(id=f"add-{n}").bind(n, b=n) for n in range(5))
        assert [each async for each in app.map(calls, concurrency=2)] == [0, 2, 4, 6, 8]
        assert await add.handle("add-4").result() == 8
        assert [each async for each in add.map([1, 2])] == [2, 3]
        with pytest.raises(UsageError, match="and so be one"):
            await anext(add.options(id="same").map([1, 2]))
        with pytest.raises(UsageError, match="concurrency must be 1 to"):
            add.map([1], concurrency=0)
        assert [each async for each in add.map([])] == []


async def test_errors_of_the_inputs_come_out(app: App) -> None:
    square = squares(app, Watch())

    def inputs() -> Iterator[Any]:
        yield 1
        yield "no number"

    async with app:
        with pytest.raises(fenbu.EncodingError):
            await anext(square.map(inputs()))


async def test_in_workflow_code_who_is_left_is_cancelled(app: App) -> None:
    ended: list[str] = []

    @app.workflow
    async def lasting(number: int) -> int:
        if number == 0:
            return 0
        if number == 1:
            await asyncio.sleep(0.01)
            raise ValueError(number)
        try:
            await fenbu.wait_signal("never")
        except asyncio.CancelledError:
            await step(ended.append, f"cancelled {number}")
            raise
        return number

    @app.workflow
    async def parent(how: str) -> list[Any]:
        found: list[Any] = []
        try:
            async with lasting.map(range(100), concurrency=4) as results:
                async for each in results:
                    found.append(each)
                    if how == "break":
                        break
        except ValueError as error:
            found.append(repr(error))
        return found

    async with app:
        for how, seen in (("break", [0]), ("error", [0, "ValueError(1)"])):
            ended.clear()
            assert await parent.options(id=how)(how) == seen
            open_ = (await app.list_calls(handler=lasting.name)).calls
            for each in open_:
                try:
                    await app.handle(each.id).result(timeout=20)
                except (CallCancelled, ValueError):
                    continue
            assert {"cancelled 2", "cancelled 3"} <= set(ended)


async def test_who_is_cancelled_cancels_what_is_open(app: App) -> None:
    @app.workflow
    async def lasting(number: int) -> int:
        return await fenbu.wait_signal("never", int)

    @app.workflow
    async def parent() -> list[int]:
        return [each async for each in lasting.map(range(100), concurrency=3)]

    async with app:
        handle = await parent.start()
        async with asyncio.timeout(20):
            while len(found := (await app.list_calls(handler=lasting.name)).calls) < 3:
                await asyncio.sleep(0)
            await handle.cancel()
            with pytest.raises(CallCancelled):
                await handle.result()
            for each in found:
                with pytest.raises(CallCancelled):
                    await app.handle(each.id).result()
        assert len((await app.list_calls(handler=lasting.name)).calls) == 3


def test_without_await(app: App) -> None:
    watch = Watch()
    square = squares(app, watch)
    with app:
        found: list[int] = []
        for result in square.sync.map(watch.inputs(12), concurrency=3):
            found.append(result)
            assert watch.taken <= len(found) + 3
        assert found == [number * number for number in range(12)]
        with pytest.raises(ValueError, match="13"):
            list(square.sync.map(range(20), concurrency=3))
        errors = list(square.sync.map([13], return_exceptions=True))
        assert [type(each) for each in errors] == [ValueError]
    assert watch.most <= 3


async def test_a_client_elsewhere_maps_as_well(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    node, client = App("node", url=url), App("client", url=url)
    squares(node, Watch())
    square = squares(client, Watch())
    async with node, client.client():
        assert [each async for each in square.map(range(5), concurrency=2)] == [0, 1, 4, 9, 16]


def sums(app: App) -> Any:
    @app.workflow(name="square")
    async def square(number: int) -> int:
        await asyncio.sleep(0.1 * (number % 3))
        return number * number

    @app.workflow(name="sums")
    async def sum_of_squares(count: int, ordered: bool) -> list[int]:
        found = [each async for each in square.map(range(count), concurrency=3, ordered=ordered)]
        # In which order calls end depends on what happens.
        return found if ordered else sorted(found)

    return sum_of_squares


def test_a_crash_anywhere_changes_nothing() -> None:
    app = App("map", url="memory:")
    sum_of_squares = sums(app)

    async def scenario() -> Any:
        return (
            await sum_of_squares.options(id="a")(7, True),
            await sum_of_squares.options(id="b")(7, False),
        )

    assert crash_everywhere(app, scenario) >= 5


def test_a_long_one_is_replayed_and_holds_no_more_than_is_open() -> None:
    app = App("map", url="memory:", idle_seconds=0.01)
    sum_of_squares = sums(app)

    async def scenario() -> list[int]:
        handle = await sum_of_squares.start(300, False)
        found = await handle.result()
        assert await handle.status() is Status.COMPLETED
        return found

    assert run(app, scenario) == [number * number for number in range(300)]
