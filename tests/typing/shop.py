"""What a user's program looks like to a strict type checker. Checked, not run.

Each `pyright: ignore` stands for an error that the checker must find: an unnecessary one is an error itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, assert_type
from uuid import UUID

from msgspec import Struct

import fenbu
from fenbu import (
    INJECTED,
    App,
    BatchProgress,
    Callback,
    Chunk,
    ConsumerGroup,
    DurableFunction,
    Entity,
    EntityInfo,
    EntityPage,
    Event,
    Handle,
    Lazy,
    Middleware,
    Resource,
    Results,
    Retry,
    Running,
    Starting,
    Status,
    Stream,
    SyncHandle,
    SyncResults,
    SyncUpdateHandle,
    Topic,
    UpdateHandle,
    callback,
    on_query,
    on_update,
    operation,
    patched,
    saga,
    step,
    stream,
    tx_step,
    wait_signal,
)
from fenbu.integrations import opentelemetry

app = App("shop")


@dataclass
class Order:
    id: int
    skus: list[str] = field(default_factory=list[str])


@app.task
async def send(order_id: int, *, subject: str = "hello") -> bool:
    return bool(order_id and subject)


@app.task(retry=Retry(attempts=8), timeout=timedelta(minutes=5), retention=3600)
def resize(path: str, width: int) -> bytes:
    return path.encode() * width


@app.entity
class Basket(Entity):
    owner: str = ""
    history: Lazy[list[str]]
    limit: Lazy[int | None] = Lazy(None)
    notes: Lazy[dict[str, list[int]]] = Lazy({})
    wrong: Lazy[int] = Lazy("x")  # pyright: ignore[reportAssignmentType]

    async def add(self, sku: str) -> int:
        past = await self.history.get()
        assert_type(past, list[str])
        assert_type(await self.limit.get(), int | None)
        assert_type(await self.notes.get(), dict[str, list[int]])
        self.history.set([*past, sku])
        self.limit.set(None)
        self.history.set([7])  # pyright: ignore[reportArgumentType]
        self.history = [sku]  # pyright: ignore[reportAttributeAccessIssue]
        self.owner = self.history  # pyright: ignore[reportAttributeAccessIssue]
        return len(past)


@app.entity
class Stock(Entity):
    units: int = 0

    async def reserve(self, n: int) -> int:
        assert_type(self.key, str)
        self.units -= n
        handle = self.send_later(60, self.expire, n)
        assert_type(handle, Handle[Any])
        self.send_later(60, self.expire, "n")  # pyright: ignore[reportArgumentType]
        return self.units

    async def expire(self, n: int) -> None:
        self.units += n

    @operation(read_only=True)
    async def left(self) -> int:
        return self.units

    @operation
    async def add(self, n: int) -> int:
        left = await self.left()
        assert_type(left, int)
        self.units = left + n
        return self.units


async def charge(card: str, cents: int) -> UUID:
    return UUID(int=len(card) + cents)


def refund(payment: UUID) -> None: ...


class Db:
    async def store(self, order_id: int) -> bool:
        return bool(order_id)


async def open_db() -> AsyncIterator[Db]:
    yield Db()


@app.task(soft_timeout=50, attempt_timeout=60, heartbeat_timeout=timedelta(seconds=30))
async def store(order_id: int, db: Annotated[Db, Resource(open_db)] = INJECTED) -> bool:
    attempt = fenbu.current_attempt()
    assert_type(attempt.last_heartbeat(int), int | None)
    assert_type(attempt.last_heartbeat(), Any)
    assert_type(attempt.remaining_seconds, float | None)
    assert_type(attempt.time_is_up.is_set(), bool)
    assert_type(attempt.context, Mapping[str, str])
    fenbu.heartbeat({"stored": order_id})
    return await db.store(order_id)


async def remember(order_id: int, *, db: Annotated[Db, Resource(open_db)] = INJECTED) -> bool:
    return await db.store(order_id)


@app.middleware
class Tracing(Middleware):
    @contextmanager
    def start(self, call: Starting) -> Generator[None]:
        call.context["traceparent"] = call.id or ""
        call.context["traceparent"] = 7  # pyright: ignore[reportArgumentType]
        yield

    @contextmanager
    def run(self, what: Running) -> Generator[None]:
        assert_type(what.context, Mapping[str, str])
        yield


assert_type(Tracing, type[Tracing])
app.middleware(Tracing())
app.middleware(opentelemetry.Tracing())
app.middleware(int)  # pyright: ignore[reportArgumentType]


async def book(connection: object, order: Order, *, seats: int = 1) -> int:
    return order.id + seats


@app.workflow
async def checkout(order: Order) -> UUID:
    async with saga() as undo:
        payment = await step(charge, "card", order.id)
        assert_type(payment, UUID)
        undo(refund, payment)
        undo(refund, "payment")  # pyright: ignore[reportArgumentType]
        await step(charge, "card")  # pyright: ignore[reportCallIssue]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(Stock(sku).reserve(1)) for sku in order.skus]
        assert_type(tasks[0].result(), int)
    image = await step.options(retry=Retry(attempts=3), timeout=10)(len, "text")
    assert_type(image, int)
    assert_type(await tx_step(book, order, seats=2), int)
    await tx_step.options(timeout=3)(book, 7)  # pyright: ignore[reportArgumentType]
    assert_type(await step(remember, 7), bool)
    assert_type(await step.options(soft_timeout=5, heartbeat_timeout=3)(remember, 7), bool)
    assert_type(fenbu.current_context(), Mapping[str, str])
    answer = await callback(list[int])
    assert_type(answer, Callback[list[int]])
    assert_type(answer.token, str)
    assert_type(await answer.result(timeout=timedelta(days=1)), list[int])
    assert_type(await callback(), Callback[Any])
    async with asyncio.timeout(60):
        approved = await wait_signal("approval", bool)
    assert_type(approved, bool)
    assert_type(fenbu.now(), datetime)
    assert_type(fenbu.uuid4(), UUID)
    assert_type(fenbu.random(), float)
    await send.start(order.id, subject="thanks")
    return payment


@app.workflow(name="checkout", version=2)
async def checkout_with_gift(order: Order, gift: str = "") -> list[UUID]:
    assert_type(patched("no-card"), bool)
    return [await step(charge, gift, 0)]


async def main() -> None:
    async with app:
        assert_type(await checkout_with_gift(Order(1), gift="mug"), list[UUID])
        await checkout_with_gift("1")  # pyright: ignore[reportArgumentType]
        assert_type(await checkout(Order(1)), UUID)
        assert_type(await send(1, subject="x"), bool)
        assert_type(await resize("path", 3), bytes)
        call: Coroutine[Any, Any, bytes] = resize("path", 3)
        assert_type(await call, bytes)
        assert_type(await store(7), bool)
        await store("7")  # pyright: ignore[reportArgumentType]
        stored = await store.start(7)
        assert_type(await stored.progress(int), int | None)
        assert_type(await stored.progress(), Any)
        await send("1")  # pyright: ignore[reportArgumentType]
        await send(1, topic="x")  # pyright: ignore[reportCallIssue]
        await resize("path")  # pyright: ignore[reportCallIssue]
        handle = await checkout.options(id="order-1", delay=60).start(Order(1))
        assert_type(handle, Handle[UUID])
        assert_type(await handle.result(timeout=3), UUID)
        assert_type(await handle.status(), Status)
        await handle.signal("approval", value=True)
        async for token in handle.stream("tokens", str):
            assert_type(token, str)
        async for chunk in handle.stream("lines", int).chunks(after=7):
            assert_type(chunk, Chunk[int])
        assert_type(await send.options(transaction=object()).start(1), Handle[bool])
        await checkout.start(1)  # pyright: ignore[reportArgumentType]
        assert_type(await send.start_many([(1,), (2,)]), list[Handle[bool]])
        assert_type(await Stock("sku").reserve(2), int)
        assert_type(await Stock("sku").add.start(2), Handle[int])
        assert_type(await Stock("sku").add.options(timeout=3)(2), int)
        assert_type(await Stock("sku").left(), int)
        await Stock("sku").add("2")  # pyright: ignore[reportArgumentType]
        await Stock(7).left()  # pyright: ignore[reportArgumentType]
        assert_type(
            await app.start_many(Stock("a").add.bind(n) for n in range(3)), list[Handle[int]]
        )
        assert_type(checkout.handle("order-1"), Handle[UUID])


@app.task
async def writes() -> None:
    out = stream("tokens", str)
    assert_type(out, Stream[str])
    assert_type(await out.resume(), list[str])
    await out.write("a")
    out.sync.write("a")
    await out.write(7)  # pyright: ignore[reportArgumentType]


async def webhook(token: str) -> None:
    async with app.client() as client:
        await client.complete(token, [1])
        await client.fail(token, ValueError("no"))
        await client.fail(token, 7)  # pyright: ignore[reportArgumentType]


def script() -> None:
    with app:
        app.sync.complete("token", [1])
        assert_type(app.sync.start_many(send.bind(n) for n in range(3)), list[SyncHandle[bool]])
        assert_type(checkout.sync(Order(1)), UUID)
        handle = send.sync.start(1)
        assert_type(handle, SyncHandle[bool])
        for each in handle.stream("tokens", str):
            assert_type(each, str)
        assert_type(handle.result(), bool)
        send.sync("1")  # pyright: ignore[reportArgumentType]
        assert_type(Stock("sku").add.sync(3), int)


def takes(function: DurableFunction[[int], str]) -> None: ...


takes(send)  # pyright: ignore[reportArgumentType]


@app.workflow
async def cart(user: str) -> int:
    items: list[str] = []

    @on_query
    def count() -> int:
        return len(items)

    @on_update
    async def put(sku: str) -> int:
        items.append(sku)
        return count()

    @put.validator
    def check(sku: str) -> None: ...

    @put.validator  # pyright: ignore[reportArgumentType]
    def wrong(sku: int) -> None: ...

    assert_type(await put("sku"), int)
    return len(user)


class Placed(Struct):
    order: int
    customer: str


placed = app.topic("orders", Placed, key=lambda each: each.customer)
assert_type(placed, Topic[Placed])


@app.task
async def mail(event: Placed) -> None: ...


@app.entity
class Loyalty(Entity):
    async def order_placed(self, event: Placed) -> None: ...
    @operation
    async def marked(self, event: Placed) -> None: ...
    async def other(self, event: int) -> None: ...


assert_type(placed.subscribe(mail, where=lambda each: each.order > 1), ConsumerGroup)
placed.subscribe(Loyalty.order_placed)
placed.subscribe(Loyalty.marked, group="marked")
placed.subscribe(Loyalty.other)  # pyright: ignore[reportArgumentType]
placed.subscribe(send)  # pyright: ignore[reportArgumentType]


async def events() -> None:
    await placed.publish(Placed(1, "c"))
    await placed.publish(7)  # pyright: ignore[reportArgumentType]
    async for event in placed.events():
        assert_type(event, Event[Placed])
        assert_type(event.value, Placed)
    assert_type((await placed.next(lambda each: each.order == 1)).value, Placed)


@app.entity(ttl=timedelta(days=30))
class Session(Entity):
    user: str = ""


async def look() -> None:
    page = await app.list_entities(Stock, limit=10, after="sku-1")
    assert_type(page, EntityPage[Stock])
    assert_type(page.entities[0].state.units, int)
    assert_type(page.entities[0].expires_at, datetime | None)
    async for seen in app.watch(Session("s")):
        assert_type(seen, EntityInfo[Session] | None)
        if seen is not None:
            assert_type(seen.state.user, str)
            repr(seen.state.name)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    await app.list_entities("Stock")  # pyright: ignore[reportArgumentType]
    for change in app.watch(Stock("sku-1")).sync:
        assert_type(change, EntityInfo[Stock] | None)
    assert_type(app.sync.list_entities(Stock), EntityPage[Stock])


async def ask() -> None:
    handle = cart.handle("c")
    assert_type(await handle.query("count", result=int), int)
    assert_type(await handle.update("put", "sku", id="u", result=int), int)
    assert_type(await handle.update("put", "sku"), Any)
    assert_type(await handle.update("put", sku="sku", result=int), int)
    assert_type(await handle.query("count", name="x"), Any)
    assert_type(handle.sync.start_update("put", sku="s", result=int), SyncUpdateHandle[int])
    assert_type(await handle.start_update("put", "sku", result=int), UpdateHandle[int])
    assert_type(await cart.and_signal("paid", 5).start("ann"), Handle[int])
    assert_type(await cart.and_update("put", "sku", result=str)("ann"), str)
    await cart.and_update("put", "sku")(1)  # pyright: ignore[reportArgumentType]


async def many() -> None:
    async for sent in send.map([1, 2], concurrency=5):
        assert_type(sent, bool)
    send.map(["a"])  # pyright: ignore[reportArgumentType]
    resize.map(["a"])  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert_type(send.map([1], return_exceptions=True), Results[bool | Exception])
    assert_type(app.map(resize.bind(path, 640) for path in "ab"), Results[bytes])
    async with send.map([1], ordered=False) as results:
        assert_type(await anext(results), bool)
    assert_type(send.sync.map([1]), SyncResults[bool])
    assert_type(next(send.sync.map([1], return_exceptions=True)), bool | Exception)


async def numbers(cursor: str | None, bucket: str) -> tuple[list[int], str | None]:
    return [len(bucket)], cursor


def names(cursor: int | None = None) -> tuple[list[str], int | None]:
    return ["a"], cursor


sends = app.batch("sends", source=numbers, each=send, retry=Retry(attempts=3))
app.batch("wrong", source=names, each=send)  # pyright: ignore[reportArgumentType, reportCallIssue]


async def begins() -> None:
    handle = await sends.options(id="s").start(None, "photos")
    assert_type(handle, Handle[BatchProgress])
    assert_type(await sends("a", "photos"), BatchProgress)
    await sends(None)  # pyright: ignore[reportCallIssue]
    progress = await handle.query("progress", result=BatchProgress)
    assert_type(progress.open, int)
