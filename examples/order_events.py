"""Orders as events: the shop publishes, and mail, loyalty points and delivery each get every order once.

The shop knows none of them. Each checkout waits for an event of the delivery, which is another topic.

    python examples/order_events.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fenbu import App, Entity, operation, step

app = App("shop")


@dataclass
class Placed:
    order: int
    customer: str
    cents: int


@dataclass
class Delivered:
    order: int


orders = app.topic("orders", Placed, key=lambda placed: placed.customer)
deliveries = app.topic("deliveries", Delivered, key=lambda delivered: str(delivered.order))


async def charge(customer: str, cents: int) -> str:
    return f"{customer} paid {cents}"


@app.workflow
async def checkout(order: int, customer: str, cents: int) -> str:
    """The event is published if, and only if, the workflow comes to this line; and once."""
    seen = await deliveries.end(key=str(order))
    paid = await step(charge, customer, cents)
    await orders.publish(Placed(order, customer, cents))
    async with asyncio.timeout(3600):
        await deliveries.next(key=str(order), after=seen)
    return f"{paid}, delivered"


# Who listens. Each could be in another service on the same database.


@app.task
async def send_receipt(placed: Placed) -> None:
    print(f"mail to {placed.customer}: order {placed.order}")


@app.entity
class Loyalty(Entity):
    points: int = 0

    async def order_placed(self, placed: Placed) -> None:
        self.points += placed.cents // 100

    @operation(read_only=True)
    async def balance(self) -> int:
        return self.points


@app.workflow
async def deliver(placed: Placed) -> None:
    await asyncio.sleep(0.05)  # a few days
    await deliveries.publish(Delivered(placed.order))


orders.subscribe(send_receipt, where=lambda placed: placed.cents >= 1000)
orders.subscribe(Loyalty.order_placed)
orders.subscribe(deliver)


async def main() -> None:
    async with app:
        customers = {1: ("ann", 1500), 2: ("bob", 900), 3: ("ann", 2500)}
        calls = [
            checkout.options(id=f"order-{order}")(order, customer, cents)
            for order, (customer, cents) in customers.items()
        ]
        for said in await asyncio.gather(*calls):
            print(said)

        # Anybody can read the log, from anywhere in it, live.
        async for event in orders.events():
            print(f"{event.offset}: {event.value}")
            if event.value.order == 3:
                break
        while (points := await Loyalty("ann").balance()) < 40:  # noqa: ASYNC110 - each group has its own pace
            await asyncio.sleep(0.01)
        print(f"ann has {points} points")


if __name__ == "__main__":
    asyncio.run(main())
