"""Callbacks: what somebody outside completes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import (
    App,
    CallNotFound,
    EncodingError,
    Entity,
    Retry,
    Status,
    TerminalError,
    UsageError,
    callback,
    step,
    wait_signal,
)
from fenbu.testing import crash_everywhere


class CardRefused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code


class Desk:
    """Where tokens are handed to."""

    def __init__(self) -> None:
        self._tokens: asyncio.Queue[str] = asyncio.Queue()

    async def give(self, token: str) -> None:
        self._tokens.put_nowait(token)

    async def token(self) -> str:
        async with asyncio.timeout(20):
            return await self._tokens.get()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def approval_of(app: App, desk: Desk) -> Any:
    @app.workflow(name="approval")
    async def approval() -> str:
        decision = await callback(bool)
        await step(desk.give, decision.token)
        return "approved" if await decision.result() else "refused"

    return approval


async def test_a_callback_is_completed_once_and_the_first_counts(app: App, desk: Desk) -> None:
    approval = approval_of(app, desk)
    async with app:
        handle = await approval.options(id="order-7").start()
        token = await desk.token()
        await app.complete(token, True)
        await app.complete(token, False)
        assert await handle.result() == "approved"
        # It has ended: nothing comes of it, and nothing breaks.
        await app.fail(token, "too late")
        assert await handle.status() is Status.COMPLETED


async def test_it_waits_out_of_memory_and_is_completed_by_a_client(app: App, desk: Desk) -> None:
    if app.url == "memory:":
        pytest.skip("a memory database is that of one process")
    approval = approval_of(app, desk)
    async with app:
        handle = await approval.start()
        token = await desk.token()
        async with asyncio.timeout(20):
            while await handle.status() is not Status.SUSPENDED:
                await asyncio.sleep(0)
    client = App("scenario", url=app.url)
    async with client.client():
        await client.complete(token, True)
    async with app:
        assert await app.handle(handle.id).result() == "approved"


async def test_it_is_failed_with_an_error_that_keeps_its_type(app: App, desk: Desk) -> None:
    @app.workflow
    async def pay() -> str:
        payment = await callback(str)
        await step(desk.give, payment.token)
        try:
            return await payment.result()
        except CardRefused as error:
            return f"refused: {error.code}"

    async with app:
        handle = await pay.start()
        await app.fail(await desk.token(), CardRefused(51))
        assert await handle.result() == "refused: 51"
        handle = await pay.start()
        await app.fail(await desk.token(), "no such bank")
        with pytest.raises(TerminalError, match="no such bank"):
            await handle.result()


async def test_what_is_not_completed_in_time_is_given_up_and_can_still_come(
    app: App, desk: Desk
) -> None:
    @app.workflow
    async def patient() -> list[Any]:
        word = await callback(str)
        seen: list[Any] = []
        try:
            await word.result(timeout=0.05)
        except TimeoutError:
            seen.append("late")
        await step(desk.give, word.token)
        return [*seen, await word.result(), await word.result()]

    async with app:
        handle = await patient.start()
        await app.complete(await desk.token(), "hello")
        assert await handle.result() == ["late", "hello", "hello"]


async def test_several_are_waited_for_with_plain_asyncio(app: App, desk: Desk) -> None:
    @app.workflow
    async def either() -> list[str]:
        one, other = await callback(str), await callback(str)
        await step(desk.give, one.token)
        await step(desk.give, other.token)
        tasks = [
            asyncio.create_task(one.result()),
            asyncio.create_task(other.result()),
            asyncio.create_task(wait_signal("stop", str)),
        ]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in rest:
            each.cancel()
        return [each.result() for each in done]

    async with app:
        handle = await either.start()
        one, other = await desk.token(), await desk.token()
        assert one != other
        await app.complete(other, "other")
        assert await handle.result() == ["other"]
        handle = await either.start()
        await desk.token(), await desk.token()
        await handle.signal("stop", "stop")
        assert await handle.result() == ["stop"]


async def test_a_workflow_and_an_operation_wait_for_each_other(app: App, desk: Desk) -> None:
    @app.entity
    class Door(Entity):
        opened: int = 0

        async def open(self, key: str) -> int:
            bell = await callback(int)
            await step(desk.give, bell.token)
            self.opened += await bell.result()
            return self.opened

    @app.workflow
    async def ring(token: str) -> None:
        await app.complete(token, 3)

    async with app:
        handle = await Door("front").open.start("x")
        await ring(await desk.token())
        assert await handle.result() == 3


async def test_a_call_that_is_tried_again_has_new_callbacks(app: App, desk: Desk) -> None:
    @app.workflow
    async def fussy() -> str:
        word = await callback(str)
        await step(desk.give, word.token)
        if (found := await word.result()) != "please":
            raise TerminalError(found)
        return found

    async with app:
        handle = await fussy.start()
        old = await desk.token()
        await app.complete(old, "now")
        with pytest.raises(TerminalError):
            await handle.result()
        await handle.retry()
        new = await desk.token()
        await app.complete(old, "now")
        await app.complete(new, "please")
        assert await handle.result() == "please"


async def test_bad_tokens_and_values_are_told(app: App, desk: Desk) -> None:
    approval = approval_of(app, desk)
    async with app:
        for token in ("", "7", "7~", "7~1", "7~1~", "x~1~id", "7~y~id", "7.z~1~id"):
            with pytest.raises(UsageError, match="is not the token of a callback"):
                await app.complete(token, 1)
        with pytest.raises(CallNotFound, match="nobody"):
            await app.complete("1~0~nobody", 1)
        with pytest.raises(UsageError, match="belongs into the code of a workflow"):
            await callback(bool)
        handle = await approval.start()
        token = await desk.token()
        with pytest.raises(EncodingError):
            await app.complete(token, object())
        await app.complete(token, "perhaps")
        with pytest.raises(EncodingError, match="bool"):
            await handle.result()


def test_without_await(app: App, desk: Desk) -> None:
    approval = approval_of(app, desk)
    with app:
        handle = approval.sync.start()
        token = app.runtime.run(desk.token)
        app.sync.complete(token, True)
        assert handle.result() == "approved"
        handle = approval.sync.start()
        app.sync.fail(app.runtime.run(desk.token), "no")
        with pytest.raises(TerminalError, match="no"):
            handle.result()


@pytest.mark.guarantee("accepted-never-lost")
def test_it_survives_a_crash_anywhere() -> None:
    app = App("callbacks", url="memory:")

    async def pass_on(token: str) -> None:
        await app.complete(token, "paid")

    @app.workflow
    async def pay() -> str:
        payment = await callback(str)
        await step.options(retry=Retry(attempts=50))(pass_on, payment.token)
        await asyncio.sleep(1)
        return await payment.result()

    assert crash_everywhere(app, pay) >= 3
