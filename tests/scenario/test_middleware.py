"""Middleware, and the context that travels with calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import fenbu
from fenbu import App, Entity, Middleware, Running, Starting, UsageError, step
from fenbu.testing import crash_everywhere

span: ContextVar[str] = ContextVar("span", default="-")


class Tracing(Middleware):
    """As tracing would be written: each span has a parent, which comes with the context."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []
        """What runs, and the parent that its call carries."""
        self.replays = 0

    @contextmanager
    def start(self, call: Starting) -> Iterator[None]:
        call.context["parent"] = span.get() if span.get() != "-" else "client"
        yield

    @contextmanager
    def run(self, what: Running) -> Iterator[None]:
        name = f"{what.kind} {what.name.rpartition('.')[2]}"
        self.replays += what.is_replay
        self.spans.append((name, what.context.get("parent", "none")))
        token = span.set(name)
        try:
            yield
        finally:
            if span.get() == name:
                span.reset(token)


async def leaf() -> str:
    return f"{span.get()} of {fenbu.current_context().get('parent')}"


def plain_leaf() -> str:
    return f"{span.get()} of {fenbu.current_attempt().context.get('parent')}"


def service(app: App) -> Any:
    @app.task
    async def mail() -> str:
        return await leaf()

    @app.workflow
    async def child() -> list[str]:
        return [await step(leaf), await step(plain_leaf), await mail()]

    @app.entity
    class Cart(Entity):
        async def add(self) -> str:
            return await step(leaf)

    async def calls_itself() -> str:
        return await mail.options(id="of-the-step")()

    @app.workflow
    async def parent() -> list[str]:
        assert fenbu.current_context() == {"parent": "client"}
        handle = await mail.start()
        return [
            *await child(),
            await Cart("1").add(),
            await handle.result(),
            await step(calls_itself),
        ]

    return parent


SEEN = [
    "step leaf of workflow parent",
    "step plain_leaf of workflow parent",
    "task mail of workflow child",
    "step leaf of workflow parent",
    "task mail of workflow parent",
    "task mail of step calls_itself",
]


async def test_a_context_travels_from_a_caller_to_the_step_of_a_child(app: App) -> None:
    tracing = Tracing()
    app.middleware(tracing)
    parent = service(app)
    async with app:
        assert await parent() == SEEN
    assert ("workflow parent", "client") in tracing.spans
    assert ("operation add", "workflow parent") in tracing.spans


async def test_it_travels_through_nodes_without_middleware(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    node, client = App("node", url=url), App("client", url=url)
    service(node)
    client.middleware(Tracing)
    there = service(client)
    async with node, client.client():
        found = await there()
        assert found == ["- of client"] * 6
        handle = await there.options(id="p").start()
        await handle.result()
        await there.start_many([(), ()])
        calls = await node.runtime.gateway.storage.load_calls(["p"])
        assert [each.invocation.context for each in calls] == [{"parent": "client"}]


async def test_the_first_is_the_outermost_and_errors_pass_through(app: App) -> None:
    seen: list[str] = []

    class Named(Middleware):
        def __init__(self, name: str) -> None:
            self.name = name

        @contextmanager
        def start(self, call: Starting) -> Iterator[None]:
            seen.append(f"start {self.name} {call.name} {call.id} {call.key}")
            yield
            seen.append(f"started {self.name}")

        @contextmanager
        def run(self, what: Running) -> Iterator[None]:
            seen.append(f"run {self.name} {what.attempt}")
            try:
                yield
            except ValueError as error:
                seen.append(f"error {self.name}")
                raise KeyError(self.name) from error

    app.middleware(Named("a"))
    app.middleware(Named("b"))

    @app.task(name="bad")
    async def bad() -> None:
        raise ValueError

    async with app:
        handle = await bad.options(id="1").start()
        with pytest.raises(KeyError, match="b"):
            await handle.result()
    starts = ["start a bad 1 None", "start b bad 1 None", "started b", "started a"]
    assert [each for each in seen if each.startswith("start")] == starts
    assert [each for each in seen if not each.startswith("start")] == [
        "run a 1",
        "run b 1",
        "error b",
    ]


async def test_a_replay_enters_the_code_again_and_starts_nothing(app: App) -> None:
    tracing, started = Tracing(), list[str]()

    @app.middleware
    class Counts(Middleware):
        @contextmanager
        def start(self, call: Starting) -> Iterator[None]:
            started.append(call.name)
            yield

    app.middleware(tracing)

    @app.task(name="child")
    async def child() -> None: ...

    @app.workflow(name="waits")
    async def waits() -> str:
        await child()
        await fenbu.wait_signal("go")
        await child()
        return "done"

    async with app:
        handle = await waits.start()
        async with asyncio.timeout(20):
            while await handle.status() is not fenbu.Status.SUSPENDED:
                await asyncio.sleep(0)
        await handle.signal("go")
        assert await handle.result() == "done"
    assert tracing.replays >= 1
    assert started == ["waits", "child", "child"]


async def test_only_texts_can_be_carried(app: App) -> None:
    @app.middleware
    class Wrong(Middleware):
        def start(self, call: Starting) -> Any:
            call.context["n"] = 1  # type: ignore[assignment]
            return super().start(call)

    @app.task
    async def task() -> None: ...

    async with app:
        with pytest.raises(UsageError, match="texts only"):
            await task()
    with pytest.raises(UsageError, match="subclass of Middleware"):
        app.middleware(int)  # type: ignore[type-var]


def test_a_crash_anywhere_changes_nothing() -> None:
    app = App("middleware", url="memory:")
    app.middleware(Tracing)
    parent = service(app)
    assert crash_everywhere(app, parent) >= 5
