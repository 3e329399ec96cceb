"""What can be known to be wrong is refused before anything is accepted."""

from __future__ import annotations

import pytest

import fenbu
from fenbu import App, CallNotFound, EncodingError, UsageError, on_update, step, wait_signal
from fenbu._api.function import DurableFunction

runs: list[str] = []


def reserve(sku: str) -> str:
    runs.append(sku)
    return sku


def cart_of(app: App, version: int, update: str) -> DurableFunction[[str], str]:
    @app.workflow(name="cart", version=version)
    async def cart(user: str) -> str:
        @on_update(name=update)
        async def add(sku: str, n: int = 1) -> str:
            return await step(reserve, sku) * n

        @add.validator
        def check(sku: str, n: int = 1) -> None:
            if n > 9:
                raise ValueError("too many")

        if not user:
            return "nobody"
        return await wait_signal("end", str)

    return cart


async def test_an_update_that_the_workflow_has_not_starts_nothing(app: App) -> None:
    runs.clear()
    cart = cart_of(app, 1, "add")
    one = cart.options(id="c")
    async with app:
        for wrong, text in (
            (one.and_update("put", "pen"), "cart has no update 'put'; it has: add"),
            (one.and_update("add"), "missing a required argument: 'sku'"),
            (one.and_update("add", "pen", "two"), "Expected `int`"),
            (one.and_update("add", "pen", m=2), "unexpected keyword argument 'm'"),
            (cart.options(id="c", if_exists="replace").and_update("put"), "no update 'put'"),
        ):
            with pytest.raises(UsageError, match=text):
                await wrong("ann")
            with pytest.raises(UsageError, match=text):
                await wrong.start("ann")
        with pytest.raises(CallNotFound):
            await cart.handle("c").status()
        assert runs == []
        # What the validator refuses was accepted, and so was the call.
        with pytest.raises(ValueError, match="too many"):
            await one.and_update("add", "pen", 10)("ann")
        assert await cart.handle("c").status()
        assert await one.and_update("add", "pen", n=2)("ann") == "penpen"
        # It exists, so nothing is started: its own code says that it has no such update.
        refused = await one.and_update("put", "pen").start("ann")
        with pytest.raises(UsageError, match="cart has no update 'put'"):
            await refused.result()
        with pytest.raises(UsageError, match="no update 'put'"):
            await cart.options(id="c", if_exists="replace").and_update("put")("eve")
        assert runs == ["pen"]


async def test_one_that_exists_may_be_of_another_version(app: App) -> None:
    old = cart_of(app, 1, "add")
    async with app:
        await old.options(id="c").start("ann")
        new = cart_of(app, 2, "put")
        assert await new.options(id="c").and_update("add", "pen")("ann") == "pen"
        with pytest.raises(UsageError, match="it has: put"):
            await new.options(id="d").and_update("add", "pen")("ann")


async def test_code_that_ends_at_once_is_left_to_the_node(app: App) -> None:
    cart = cart_of(app, 1, "add")
    async with app:
        update = await cart.options(id="c").and_update("put").start("")
        assert await cart.handle("c").result() == "nobody"
        with pytest.raises(fenbu.CallEnded):
            await update.result()


async def count(n: int) -> int:
    return n


async def test_a_fork_takes_results_of_the_right_type_only(app: App) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.workflow
    async def flow(n: int) -> int:
        first = await step(count, n)
        second = await double(first)
        raise ValueError(first + second)

    async with app:
        handle = await flow.options(id="f").start(1)
        with pytest.raises(ValueError, match="3"):
            await handle.result()
        for results, text in (
            ({"count": "three"}, r"step count \(command 1\) .*Expected `int`, got `str`"),
            ({2: "six"}, r"call .*double \(command 2\) .*Expected `int`, got `str`"),
        ):
            with pytest.raises(EncodingError, match=text):
                await handle.fork("double", results=results, id="again")
        with pytest.raises(CallNotFound):
            await app.handle("again").status()
        again = await handle.fork("double", results={"count": 5}, id="again")
        with pytest.raises(ValueError, match=r"^15\b"):
            await again.result()


async def test_a_task_cannot_be_forked(app: App) -> None:
    @app.task
    async def fail() -> None:
        raise ValueError("no")

    async with app:
        handle = await fail.start()
        with pytest.raises(ValueError, match="no"):
            await handle.result()
        with pytest.raises(UsageError, match=r"as tasks never do, .* if it has failed, retry it"):
            await handle.fork()


def test_errors_name_what_was_called() -> None:
    with pytest.raises(UsageError, match=r"^heartbeat\(\) belongs into"):
        fenbu.heartbeat(1)
    with pytest.raises(UsageError, match=r"^current_id\(\) belongs into"):
        fenbu.current_id()
