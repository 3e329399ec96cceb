"""Consumer groups: each gets every event once, as its handler says, from where it is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from fenbu import (
    App,
    CallFailed,
    Entity,
    Status,
    UsageError,
    operation,
    wait_signal,
)
from fenbu._api.topic_group import find_consumers
from fenbu._api.topic_log import Notice
from fenbu._core.model import Loaded
from fenbu.testing import crash_everywhere
from tests.scenario.orders import Order, Seen, caught_up, first, topic_of

pytestmark = pytest.mark.timeout(60)


async def test_a_task_gets_each_event_once_with_a_filter(app: App) -> None:
    orders, seen = topic_of(app), Seen()

    @app.task
    async def send(order: Order) -> None:
        seen.add(order)

    group = orders.subscribe(send, where=lambda order: order.number % 2 == 0)
    async with app:
        await orders.publish_many(Order(number, f"c{number}") for number in range(10))
        assert sorted(await seen.count(5)) == [0, 2, 4, 6, 8]
        await caught_up(group, 10)
        page = await app.list_calls(handler=send.name)
        assert len(page.calls) == 5


async def test_operations_of_a_key_come_in_order(app: App) -> None:
    orders = topic_of(app)

    @app.entity
    class Customer(Entity):
        placed: list[int] = []

        async def order_placed(self, order: Order) -> None:
            self.placed.append(order.number)

        @operation(read_only=True)
        async def all(self) -> list[int]:
            return self.placed

    group = orders.subscribe(Customer.order_placed)
    by_total = orders.subscribe(
        Customer.order_placed, key=lambda order: f"total {order.total}", group="totals"
    )
    async with app:
        await orders.publish_many(Order(number, f"c{number % 3}") for number in range(30))
        await caught_up(group, 30)
        await caught_up(by_total, 30)
        async with asyncio.timeout(20):
            for customer in range(3):
                expected = list(range(customer, 30, 3))
                while (await Customer(f"c{customer}").all()) != expected:
                    await asyncio.sleep(0)
            while (await Customer("total 0").all()) != list(range(30)):
                await asyncio.sleep(0)


async def test_a_workflow_for_each_key_gets_events_as_signals(app: App) -> None:
    orders = topic_of(app)

    @app.workflow
    async def journey(customer: str) -> list[int]:
        return [(await wait_signal("orders", Order)).number for _ in range(2)]

    group = orders.subscribe(journey, key=lambda order: order.customer, group="journeys")
    async with app:
        await orders.publish_many([Order(1, "c"), Order(2, "a/b~"), Order(3, "c")])
        await caught_up(group, 3)
        assert await journey.handle("journeys:c").result(20) == [1, 3]
        # It has ended: the next event begins it anew.
        await orders.publish_many([Order(4, "c"), Order(5, "c"), Order(6, "a/b~")])
        async with asyncio.timeout(20):
            while (await journey.handle("journeys:c").result()) != [4, 5]:
                await asyncio.sleep(0)
        page = await app.list_calls(handler=journey.name)
        assert len(page.calls) == 2


async def test_a_workflow_for_each_event(app: App) -> None:
    orders = topic_of(app)

    @app.workflow
    async def ship(order: Order) -> int:
        return order.number

    group = orders.subscribe(ship)
    async with app:
        await orders.publish_many(Order(number, "c") for number in range(3))
        await caught_up(group, 3)
        page = await app.list_calls(handler=ship.name)
        assert len(page.calls) == 3


async def test_a_new_group_begins_with_what_is_new_or_with_all(app: App) -> None:
    if app.url == "memory:":
        pytest.skip("what is in memory does not outlive the app")
    before = topic_of(app)
    async with app:
        await before.publish_many(Order(number, "c") for number in range(3))
        await first(before, 3)

    later = App("scenario", url=app.url)
    orders, new, all_ = topic_of(later), Seen(), Seen()

    @later.task
    async def see_new(order: Order) -> None:
        new.add(order)

    @later.task
    async def see_all(order: Order) -> None:
        all_.add(order)

    group = orders.subscribe(see_new)
    orders.subscribe(see_all, begin="all")
    async with later:
        assert sorted(await all_.count(3)) == [0, 1, 2]
        await caught_up(group, 3)
        await orders.publish(Order(3, "c"))
        assert await new.count(1) == [3]
        assert sorted(await all_.count(4)) == [0, 1, 2, 3]


async def test_paused_resumed_and_told_to_go_on_elsewhere(app: App) -> None:
    orders, seen = topic_of(app), Seen()

    @app.task
    async def send(order: Order) -> None:
        seen.add(order)

    group = orders.subscribe(send, begin="all")
    async with app:
        await orders.publish_many(Order(number, "c") for number in range(3))
        await seen.count(3)
        await caught_up(group, 3)
        await group.pause()
        async with asyncio.timeout(20):
            while not (await group.positions())[0].is_paused:
                await asyncio.sleep(0)
        await orders.publish_many(Order(number, "c") for number in range(3, 6))
        events = await first(orders, 6)
        (position,) = await group.positions()
        assert (position.offset, position.behind) == (events[2].offset, 3)
        await group.resume()
        assert sorted(await seen.count(6)) == list(range(6))

        await group.seek(offset=events[3].offset)
        assert sorted((await seen.count(8))[6:]) == [4, 5]
        await group.seek(since=events[0].at - timedelta(seconds=1))
        assert sorted((await seen.count(14))[8:]) == list(range(6))
        await group.pause()
        await group.seek()
        await orders.publish(Order(6, "c"))
        await group.resume()
        await caught_up(group, 1)
        await orders.publish(Order(7, "c"))
        assert (await seen.count(16))[14:] == [6, 7]


@pytest.mark.guarantee("message-once-in-order")
async def test_what_a_group_is_told_takes_one_way_also_if_it_was_given_to_another_partition(
    app: App,
) -> None:
    @app.task
    async def send(order: Order) -> None:
        raise AssertionError(order)

    topic_of(app).subscribe(send, group="senders")
    count = app.registry.partition_count
    call = app.registry.standing[0].call(0.0, count).invocation
    accepted_in = call.partition
    call.partition = (accepted_in + 1) % count

    class Database:
        async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
            assert ids == [call.id]
            return [Loaded(call, [])]

    (found,) = await find_consumers(Database(), "orders", ["senders"], [0], count)
    assert found.told(Notice("pause")).partition == accepted_in


async def test_an_offset_that_is_not_there_yet_passes_nothing_over(app: App) -> None:
    orders, seen = topic_of(app), Seen()

    @app.task
    async def send(order: Order) -> None:
        seen.add(order)

    @app.workflow
    async def skip() -> None:
        await group.seek(offset=10**12)

    group = orders.subscribe(send, begin="all")
    async with app:
        await orders.publish_many(Order(number, "c") for number in range(3))
        await seen.count(3)
        events = await first(orders, 3)
        for number, seek in ((3, skip()), (4, group.seek(offset=10**12))):
            await group.pause()
            await seek
            await group.resume()
            await caught_up(group, number)
            (position,) = await group.positions()
            assert position.offset == max(event.offset for event in events)
            await orders.publish(Order(number, "c"))
            assert (await seen.count(number + 1))[number:] == [number]
            events = await first(orders, number + 1)
        for wrong in (-4, "3", True):
            with pytest.raises(UsageError, match="seek: offset must be an offset, a number from 0"):
                await group.seek(offset=wrong)  # pyright: ignore[reportArgumentType]
    assert seen.numbers == list(range(5))


async def test_a_function_that_raises_is_named_and_tried_again(app: App) -> None:
    orders, seen, wrong = topic_of(app), Seen(), True

    @app.task
    async def send(order: Order) -> None:
        seen.add(order)

    @app.entity
    class Customer(Entity):
        async def placed(self, order: Order) -> None:
            seen.add(order)

    def where(order: Order) -> float:
        return 1 / (order.number - 1 if wrong else 1)

    def key(order: Order) -> Any:
        return 7 if wrong else order.customer

    orders.subscribe(send, where=where)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    orders.subscribe(Customer.placed, key=key)
    async with app:
        await orders.publish(Order(1, "c"))
        why = await failure_of(app, f"orders:{send.name}:0")
        assert re.match(r"`where` of group '\S*send' of topic 'orders': ZeroDivisionError: ", why)
        assert re.search(r"division by zero \(\S*test_topic_groups\.py:\d+\)$", why)
        why = await failure_of(app, "orders:Customer.placed:0")
        assert why.startswith("`key` of group 'Customer.placed' of topic 'orders': UsageError: ")
        wrong = False
        assert await seen.count(2) == [1, 1]


async def failure_of(app: App, consumer: str) -> str:
    """Why a step of a group is tried again."""
    assert app.node is not None
    async with asyncio.timeout(20):
        while True:
            for loaded in await app.node.storage.load_calls([consumer]):
                for entry in loaded.entries:
                    if entry.failure is not None:
                        return entry.failure.message
            await asyncio.sleep(0)


async def test_a_handler_that_fails_does_not_hold_up_the_group(app: App) -> None:
    orders, seen = topic_of(app), Seen()

    @app.task
    async def send(order: Order) -> None:
        if order.number == 1:
            raise ValueError("not this one")
        seen.add(order)

    orders.subscribe(send)
    async with app:
        await orders.publish_many(Order(number, "c") for number in range(3))
        assert sorted(await seen.count(2)) == [0, 2]
        async with asyncio.timeout(20):
            while not (page := await app.list_calls(statuses=[Status.FAILED])).calls:
                await asyncio.sleep(0)
        with pytest.raises((ValueError, CallFailed), match="not this one"):
            await app.handle(page.calls[0].id).result()


@pytest.mark.guarantee("step-once")
def test_a_crash_anywhere_delivers_each_event_once() -> None:
    app = App("crashing", url="memory:")
    orders = topic_of(app)

    @app.entity
    class Customer(Entity):
        placed: list[int] = []

        async def order_placed(self, order: Order) -> None:
            self.placed.append(order.number)

        @operation(read_only=True)
        async def all(self) -> list[int]:
            return self.placed

    orders.subscribe(Customer.order_placed, begin="all")

    @app.workflow
    async def place(count: int) -> int:
        seen = await orders.end()
        for number in range(count):
            await orders.publish(Order(number, "c"))
        event = await orders.next(lambda order: order.number == count - 1, key="c", after=seen)
        return event.value.number

    async def scenario() -> Any:
        last = await place.options(id="p")(3)
        while len(placed := await Customer("c").all()) < 3:
            await asyncio.sleep(1)
        return last, placed, [each.value.number for each in await first(orders, 3)]

    assert crash_everywhere(app, scenario) >= 5
