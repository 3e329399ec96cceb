"""A cart that several devices of one customer fill at once, and that tells what is in it.

Each device asks the workflow for an update and gets its answer: the first one that asks starts the workflow,
and a click that is sent twice counts once. A query reads what is in the cart, also when it is closed.

    python examples/shared_cart.py
"""

from __future__ import annotations

import asyncio

from fenbu import App, on_query, on_update, step, updates_running, wait_until

app = App("cart")

PRICES = {"tea": 450, "cup": 900, "pot": 3900}


async def reserve(sku: str) -> int:
    """Ask the warehouse; what it raises is what the device sees."""
    if sku not in PRICES:
        raise LookupError(f"there is no {sku}")
    return PRICES[sku]


@app.workflow
async def cart(customer: str, *, places: int = 3) -> str:
    items: dict[str, int] = {}
    is_closed = False

    @on_query
    def total() -> int:
        return sum(items.values())

    @on_update
    async def add(sku: str) -> int:
        items[sku] = await step(reserve, sku)
        return len(items)

    @add.validator
    def has_room(sku: str) -> None:
        if is_closed or len(items) >= places:
            raise ValueError(f"no {sku}: the cart is full, or closed")

    @on_update
    def close() -> list[str]:
        nonlocal is_closed
        is_closed = True
        return sorted(items)

    await wait_until(lambda: is_closed and not updates_running())
    return f"{customer}: {', '.join(sorted(items))} for {total()}"


async def main() -> None:
    async with app:
        mine = cart.options(id="cart-ann")
        for click, sku in (("phone-1", "tea"), ("laptop-1", "cup"), ("phone-1", "tea")):
            count = await mine.and_update("add", sku, id=click, result=int)("ann")
            print(f"{click} adds {sku}: {count} in the cart")
        try:
            await mine.and_update("add", "yacht", result=int)("ann")
        except LookupError as error:
            print("refused:", error)
        handle = cart.handle("cart-ann")
        print("closed with:", await handle.update("close", result=list[str]))
        print(await handle.result())
        print("it was:", await handle.query("total", result=int))


if __name__ == "__main__":
    asyncio.run(main())
