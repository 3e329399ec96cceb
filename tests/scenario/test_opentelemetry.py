"""Spans of calls, as an exporter gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import fenbu
from fenbu import App, Entity, Retry, Status, on_query, on_update, step
from fenbu.integrations.opentelemetry import Tracing
from fenbu.testing import crash_everywhere

pytestmark = pytest.mark.timeout(60)


class Traced:
    """An app with tracing, and the spans that have ended."""

    def __init__(self, url: str, *, idle_seconds: float = 60.0) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.app = App("traced", url=url, idle_seconds=idle_seconds)
        self.app.middleware(Tracing(tracer_provider=self.provider))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def one(self, name: str) -> ReadableSpan:
        (found,) = [each for each in self.spans if each.name == name]
        return found

    def path(self, span: ReadableSpan) -> list[str]:
        """Its name, and those of what it is in."""
        by_id = {each.context.span_id: each for each in self.spans if each.context is not None}
        found = [span.name]
        while span.parent is not None:
            span = by_id[span.parent.span_id]
            found.append(span.name)
        return found


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    found = Traced(f"sqlite:///{tmp_path}/app.db")
    yield found
    found.provider.shutdown()


def service(app: App) -> Any:
    @app.task(name="mail", retry=Retry(attempts=2, first_seconds=0.0))
    async def mail(to: str) -> str:
        if fenbu.current_attempt().number == 1:
            raise ConnectionError(to)
        return to

    async def charge(cents: int) -> int:
        return cents

    @app.entity(name="Till")
    class Till(Entity):
        cents: int = 0

        async def add(self, cents: int) -> int:
            self.cents += await step.options(name="count")(charge, cents)
            return self.cents

    @app.workflow(name="checkout")
    async def checkout(cents: int) -> str:
        await step.options(name="charge")(charge, cents)
        await Till("1").add(cents)
        return await mail("ann")

    return checkout


async def test_one_trace_goes_through_all_that_a_call_does(traced: Traced) -> None:
    checkout = service(traced.app)
    tracer = traced.provider.get_tracer("test")
    async with traced.app:
        with tracer.start_as_current_span("request"):
            assert await checkout.options(id="c-1")(5) == "ann"
    assert len({each.context.trace_id for each in traced.spans if each.context}) == 1
    top = ["run checkout", "start checkout", "request"]
    assert traced.path(traced.one("step charge")) == ["step charge", *top]
    assert traced.path(traced.one("step count")) == [
        "step count", "run Till.add", "start Till.add", *top,
    ]  # fmt: skip
    failed, went_well = (each for each in traced.spans if each.name == "run mail")
    assert traced.path(went_well) == traced.path(failed) == ["run mail", "start mail", *top]
    # What is awaited outside of code has a span as long as it.
    start, ran = traced.one("start checkout"), traced.one("run checkout")
    assert start.end_time is not None
    assert ran.end_time is not None
    assert start.end_time >= ran.end_time


async def test_attributes_and_errors(traced: Traced) -> None:
    checkout = service(traced.app)
    async with traced.app:
        await checkout.options(id="c-1")(5)
    start, ran = traced.one("start checkout"), traced.one("run checkout")
    assert (start.kind, ran.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert dict(start.attributes or {}) == {
        "messaging.system": "fenbu",
        "messaging.operation.type": "send",
        "messaging.operation.name": "start",
        "messaging.destination.name": "checkout",
        "messaging.message.id": "c-1",
        "fenbu.call.id": "c-1",
    }
    assert (ran.attributes or {})["messaging.operation.type"] == "process"
    assert (traced.one("run Till.add").attributes or {})["fenbu.entity.key"] == "1"
    failed, went_well = (each for each in traced.spans if each.name == "run mail")
    assert (failed.status.status_code, went_well.status.status_code) == (
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert (failed.attributes or {})["error.type"] == "ConnectionError"
    assert [each.name for each in failed.events] == ["exception"]
    assert [(each.attributes or {})["fenbu.attempt"] for each in (failed, went_well)] == [1, 2]


async def test_there_is_no_span_of_a_replay_and_the_trace_goes_on_behind_it(tmp_path: Path) -> None:
    traced = Traced(f"sqlite:///{tmp_path}/app.db", idle_seconds=0.02)
    app = traced.app

    @app.task(name="last")
    async def last() -> None: ...

    async def first() -> None: ...

    @app.workflow(name="waits")
    async def waits() -> None:
        await step.options(name="first")(first)
        await fenbu.wait_signal("go")
        await step.options(name="second")(first)
        await last()

    async with app:
        handle = await waits.start()
        async with asyncio.timeout(20):
            while await handle.status() is not Status.SUSPENDED:
                await asyncio.sleep(0)
        await handle.signal("go")
        await handle.result()
    ran = traced.one("run waits")
    assert (ran.attributes or {})["fenbu.left_memory"] is True
    assert ran.status.status_code is StatusCode.UNSET
    assert traced.path(traced.one("step first")) == ["step first", "run waits", "start waits"]
    assert traced.path(traced.one("step second")) == ["step second", "start waits"]
    assert traced.path(traced.one("run last")) == ["run last", "start last", "start waits"]


async def test_queries_and_updates_have_a_span_on_each_side(traced: Traced) -> None:
    app = traced.app

    async def work() -> None: ...

    @app.workflow(name="cart")
    async def cart() -> None:
        items: list[str] = []

        @on_query
        def count() -> int:
            return len(items)

        @on_update
        async def add(sku: str) -> None:
            if not sku:
                raise ValueError("no sku")
            await step(work)
            items.append(sku)

        await fenbu.wait_signal("close")

    async with app:
        handle = await cart.options(id="c").start()
        await handle.update("add", "tea")
        assert await handle.query("count") == 1
        with pytest.raises(ValueError, match="no sku"):
            await handle.update("add", "")
        await handle.cancel()
        with pytest.raises(fenbu.CallCancelled):
            await handle.result()
    assert traced.path(traced.one("serve count")) == ["serve count", "query count"]
    well, wrong = (each for each in traced.spans if each.name == "serve add")
    assert traced.path(well) == ["serve add", "update add"]
    assert (well.kind, traced.one("query count").kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert (well.attributes or {})["rpc.method"] == "add"
    assert wrong.status.status_code is StatusCode.ERROR
    asked = [each for each in traced.spans if each.name == "update add"]
    assert [each.status.status_code for each in asked] == [StatusCode.UNSET, StatusCode.ERROR]


async def test_a_trace_goes_on_in_another_process_and_through_topics(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    node, client = Traced(url), Traced(url)
    heard = asyncio.Event()

    def register(app: App) -> Any:
        topic = app.topic("orders", int)

        @app.task(name="receive")
        async def receive(order: int) -> None:
            heard.set()

        topic.subscribe(receive, begin="all")

        @app.workflow(name="place")
        async def place(order: int) -> None:
            await topic.publish(order)

        return place

    register(node.app)
    place = register(client.app)
    async with node.app, client.app.client():
        await place(7)
        async with asyncio.timeout(20):
            await heard.wait()
    start, ran = client.one("start place"), node.one("run place")
    assert start.context is not None
    assert ran.parent is not None
    assert (ran.parent.span_id, ran.parent.is_remote) == (start.context.span_id, True)
    assert ran.context is not None
    assert ran.context.trace_id == start.context.trace_id
    assert not [each.name for each in node.spans if "fenbu." in each.name]


def test_a_crash_anywhere_changes_nothing() -> None:
    traced = Traced("memory:")
    assert crash_everywhere(traced.app, service(traced.app), 5) >= 4
    # Whatever ran where has ended, and each span has the trace of one of the runs.
    assert {each.name for each in traced.spans} >= {"run checkout", "step charge", "run mail"}
