"""Code changes while calls are in flight: a mark for a small change, a version for a large one.

The same file plays three deployments, one after the other, on one database. Each call ends with the code that
it began with, or takes the new way where that still lies before it.

    python examples/changing_code.py
"""

from __future__ import annotations

import asyncio
import tempfile

from fenbu import App, DurableFunction, patched, step, wait_signal


async def charge(order: str) -> str:
    return f"charged {order}"


async def check_fraud(order: str) -> str:
    return f"checked {order}"


async def charge_in_parts(order: str, parts: int) -> str:
    return f"charged {order} in {parts} parts"


def first_deployment(app: App) -> DurableFunction[[str], str]:
    @app.workflow(name="checkout")
    async def checkout(order: str) -> str:
        await wait_signal("paid", bool)
        return await step(charge, order)

    return checkout


def second_deployment(app: App) -> DurableFunction[[str], str]:
    """One more step. Orders that have come by this place already go on without it."""

    @app.workflow(name="checkout")
    async def checkout(order: str) -> str:
        checked = await step(check_fraud, order) if patched("fraud-check") else "not checked"
        await wait_signal("paid", bool)
        return f"{checked}, {await step(charge, order)}"

    return checkout


def third_deployment(app: App) -> DurableFunction[[str, int], str]:
    """Another checkout altogether, with another parameter; the one before it stays for its own calls."""
    second_deployment(app)

    @app.workflow(name="checkout", version=2)
    async def checkout(order: str, parts: int) -> str:
        await wait_signal("paid", bool)
        return await step(charge_in_parts, order, parts)

    return checkout


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:

        def new_process() -> App:
            return App("shop", url=f"sqlite:///{folder}/shop.db")

        app = new_process()
        first = first_deployment(app)
        async with app:
            await first.options(id="order-1").start("tea")

        app = new_process()
        second = second_deployment(app)
        async with app:
            await second.options(id="order-2").start("cup")

        app = new_process()
        third = third_deployment(app)
        async with app:
            await third.options(id="order-3").start("pot", 3)
            for order in ("order-1", "order-2", "order-3"):
                handle = app.handle(order)
                await handle.signal("paid", value=True)
                print(f"{order}: {await handle.result()}")


if __name__ == "__main__":
    asyncio.run(main())
