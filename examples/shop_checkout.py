"""A checkout that undoes what it did when it cannot finish.

Stock is an entity: one durable instance for each product, one operation at a time. The checkout is a
workflow with a saga: payment and reservations are compensated in reverse if shipping fails.

    python examples/shop_checkout.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fenbu import App, Entity, Retry, operation, saga, step

app = App("shop")


@dataclass
class Line:
    sku: str
    units: int


@dataclass
class Order:
    id: str
    lines: list[Line]
    country: str = "SE"


class OutOfStock(Exception):
    """There is not enough of a product."""


@app.entity
class Stock(Entity):
    units: int = 0
    reserved: dict[str, int] = {}

    async def add(self, units: int) -> None:
        self.units += units

    async def reserve(self, order_id: str, units: int) -> None:
        if units > self.units:
            raise OutOfStock(f"{self.units} of {self.key} left, {units} wanted")
        self.units -= units
        self.reserved[order_id] = units

    async def release(self, order_id: str) -> None:
        """Safe to call whether or not the reservation was made."""
        self.units += self.reserved.pop(order_id, 0)

    @operation(read_only=True)
    async def left(self) -> int:
        return self.units


async def charge(order_id: str, cents: int) -> str:
    print(f"  {order_id}: charged {cents} cents")
    return f"payment-{order_id}"


async def refund(payment: str) -> None:
    print(f"  {payment}: refunded")


async def ship(order: Order) -> str:
    if order.country == "XX":
        raise ConnectionError("no carrier goes to XX")
    return f"parcel-{order.id}"


@app.task(retry=Retry(attempts=5))
async def send_receipt(order_id: str, parcel: str) -> None:
    print(f"  {order_id}: receipt sent, {parcel} is on its way")


@app.workflow
async def checkout(order: Order) -> str:
    async with saga() as undo:
        payment = await step(charge, order.id, 500 * len(order.lines))
        undo(refund, payment)
        async with asyncio.TaskGroup() as group:
            for line in order.lines:
                # Side by side: when one fails, another may or may not have been made. So undo comes first.
                undo(Stock(line.sku).release, order.id)
                group.create_task(Stock(line.sku).reserve(order.id, line.units))
        retry = Retry(attempts=3, first_seconds=0.05)
        parcel = await step.options(retry=retry)(ship, order)
    await send_receipt.start(order.id, parcel)
    return parcel


async def main() -> None:
    async with app:
        await Stock("tea").add(10)
        await Stock("cup").add(3)
        orders = [
            Order("good", [Line("tea", 2), Line("cup", 1)]),
            Order("far", [Line("tea", 2), Line("cup", 1)], country="XX"),
            Order("big", [Line("tea", 1), Line("cup", 9)]),
        ]
        for order in orders:
            try:
                print(f"{order.id}: {await checkout(order)}")
            except* OutOfStock as group:
                print(f"{order.id}: {group.exceptions[0]}")
            except* ConnectionError as group:
                print(f"{order.id}: {group.exceptions[0]}")
        print(f"left: {await Stock('tea').left()} tea, {await Stock('cup').left()} cups")


if __name__ == "__main__":
    asyncio.run(main())
