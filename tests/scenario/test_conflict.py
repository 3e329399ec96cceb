"""What a call means whose id exists already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import AlreadyExists, App, CallCancelled, Status, UsageError, step, stream, wait_signal
from fenbu.testing import crash_everywhere


class Service:
    """A workflow that waits to be told how to end, and counts its runs."""

    def __init__(self, app: App) -> None:
        self.began: list[int] = []
        self.cleaned: list[int] = []

        async def begin(n: int) -> int:
            self.began.append(n)
            return n

        @app.workflow(name="child")
        async def child(n: int) -> str:
            return await wait_signal("go", str)

        @app.workflow(name="work")
        async def work(n: int) -> str:
            await step(begin, n)
            try:
                answer = await wait_signal("end", str)
            finally:
                self.cleaned.append(n)
            if answer == "fail":
                raise ValueError(n)
            return f"{n} {answer}"

        @app.workflow(name="parent")
        async def parent(n: int) -> str:
            return await child.options(id=f"kid-{n}")(n)

        @app.workflow(name="asks")
        async def asks(policy: Any) -> str:
            try:
                return await work.options(id="w", if_exists=policy)(7)
            except AlreadyExists as error:
                return f"refused: {error}"

        @app.task(name="quick")
        async def quick(n: int) -> int:
            return n

        self.work, self.parent, self.child, self.asks, self.quick = work, parent, child, asks, quick


@pytest.fixture
def service(app: App) -> Service:
    return Service(app)


async def ended(handle: Any, how: str) -> None:
    await handle.signal("end", how)
    if how == "fail":
        with pytest.raises(ValueError, match="1"):
            await handle.result()
    else:
        await handle.result()


@pytest.mark.parametrize("how", [None, "well", "fail"])
async def test_reuse_means_the_one_that_exists(app: App, service: Service, how: str | None) -> None:
    work = service.work.options(id="w")
    async with app:
        first = await work.start(1)
        if how is not None:
            await ended(first, how)
        again = await work.start(2)
        if how is None:
            await ended(again, "well")
        assert service.began == [1]


@pytest.mark.parametrize("how", [None, "well", "fail"])
async def test_reject_says_that_one_exists(app: App, service: Service, how: str | None) -> None:
    work = service.work.options(id="w", if_exists="reject")
    async with app:
        first = await work.start(1)
        if how is not None:
            await ended(first, how)
        for make in (work.start, work):
            with pytest.raises(AlreadyExists, match="'w'"):
                await make(2)
        assert await first.status() in (
            Status.RUNNING,
            Status.SUSPENDED,
            Status.COMPLETED,
            Status.FAILED,
        )
        assert service.began in ([1], [])


@pytest.mark.parametrize("how", [None, "well", "fail"])
async def test_replace_ends_it_and_begins_anew(app: App, service: Service, how: str | None) -> None:
    work = service.work.options(id="w", if_exists="replace")
    async with app:
        first = await work.start(1)
        waiting = asyncio.ensure_future(first.result())
        if how is not None:
            await ended(first, how)
        else:
            await asyncio.sleep(0)
        second = await work.start(2)
        if how is None:
            with pytest.raises(CallCancelled):
                await waiting
        else:
            await asyncio.gather(waiting, return_exceptions=True)
        assert await second.status() in (Status.RUNNING, Status.SUSPENDED)
        await second.signal("end", "new")
        assert await second.result() == "2 new"
        assert await first.result() == "2 new"  # Its id is all that a handle has.


@pytest.mark.parametrize(("how", "runs"), [(None, [1]), ("well", [1]), ("fail", [1, 2])])
async def test_after_failure_only(
    app: App, service: Service, how: str | None, runs: list[int]
) -> None:
    work = service.work.options(id="w", if_exists="after_failure")
    async with app:
        first = await work.start(1)
        if how is not None:
            await ended(first, how)
        second = await work.start(2)
        if how != "well":
            await second.signal("end", "new")
        assert await second.result() in ("1 new", "2 new", "1 well")
        assert service.began == runs


@pytest.mark.parametrize(("how", "runs"), [(None, [1]), ("well", [1, 2]), ("fail", [1, 2])])
async def test_after_an_end_only(
    app: App, service: Service, how: str | None, runs: list[int]
) -> None:
    work = service.work.options(id="w", if_exists="after_end")
    async with app:
        first = await work.start(1)
        if how is not None:
            await ended(first, how)
        second = await work.start(2)
        await second.signal("end", "new")
        assert await second.result() == f"{runs[-1]} new"
        assert service.began == runs


async def test_a_result_that_was_just_told_is_not_that_of_the_new_call(
    app: App, service: Service
) -> None:
    quick = service.quick.options(id="q", if_exists="replace")
    async with app:
        for n in range(5):
            assert await quick(n) == n
            assert await (await quick.start(-n)).result() == -n


async def test_what_a_replaced_call_waits_for_ends_with_it(app: App, service: Service) -> None:
    async with app:
        parent = service.parent.options(id="p", if_exists="replace")
        await parent.start(1)
        kid = service.child.handle("kid-1")
        await kid_exists(kid)
        await parent.start(2)
        with pytest.raises(CallCancelled):
            await kid.result()
        await kid_exists(service.child.handle("kid-2"))
        await service.child.handle("kid-2").signal("go", "on")
        assert await parent.options(if_exists="reuse").start(3)
        assert await service.parent.handle("p").result() == "on"


async def kid_exists(kid: Any) -> None:
    while True:
        try:
            await kid.status()
        except Exception as error:
            if type(error).__name__ != "CallNotFound":
                raise
            await asyncio.sleep(0)
        else:
            return


async def test_calls_that_begin_later(app: App, service: Service) -> None:
    later = service.quick.options(id="q", delay=3600)
    async with app:
        await later.start(1)
        with pytest.raises(AlreadyExists):
            await later.options(if_exists="reject").start(2)
        now = service.quick.options(id="q", if_exists="replace")
        assert await now(3) == 3


@pytest.mark.parametrize(
    ("policy", "answer"),
    [
        ("reject", "refused: there is a call with the id 'w' already"),
        ("reuse", "1 x"),
        ("replace", "7 x"),
    ],
)
async def test_from_a_workflow(app: App, service: Service, policy: str, answer: str) -> None:
    async with app:
        first = await service.work.options(id="w").start(1)
        asking = await service.asks.start(policy)
        if policy != "reject":
            while policy == "replace" and 7 not in service.began:
                await asyncio.sleep(0)
            if policy == "reuse":
                await asyncio.sleep(0)
            await first.signal("end", "x")
        assert await asking.result() == answer


async def test_from_a_client_of_its_own(app: App, service: Service, tmp_path: Any) -> None:
    if app.url == "memory:":
        pytest.skip("a memory database is that of one process")
    other = App("scenario", url=app.url)
    there = Service(other)
    async with app, other.client():
        rejecting = there.work.options(id="w", if_exists="reject")
        await rejecting.start(1)
        with pytest.raises(AlreadyExists):
            await rejecting.start(2)
        quick = there.quick.options(id="q", if_exists="replace")
        for n in range(3):
            assert await quick(n) == n


async def test_nothing_of_a_replaced_call_is_left(app: App) -> None:
    @app.task(name="talk", retention=0)
    async def talk(word: str) -> str:
        out = stream("words", str)
        assert await out.resume() == []
        await out.write(word)
        return word

    @app.task(name="short", retention=0)
    async def short(word: str) -> str:
        return word

    async with app:
        for word in ("one", "two", "three"):
            again = talk.options(id="t", if_exists="replace")
            assert await again(word) == word
            assert [each async for each in again.handle("t").stream("words", str)] == [word]
            assert await short.options(id="s", if_exists="replace")(word) == word


async def test_of_many_who_start_at_once_one_is_the_first(app: App, service: Service) -> None:
    async with app:
        work = service.work.options(id="w", if_exists="reject")
        found = await asyncio.gather(*(work.start(n) for n in range(20)), return_exceptions=True)
        assert sum(isinstance(each, AlreadyExists) for each in found) == 19


def test_what_makes_no_sense(app: App, service: Service) -> None:
    with pytest.raises(
        UsageError, match="'reuse', 'reject', 'replace', 'after_failure' or 'after_end'"
    ):
        service.work.options(id="w", if_exists="whatever")
    with pytest.raises(UsageError, match="with an id of your own"):
        service.work.options(if_exists="reject")


@pytest.mark.parametrize("policy", ["replace", "reject", "after_failure", "after_end"])
def test_it_survives_crashes_anywhere(policy: Any) -> None:
    app = App("conflict", url="memory:")
    service = Service(app)

    async def scenario() -> str:
        first = await service.work.options(id="w").start(1)
        await asyncio.sleep(1)
        try:
            second = await service.work.options(id="w", if_exists=policy).start(2)
        except AlreadyExists:
            second = first
        await asyncio.sleep(1)
        await second.signal("end", "x")
        return await second.result()

    assert crash_everywhere(app, scenario) >= 3
