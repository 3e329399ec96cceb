"""Queries and updates of running workflows, and what is sent to a call as it is started."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import (
    App,
    CallEnded,
    CallNotFound,
    Entity,
    Status,
    UsageError,
    on_query,
    on_update,
    random,
    step,
    updates_running,
    wait_signal,
    wait_until,
)
from tests.scenario.cart import SoldOut, cart_of, reserve, until


async def test_updates_change_variables_and_queries_read_them(app: App) -> None:
    cart = cart_of(app)
    async with app:
        handle = await cart.options(id="c1").start("ann")
        assert await handle.query("count", result=int) == 0
        assert await handle.update("add", "pen", result=int) == 1
        assert await handle.update("put", "ink") == ["pen", "ink"]
        assert await handle.query("count", result=int) == 2
        assert await handle.query("count", 5) == 5
        assert await handle.query("everything", result=tuple[str, ...]) == ("pen", "ink")
        assert await handle.update("put", "cap", 2) == ["pen", "ink", "cap", "cap"]
        assert await handle.result() == ["pen", "ink", "cap", "cap"]
        # It has ended, and can still be asked.
        assert await handle.query("count", result=int) == 4


async def test_a_validator_refuses_without_a_trace(app: App) -> None:
    cart = cart_of(app)
    async with app:
        handle = await cart.options(id="c1").start("ann")
        await handle.update("add", "pen")
        with pytest.raises(ValueError, match="ann has pen already"):
            await handle.update("add", "pen")
        with pytest.raises(UsageError, match="missing a required argument: 'sku'"):
            await handle.update("put")
        with pytest.raises(
            UsageError, match="cart has no update 'remove'; it has: add, close, put"
        ):
            await handle.update("remove", "pen")
        loaded = await app.runtime.gateway.load("c1")
        assert loaded is not None
        kinds = [str(each.kind) for each in loaded.entries]
        assert kinds == ["update_received", "step_completed"]


async def test_an_error_of_a_handler_is_the_updates_and_the_workflow_goes_on(app: App) -> None:
    cart = cart_of(app, full=1)
    async with app:
        handle = await cart.start("ann")
        with pytest.raises(SoldOut) as caught:
            await handle.update("add", "gone-1")
        assert caught.value.sku == "gone-1"
        assert await handle.update("add", "pen") == 1
        assert await handle.result() == ["pen"]


@pytest.mark.guarantee("one-outcome")
async def test_an_update_happens_once_for_its_id(app: App) -> None:
    cart = cart_of(app, full=9)
    async with app:
        handle = await cart.options(id="c1").start("ann")
        other = await cart.options(id="c2").start("bob")
        both = [await handle.start_update("add", "pen", id="u1", result=int) for _ in range(3)]
        assert [await each.result() for each in both] == [1, 1, 1]
        assert await other.update("add", "pen", id="u1") == 1  # Each workflow has ids of its own.
        with pytest.raises(ValueError, match="already"):
            await handle.update("add", "pen", id="u2")
        await handle.update("close")
        assert await handle.result() == ["pen"]
        # The same outcome as before, although nobody could take it any more.
        assert await handle.update("add", "pen", id="u1") == 1
        with pytest.raises(ValueError, match="already"):
            await handle.update("add", "pen", id="u2")


async def test_updates_of_one_sender_come_in_order_with_its_signals(app: App) -> None:
    @app.workflow
    async def ordered(count: int) -> list[str]:
        seen: list[str] = []

        @on_update
        def note(word: str) -> None:
            seen.append(word)

        async def listen() -> None:
            while True:
                seen.append(await wait_signal("note", str))

        listening = asyncio.create_task(listen())
        await wait_until(lambda: len(seen) == count)
        listening.cancel()
        return seen

    async with app:
        handle = await ordered.options(id="o").start(20)
        # Only the database knows where the call of this one is.
        of_id = app.handle("o")
        words = [f"w{number}" for number in range(20)]
        for number, word in enumerate(words):
            match number % 5:
                case 0:
                    await handle.start_update("note", word, id=word)
                case 1:
                    await handle.signal("note", word)
                case 2:
                    await of_id.signal("note", word)
                case 3:
                    await handle.start_update("note", word)
                case _:
                    await of_id.start_update("note", word)
        assert await handle.result() == words


async def test_updates_wait_in_memory_and_out_of_it(app: App) -> None:
    @app.workflow
    async def slow() -> str:
        words: list[str] = []

        @on_update
        async def ask(word: str) -> str:
            words.append(word)
            return word + await wait_signal("answer", str)

        await wait_until(lambda: len(words) == 2 and not updates_running())
        return " ".join(words)

    async with app:
        handle = await slow.options(id="s").start()
        first = await handle.start_update("ask", "one", id="u1", result=str)
        await until(app.handle("s/@u1"), Status.RUNNING)
        await until(handle, Status.SUSPENDED)
        second = await handle.start_update("ask", "two", id="u2", result=str)
        await until(app.handle("s/@u2"), Status.RUNNING)
        await until(handle, Status.SUSPENDED)
        await handle.signal("answer", "!")
        assert await first.result() == "one!"
        await until(handle, Status.SUSPENDED)
        await handle.signal("answer", "?")
        assert await second.result() == "two?"
        assert await handle.result() == "one two"


async def test_what_is_not_answered_when_the_workflow_ends_fails(app: App) -> None:
    @app.workflow
    async def hasty() -> None:
        @on_update
        async def ask() -> None:
            await wait_signal("never")

        await wait_signal("end")

    async with app:
        for way in ("signal", "cancel", "terminate"):
            handle = await hasty.options(id=way).start()
            waiting = [await handle.start_update("ask", id=f"u{each}") for each in range(2)]
            for each in waiting:
                await until(app.handle(f"{way}/@{each.id}"), Status.RUNNING)
            late = await handle.start_update("ask")
            await {
                "signal": lambda handle=handle: handle.signal("end"),
                "cancel": handle.cancel,
                "terminate": handle.terminate,
            }[way]()
            for each in (*waiting, late):
                with pytest.raises(CallEnded, match=f"call {way} has ended"):
                    await each.result()
            with pytest.raises(CallEnded):
                await handle.update("ask")


async def test_what_cannot_be_asked_says_so(app: App) -> None:
    cart = cart_of(app)

    @app.task
    async def work() -> None: ...

    @app.workflow
    async def silent() -> None:
        await wait_signal("end")

    async with app:
        with pytest.raises(CallNotFound):
            await cart.handle("nobody").update("add", "pen")
        with pytest.raises(CallNotFound):
            await cart.handle("nobody").query("count")
        with pytest.raises(CallNotFound):
            await app.handle("nobody").update("add", "pen")
        handle = await work.start()
        await handle.result()
        with pytest.raises(UsageError, match="only workflows answer"):
            await handle.update("add")
        with pytest.raises(UsageError, match="only workflows answer"):
            await handle.query("count")
        quiet = await silent.start()
        with pytest.raises(UsageError, match="silent has no update 'add'; it has: none"):
            await quiet.update("add")
        with pytest.raises(UsageError, match="silent has no query 'count'; it has: none"):
            await quiet.query("count")
        with pytest.raises(UsageError, match="id of an update"):
            await quiet.update("add", id="a/b")
        delayed = await cart.options(delay=60).start("ann")
        with pytest.raises(UsageError, match="delayed"):
            await delayed.query("count")


async def test_validators_and_queries_only_look(app: App) -> None:
    @app.workflow
    async def curious() -> str:
        @on_query
        def steps() -> Any:
            return asyncio.ensure_future(step(reserve, "pen"))

        @on_update
        def go(how: str) -> None: ...

        @go.validator
        def asks(how: str) -> None:
            match how:
                case "task":
                    asyncio.ensure_future(step(reserve, "pen"))  # noqa: RUF006
                case "chance":
                    random()
                case _:
                    asyncio.get_running_loop().call_later(1, print)

        with pytest.raises(UsageError, match="plain"):

            @on_query
            async def waits() -> None: ...

        with pytest.raises(UsageError, match="twice"):

            @on_update(name="go")
            def again() -> None: ...

        return await wait_signal("end", str)

    @app.entity
    class Counter(Entity):
        async def add(self) -> None:
            on_query(lambda: 1)

    async with app:
        handle = await curious.start()
        with pytest.raises(UsageError, match="only look"):
            await handle.query("steps")
        for how in ("task", "chance", "timer"):
            with pytest.raises(UsageError, match="only look"):
                await handle.update("go", how)
        with pytest.raises(UsageError, match="answers with its operations"):
            await Counter("x").add()
        await handle.signal("end", "fine")
        assert await handle.result() == "fine"
    with pytest.raises(UsageError, match="belongs into the code"):
        on_query(lambda: None)


@pytest.mark.guarantee("message-once-in-order")
async def test_a_client_asks_while_no_node_runs(app: App) -> None:
    if app.url == "memory:":
        pytest.skip("a memory database is that of one process")
    cart = cart_of(app)
    async with app:
        await cart.options(id="c1").start("ann")
    client = App("scenario", url=app.url)
    there = cart_of(client)
    async with client.client():
        handle = there.handle("c1")
        assert await handle.query("count") == 0
        accepted = [await handle.start_update("put", each, id=each) for each in ("pen", "ink")]
        assert await client.handle("c1/@pen").status() is Status.PENDING
        with pytest.raises(TimeoutError):
            await accepted[0].result(timeout=0.01)
    nameless = App("scenario", url=app.url)
    async with app, client.client(), nameless.client():
        assert await accepted[1].result() == ["pen", "ink"]
        assert await nameless.handle("c1").update("put", "cap", result=list[str]) == [
            "pen",
            "ink",
            "cap",
        ]
        assert await there.handle("c1").result() == ["pen", "ink", "cap"]
        with pytest.raises(UsageError, match="not registered here"):
            await nameless.handle("c1").query("count")
        assert await there.handle("c1").query("count") == 3


async def test_a_workflow_asks_another(app: App) -> None:
    cart = cart_of(app, full=2)

    @app.workflow
    async def shopper() -> list[Any]:
        handle = await cart.options(id="c1").start("ann")
        later = await handle.start_update("add", "pen", id="chosen", result=int)
        seen: list[Any] = [await later.result()]
        try:
            await handle.update("add", "pen")
        except ValueError as error:
            seen.append(str(error))
        try:
            await handle.query("count")
        except UsageError:
            seen.append("no query")
        seen.append(await cart.options(id="c1").and_update("add", "ink", result=int)("eve"))
        seen.append(await handle.result())
        try:
            await handle.update("add", "cap")
        except CallEnded:
            seen.append("ended")
        try:
            await cart.handle("nobody").update("add", "cap")
        except CallNotFound:
            seen.append("not found")
        return seen

    async with app:
        found = await shopper.options(id="s")()
        assert found == [
            1, "ann has pen already", "no query", 2, ["pen", "ink"], "ended", "not found",
        ]  # fmt: skip


async def test_a_call_is_started_with_a_signal_or_signalled(app: App) -> None:
    @app.workflow
    async def till(user: str) -> list[int]:
        return [await wait_signal("paid", int) for _ in range(3)]

    @app.workflow
    async def payer() -> str:
        await till.options(id="t").and_signal("paid", 3).start("eve")
        return "paid"

    async with app:
        first = await till.options(id="t").and_signal("paid", 1).start("ann")
        again = await till.options(id="t").and_signal("paid", 2).start("bob")
        assert first.id == again.id
        assert await payer() == "paid"
        assert await first.result() == [1, 2, 3]
    with app.client():
        pass
    with pytest.raises(UsageError, match="is for workflows"):
        app.task(reserve).and_signal("paid")


async def test_a_call_is_started_with_an_update_or_updated(app: App) -> None:
    cart = cart_of(app)
    async with app:
        add = cart.options(id="c1").and_update("add", "pen", id="u1", result=int)
        assert await add("ann") == 1
        assert await add("bob") == 1
        later = await cart.options(id="c1").and_update("put", "ink", 2).start("eve")
        assert await later.result() == ["pen", "ink", "ink"]
        handle = cart.handle("c1")
        assert await handle.result() == ["pen", "ink", "ink"]
        with pytest.raises(CallEnded):
            await cart.options(id="c1").and_update("add", "cap")("ann")
        with pytest.raises(UsageError, match="has no update"):
            await cart.and_update("nonsense")("ann")


def test_all_of_it_without_await(app: App) -> None:
    cart = cart_of(app)
    with app:
        add = cart.options(id="c1").and_update("add", "pen", result=int)
        assert add.sync("ann") == 1
        handle = cart.sync.handle("c1")
        assert handle.query("count", result=int) == 1
        assert handle.update("put", "ink", id="u") == ["pen", "ink"]
        assert handle.start_update("put", "cap", result=list[str]).result() == ["pen", "ink", "cap"]
        signalled = cart.options(id="c1").and_signal("nothing")
        assert signalled.sync.start("ann").result() == ["pen", "ink", "cap"]
