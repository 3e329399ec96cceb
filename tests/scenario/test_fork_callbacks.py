"""Forks of calls with callbacks: each has tokens of its own, and results can stand for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import App, CallFailed, CallNotFound, Status, TerminalError, UsageError, callback, step
from fenbu.testing import crash_everywhere


class Payment:
    """A workflow that asks a bank, and then does something that is broken at first."""

    def __init__(self, app: App) -> None:
        self.tokens: list[str] = []
        self.broken = True

        async def ask_bank(token: str) -> None:
            self.tokens.append(token)

        async def check() -> None:
            if self.broken:
                raise TerminalError("the scales are broken")

        @app.workflow(name="pay")
        async def pay() -> str:
            first, second = await callback(str), await callback(str)
            await step(ask_bank, first.token)
            name = await first.result()
            await step(check)
            return f"{name} {await second.result()}"

        self.pay = pay

    async def begin(self, app: App, id_: str) -> Any:
        """A payment whose first callback has been completed, and which has failed then."""
        handle = await self.pay.options(id=id_).start()
        async with asyncio.timeout(20):
            while not self.tokens:
                await asyncio.sleep(0)
        await app.complete(self.tokens.pop(), "ann")
        with pytest.raises((TerminalError, CallFailed)):
            await handle.result(20)
        return handle


async def opened(app: App, id_: str, *commands: int) -> list[str]:
    """The tokens of a call, when it has begun and these are open."""
    async with asyncio.timeout(20):
        while True:
            try:
                found = await app.list_callbacks(id_)
            except CallNotFound:
                found = []
            if [each.command for each in found] == list(commands):
                return [each.token for each in found]
            await asyncio.sleep(0)


async def test_a_fork_waits_under_a_token_of_its_own(app: App) -> None:
    payment = Payment(app)
    async with app:
        handle = await payment.begin(app, "a")
        assert await app.list_callbacks("a") == []
        payment.broken = False
        again = await handle.fork(id="b")
        (token,) = await opened(app, "b", 2)
        assert token.endswith("~b")
        (info,) = await app.list_callbacks("b")
        assert "test_fork_callbacks.py" in info.location
        # That of the original is another one's.
        await app.complete(token.replace("~b", "~a"), "nothing")
        await app.complete(token, "paid")
        assert await again.result(20) == "ann paid"
        assert payment.tokens == []


async def test_a_result_stands_for_a_callback(app: App) -> None:
    payment = Payment(app)
    async with app:
        handle = await payment.begin(app, "a")
        payment.broken = False
        both = await handle.fork(results={1: "bob", 2: "cash"}, id="b")
        assert await both.result(20) == "bob cash"
        # Of a fork of a fork as well, and where the callback itself is what it goes on from.
        once = await both.fork(2, results={2: "card"}, id="c")
        assert await once.result(20) == "bob card"
        first = await once.fork(1, results={1: "cyd", 2: "coins"}, id="d")
        assert await first.result(20) == "cyd coins"
        with pytest.raises(UsageError, match="no outcome of command 4 before command 1"):
            await first.fork(1, results={4: "x"})


async def test_it_goes_on_before_a_callback_was_completed(app: App) -> None:
    payment = Payment(app)
    async with app:
        handle = await payment.begin(app, "a")
        payment.broken = False
        again = await handle.fork(1, id="b")
        first, second = await opened(app, "b", 1, 2)
        await app.complete(first, "dan")
        await app.complete(second, "paid")
        assert await again.result(20) == "dan paid"


async def test_what_a_callback_was_failed_with_is_what_failed(app: App) -> None:
    payment = Payment(app)
    payment.broken = False
    async with app:
        handle = await payment.pay.options(id="a").start()
        first, second = await opened(app, "a", 1, 2)
        await app.complete(first, "eve")
        await app.fail(second, "no money")
        with pytest.raises(TerminalError, match="no money"):
            await handle.result(20)
        again = await handle.fork(results={2: "found some"})
        assert await again.result(20) == "eve found some"
        page = await app.list_calls(statuses=[Status.COMPLETED])
        assert [each.id for each in page.calls] == [again.id]


async def test_callbacks_of_a_later_run_stay_with_their_fork(app: App) -> None:
    payment = Payment(app)
    async with app:
        handle = await payment.begin(app, "a")
        await handle.retry()
        first, _ = await opened(app, "a", 1, 2)
        assert first.startswith("1.1~")
        await app.complete(first, "fay")
        async with asyncio.timeout(20):
            while await handle.status() is not Status.FAILED:
                await asyncio.sleep(0)
        payment.broken = False
        again = await handle.fork(id="b")
        (token,) = await opened(app, "b", 2)
        await app.complete(token, "paid")
        assert await again.result(20) == "fay paid"


async def test_whose_callbacks_are_listed(app: App) -> None:
    @app.workflow
    async def asks() -> None:
        await app.list_callbacks("a")

    async with app:
        with pytest.raises(CallNotFound, match="nobody"):
            await app.list_callbacks("nobody")
        with pytest.raises(UsageError, match="in a step"):
            await asks()


def test_without_await(app: App) -> None:
    payment = Payment(app)
    with app:
        handle = payment.pay.options(id="a").sync.start()
        app.runtime.run(lambda: opened(app, "a", 1, 2))
        for each in app.sync.list_callbacks("a"):
            app.sync.complete(each.token, "x")
        with pytest.raises(TerminalError):
            handle.result(20)


@pytest.mark.guarantee("message-once-in-order")
def test_a_crash_anywhere_loses_no_result() -> None:
    app = App("crashing", url="memory:")

    async def fails() -> None:
        raise TerminalError("broken")

    @app.workflow
    async def waits() -> str:
        first, second = await callback(str), await callback(str)
        await step(fails)
        return f"{await first.result()} {await second.result()}"

    async def scenario() -> str:
        handle = await waits.options(id="a").start()
        with pytest.raises((TerminalError, CallFailed)):
            await handle.result()
        again = await handle.fork(results={"fails": None, 1: "one", 2: "two"}, id="b")
        return await again.result()

    assert crash_everywhere(app, scenario) >= 4
