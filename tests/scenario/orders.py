"""What tests of topics share: events, and how to wait for what becomes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from fenbu import (
    App,
    ConsumerGroup,
    Event,
    Topic,
)


class Order(msgspec.Struct):
    number: int
    customer: str
    total: int = 0


def topic_of(app: App, **options: Any) -> Topic[Order]:
    return app.topic("orders", Order, key=lambda order: order.customer, **options)


class Seen:
    """What bodies of this process have got, and how to wait for it."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._more = asyncio.Event()

    def add(self, order: Order) -> None:
        self.numbers.append(order.number)
        self._more.set()

    async def count(self, wanted: int) -> list[int]:
        async with asyncio.timeout(20):
            while len(self.numbers) < wanted:
                self._more.clear()
                await self._more.wait()
        return self.numbers


async def caught_up(group: ConsumerGroup, count: int) -> None:
    """Until the group has delivered or passed over all events there are."""
    async with asyncio.timeout(20):
        while True:
            found = await group.positions()
            if all(each.offset is not None and not each.behind for each in found) and count <= sum(
                each.offset or 0 for each in found
            ):
                return
            await asyncio.sleep(0)


async def first(topic: Topic[Order], count: int, **where: Any) -> list[Event[Order]]:
    found: list[Event[Order]] = []
    async with asyncio.timeout(20):
        async for event in topic.events(**where):
            found.append(event)
            if len(found) == count:
                return found
    raise AssertionError(found)
