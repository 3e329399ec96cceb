"""Updates of calls that are replayed: by other code, and after crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fenbu.testing
from fenbu import (
    App,
    CallEnded,
    NonDeterminismError,
    Status,
    on_update,
    step,
    wait_signal,
    wait_until,
)
from tests.scenario.cart import cart_of, until


@pytest.mark.guarantee("replay-same")
async def test_code_that_answers_otherwise_is_stuck(app: App) -> None:
    if app.url == "memory:":
        pytest.skip("a memory database is that of one process")

    def made(app: App, *, known: bool, sleeps: bool) -> Any:
        @app.workflow(name="talk")
        async def talk() -> None:
            if known:

                @on_update
                async def say(word: str) -> str:
                    if sleeps:
                        await asyncio.sleep(0.001)
                    return word

            await wait_signal("end")

        return talk

    async with app:
        handle = await made(app, known=True, sleeps=False).options(id="t").start()
        assert await handle.update("say", "hello") == "hello"
    for number, (known, sleeps) in enumerate(((False, False), (True, True), (True, False))):
        later = App("scenario", url=app.url)
        handle = made(later, known=known, sleeps=sleeps).handle("t")
        async with later:
            if number == 2:
                await handle.signal("end")
                await handle.result()
            else:
                with pytest.raises(NonDeterminismError):
                    await handle.query("nothing")
                await handle.signal("more")
                await until(handle, Status.STUCK)


def test_updates_survive_a_crash_everywhere() -> None:
    app = App("crashes", url="memory:", idle_seconds=0.0)
    cart = cart_of(app, full=4)

    @app.workflow
    async def shopper() -> Any:
        handle = await cart.options(id="c1").and_signal("hello").start("ann")
        first = await handle.update("add", "pen", result=int)
        second = await handle.start_update("add", "ink", id="u2", result=int)
        try:
            await handle.update("add", "pen")
        except ValueError as error:
            refused = str(error)
        third = await handle.update("put", "cap", 2)
        return first, await second.result(), refused, sorted(third), sorted(await handle.result())

    async def scenario() -> Any:
        async with asyncio.timeout(100_000):
            found = await shopper.options(id="s")()
            handle = cart.handle("c1")
            # The same again, from outside: nothing happens twice.
            return found, await handle.query("count"), await handle.update("add", "ink", id="u2")

    assert fenbu.testing.crash_everywhere(app, scenario) >= 6


async def test_a_workflow_that_continues_as_new_takes_the_next_ones(app: App) -> None:
    async def pause() -> None: ...

    @app.workflow
    async def counter(total: int) -> int:
        found: list[int] = []

        @on_update
        def add(number: int) -> int:
            found.append(number)
            return total + number

        @on_update
        async def hang() -> None:
            await wait_signal("never")

        await wait_until(lambda: found)
        await step(pause)
        total += sum(found)
        return total if total >= 6 else await counter.continue_as_new(total)

    async with app:
        handle = await counter.options(id="c").start(0)
        hanging = await handle.start_update("hang", id="h")
        await until(app.handle("c/@h"), Status.RUNNING)
        answers = [await handle.start_update("add", each, id=f"a{each}") for each in (1, 2, 3)]
        assert await answers[0].result() == 1
        with pytest.raises(CallEnded, match="continued as new"):
            await hanging.result()
        while await handle.status() is not Status.COMPLETED:
            try:
                await handle.update("add", 6)
            except CallEnded:
                break
        assert await handle.result() >= 6
        assert await handle.update("add", 1, id="a1") == 1
