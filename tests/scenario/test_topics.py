"""Topics: published in the sender's commit, read from anywhere, delivered once to each group, and awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import (
    App,
    EncodingError,
    Entity,
    PayloadTooLarge,
    UsageError,
    now,
)
from tests.scenario.orders import Order, Seen, caught_up, first, topic_of

pytestmark = pytest.mark.timeout(60)


async def test_what_is_published_is_read_in_order_from_anywhere(app: App) -> None:
    orders = topic_of(app)

    @app.workflow
    async def place(count: int) -> None:
        for number in range(count):
            await orders.publish(Order(number, "c"))

    async with app:
        reading = asyncio.create_task(first(orders, 5))
        await place(3)
        await orders.publish_many([Order(3, "c"), Order(4, "d", 7)])
        events = await reading
        assert [each.value for each in events] == [
            *(Order(number, "c") for number in range(4)),
            Order(4, "d", 7),
        ]
        assert [each.key for each in events] == [*"cccc", "d"]
        offsets = [each.offset for each in events]
        assert offsets == sorted(set(offsets))
        again = await first(orders, 3, after=offsets[1])
        assert [each.value.number for each in again] == [2, 3, 4]
        (late,) = await first(orders, 1, since=events[-1].at)
        assert late.at == events[-1].at
        assert await orders.end() == offsets[-1]
    if app.url == "memory:":
        return
    async with app.client():
        await orders.publish(Order(5, "c"))
    async with app:
        assert (await first(orders, 6))[-1].value.number == 5


async def test_a_workflow_that_fails_has_published_what_came_before(app: App) -> None:
    orders = topic_of(app)

    @app.workflow
    async def place() -> None:
        await orders.publish(Order(1, "c"))
        raise ValueError("after that")

    @app.entity
    class Shop(Entity):
        async def place(self) -> None:
            await orders.publish(Order(2, "c"))
            raise ValueError("an operation that fails changes nothing, but what it sent is sent")

    async with app:
        for call in (place, Shop("s").place):
            with pytest.raises(ValueError, match=r"after that|changes nothing"):
                await call()
        assert [each.value.number for each in await first(orders, 2)] == [1, 2]


async def test_an_id_is_published_once(app: App) -> None:
    orders = topic_of(app)
    async with app:
        for number in (1, 2):
            await orders.publish(Order(number, "c"), id="a")
        await orders.publish(Order(3, "c"), id="b")
        assert [each.value.number for each in await first(orders, 2)] == [1, 3]


async def test_next_waits_for_the_event_that_matches(app: App) -> None:
    orders = topic_of(app)

    @app.workflow
    async def wait(customer: str | None, total: int, seen: int | None) -> int:
        event = await orders.next(lambda order: order.total >= total, key=customer, after=seen)
        return event.value.number

    async with app:
        await orders.publish(Order(1, "c", 100))
        await first(orders, 1)
        end = await orders.end()
        waiting = await wait.start("c", 10, end)
        anybody = await wait.start(None, 50, end)
        earlier = await wait.start("c", 10, 0)
        assert await earlier.result(20) == 1
        await orders.publish_many([Order(2, "d", 20), Order(3, "c", 5), Order(4, "c", 12)])
        assert await waiting.result(20) == 4
        await orders.publish_many(Order(10 + n, "e", n) for n in range(60))
        assert await anybody.result(20) == 60
        # Who waits no longer is forgotten.
        gone = await wait.start("z", 1, None)
        async with asyncio.timeout(20):
            while not await _parked(app, "z"):
                await asyncio.sleep(0)
            await gone.cancel("enough")
            while await _parked(app, "z"):
                await asyncio.sleep(0)


async def _parked(app: App, key: str) -> bool:
    """Whether somebody waits at the bell of a key."""
    node = app.node
    if node is None:
        raise AssertionError
    await node.tenure.committer.durable()  # pyright: ignore[reportOptionalMemberAccess]
    return bool(await node.storage.load_entities([("fenbu.topic.bell", f"orders/0/{key}")]))


async def test_next_with_a_timeout_and_one_after_the_other(app: App) -> None:
    orders = topic_of(app)

    @app.workflow
    async def collect() -> list[int]:
        after, found = await orders.end(), list[int]()
        try:
            async with asyncio.timeout(1.0):
                while True:
                    event = await orders.next(key="c", after=after)
                    after = event.offset
                    found.append(event.value.number)
        except TimeoutError:
            return found

    async with app:
        collecting = await collect.start()
        async with asyncio.timeout(20):
            while not await _parked(app, "c"):
                await asyncio.sleep(0)
        await orders.publish_many([Order(1, "c"), Order(2, "d"), Order(3, "c")])
        assert await collecting.result(20) == [1, 3]


async def test_shards_by_key(app: App) -> None:
    orders, seen = topic_of(app, shards=4), Seen()

    @app.task
    async def send(order: Order) -> None:
        seen.add(order)

    group = orders.subscribe(send)

    @app.workflow
    async def wait() -> int:
        return (await orders.next(key="c3")).value.number

    async with app:
        await caught_up(group, 0)
        waiting = await wait.start()
        async with asyncio.timeout(20):
            while not any([await _parked_in(app, shard) for shard in range(4)]):
                await asyncio.sleep(0)
        await orders.publish_many(Order(number, f"c{number % 8}") for number in range(40))
        assert sorted(await seen.count(40)) == list(range(40))
        assert await waiting.result(20) == 3
        found: dict[str, list[int]] = {}
        for shard in range(4):
            length = await orders._feed.log(shard).length()
            for event in await first(orders, length, shard=shard) if length else ():
                found.setdefault(f"{shard} {event.key}", []).append(event.value.number)
        assert sorted(found.values()) == [list(range(each, 40, 8)) for each in range(8)]
        with pytest.raises(UsageError, match="has 4 shards: give the events' `key=`"):
            await orders.end()


async def _parked_in(app: App, shard: int) -> bool:
    node = app.node
    if node is None:
        raise AssertionError
    return bool(await node.storage.load_entities([("fenbu.topic.bell", f"orders/{shard}/c3")]))


async def test_who_cannot_take_an_event_cannot_subscribe(app: App) -> None:
    orders, plain = topic_of(app), app.topic("plain", Order)

    @app.task
    async def task(order: Order) -> None: ...

    async def wait(order: Order) -> str:
        return order.customer

    for wrong in (3, "customer", wait):
        with pytest.raises(UsageError, match="topic 'wrong': key must be a "):
            app.topic("wrong", Order, key=wrong)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(UsageError, match="where must be a "):
            orders.subscribe(task, where=wrong, group="other")  # pyright: ignore[reportArgumentType]

    @app.task
    async def number(n: int) -> None: ...

    @app.workflow
    async def journey(customer: list[str]) -> None: ...

    numbers, texts = app.topic("numbers", int), app.topic("texts", str | None)
    with pytest.raises(
        UsageError, match=r"number\(n\) takes int, which an event, .*Order, cannot be"
    ):
        plain.subscribe(number)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        UsageError, match=r"journey\(customer\) takes list\[str\], which a key, str,"
    ):
        plain.subscribe(journey, key=lambda order: order.customer)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"number\(n\) takes int, which an event, str \| None"):
        texts.subscribe(number)  # pyright: ignore[reportArgumentType]
    numbers.subscribe(number)


async def test_what_cannot_be(app: App) -> None:
    orders = topic_of(app)

    @app.task
    async def none() -> None: ...

    @app.task
    async def task(order: Order) -> None: ...

    @app.entity
    class Stock(Entity):
        async def placed(self, order: Order) -> None: ...

    plain = app.topic("plain", Order)
    with pytest.raises(UsageError, match="none cannot be called with an event"):
        orders.subscribe(none)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="say which entity an event is for"):
        plain.subscribe(Stock.placed)
    with pytest.raises(UsageError, match="is a task, and has no key"):
        orders.subscribe(task, key=lambda order: order.customer)
    with pytest.raises(UsageError, match="is no task, workflow or operation of this app"):
        orders.subscribe(print)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="begin must be 'new' or 'all'"):
        orders.subscribe(task, begin="old")  # pyright: ignore[reportArgumentType]
    orders.subscribe(task)
    with pytest.raises(UsageError, match="registered twice"):
        orders.subscribe(task)
    with pytest.raises(UsageError, match="topic 'orders' is registered twice"):
        app.topic("orders")
    for name, options in (("a/b", {}), ("", {}), ("a" * 65, {}), ("x", {"shards": 0})):
        with pytest.raises(UsageError, match="topic"):
            app.topic(name, Order, **options)

    @app.workflow
    async def reads() -> None:
        async for _ in orders.events():
            pass

    async with app:
        with pytest.raises(EncodingError, match=r"topic 'orders': the event: .*total"):
            await orders.publish(Order(1, "c", "much"))  # pyright: ignore[reportArgumentType]
        with pytest.raises(
            EncodingError, match="topic 'orders': the event: Expected `object`, got `str`"
        ):
            await orders.publish("text")  # pyright: ignore[reportArgumentType]
        with pytest.raises(UsageError, match="the key of an event must be a text"):
            await orders.publish(Order(1, ""))
        with pytest.raises(UsageError, match="no shard 1"):
            await first(orders, 1, shard=1)
        for after in (-4, "x"):
            with pytest.raises(UsageError, match="after must be an offset"):
                await first(orders, 1, after=after)
        with pytest.raises(UsageError, match="has no time zone"):
            await first(orders, 1, since=now().replace(tzinfo=None))
        with pytest.raises(UsageError, match=r"next\(\) is for workflows"):
            await orders.next()
        with pytest.raises(UsageError, match=r"in a workflow use `next\(\)`"):
            await reads()


async def test_an_event_that_is_too_large(tmp_path: Any) -> None:
    app = App("large", url="memory:", payload_bytes_max=1000)
    texts = app.topic("texts", str)
    async with app:
        with pytest.raises(PayloadTooLarge, match="topic 'texts': the event"):
            await texts.publish("x" * 2000)


async def test_without_await(app: App) -> None:
    if app.url == "memory:":
        pytest.skip("a loop of its own")
    orders = topic_of(app)

    def use() -> list[int]:
        with app:
            orders.sync.publish(Order(1, "c"))
            orders.sync.publish_many([Order(2, "c"), Order(3, "c")])
            found: list[int] = []
            for event in orders.sync.events():
                found.append(event.value.number)
                if len(found) == 3:
                    return found
        raise AssertionError

    assert await asyncio.to_thread(use) == [1, 2, 3]
