"""New versions join while calls of older ones are in flight."""

from __future__ import annotations

import pytest

from fenbu import App, Status, patched, step, wait_signal

# Memory is gone when the app is closed, and so is the call that the next version is to meet.
pytestmark = pytest.mark.parametrize("app", ["sqlite", "postgres"], indirect=True)


async def price(cents: int) -> int:
    return cents


@pytest.mark.guarantee("replay-same")
async def test_each_call_runs_with_its_version(app: App) -> None:
    @app.workflow(name="checkout")
    async def checkout_v1(cents: int) -> str:
        await wait_signal("paid", bool)
        return f"v1 {await step(price, cents)}"

    async with app:
        old = await checkout_v1.options(id="old").start(100)

    @app.workflow(name="checkout", version=2)
    async def checkout(cents: int, discount: int) -> str:
        await wait_signal("paid", bool)
        return f"v2 {await step(price, cents - discount)}"

    @app.workflow(name="both")
    async def both() -> list[str]:
        first = await checkout_v1.options(id="child-1").start(7)
        second = await checkout.options(id="child-2").start(7, 1)
        for each in (first, second):
            await each.signal("paid", True)
        return [await first.result(), await second.result()]

    async with app:
        new = await checkout.options(id="new").start(100, 10)
        for each in (old, new):
            await app.handle(each.id).signal("paid", True)
        assert await checkout_v1.handle("old").result() == "v1 100"
        assert await new.result() == "v2 90"
        assert await both() == ["v1 7", "v2 6"]


@pytest.mark.guarantee("replay-same")
async def test_a_small_change_leaves_calls_in_flight_alone(app: App) -> None:
    changed = False

    @app.workflow(name="ship")
    async def ship() -> list[int]:
        found = [await step(price, 1)]
        await wait_signal("go", bool)
        if changed and patched("fee"):
            found.append(await step(price, 2))
        await wait_signal("end", bool)
        return found

    async with app:
        old = await ship.options(id="old").start()
        await old.signal("go", True)
        while (await old.status()) is not Status.SUSPENDED:
            pass
    changed = True
    async with app:
        new = await ship.options(id="new").start()
        await new.signal("go", True)
        for handle in (app.handle("old"), new):
            await handle.signal("end", True)
        assert await ship.handle("old").result() == [1]
        assert await new.result() == [1, 2]
