"""An app with a tree of calls, and what it takes to move it from one database to another."""

from __future__ import annotations

import asyncio
from typing import Any

from fenbu import (
    App,
    DurableFunction,
    Entity,
    Status,
    on_update,
    step,
    stream,
    wait_signal,
    wait_until,
)

ran: list[str] = []
"""The steps that have run, everywhere."""


async def charge(what: str) -> str:
    ran.append(what)
    return f"charged {what}"


def grove_on(url: str, **options: Any) -> App:
    app = App("grove", url=url, idle_seconds=0.05, **options)

    @app.workflow(name="leaf")
    async def leaf(name: str) -> str:
        found = [await step(charge, name)]
        try:
            found += [await wait_signal("go", str), await wait_signal("go", str)]
        except asyncio.CancelledError:
            await step(charge, f"{name} back")
            raise
        return ", ".join(found)

    @app.workflow(name="branch")
    async def branch(name: str) -> str:
        out = stream("said", str)
        await out.write(f"{name} begins")
        await asyncio.sleep(0.05)
        found = await leaf(f"{name} leaf")
        await out.write(f"{name} ends")
        return f"[{found}]"

    @app.workflow(name="tree")
    async def tree(name: str) -> list[str]:
        said: list[str] = []

        @on_update
        async def say(what: str) -> int:
            said.append(what)
            await wait_until(lambda: len(said) > 1)
            return len(said)

        detached = await leaf.start(f"{name} detached")
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(branch(f"{name} branch")),
                group.create_task(leaf.options(id=f"{name}-chosen")(f"{name} chosen")),
            ]
        return [*(each.result() for each in calls), await detached.result(), *said]

    @app.entity(name="Till")
    class Till(Entity):
        sum: int = 0

        async def add(self, cents: int) -> int:
            self.sum += cents
            await step(charge, f"{cents} cents")
            if cents > 1:
                await wait_signal("go", str)
            return self.sum

    @app.workflow(name="buyer")
    async def buyer(cents: int) -> int:
        return await Till("a").add(cents)

    return app


def function(app: App, name: str) -> Any:
    """A function of the app, by its name."""
    spec = app.registry.latest(name)
    assert spec is not None
    return DurableFunction(app.runtime, spec)


async def statuses(app: App, ids: list[str]) -> list[Status | None]:
    """As the database has them; None for a call without a row."""
    loaded = await app.runtime.gateway.storage.load_calls(ids)
    known = {each.invocation.id: each.invocation.status for each in loaded}
    return [known.get(each) for each in ids]


async def until(app: App, ids: list[str], *wanted: Status) -> None:
    """Wait until each of the calls has one of these."""
    async with asyncio.timeout(20):
        while not set(await statuses(app, ids)) <= set(wanted):
            await asyncio.sleep(0)


async def until_inbox_is_empty(app: App) -> None:
    """All that was sent is applied."""
    async with asyncio.timeout(20):
        while await app.runtime.gateway.storage.inbox_count():  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            await asyncio.sleep(0)
