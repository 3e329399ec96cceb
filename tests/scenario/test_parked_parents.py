"""A call that cannot go on is ended: those that were to end with it do, though its code is not asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fenbu import App, CallCancelled, Entity, Status, step
from tests.scenario.again import again

pytestmark = pytest.mark.timeout(60)

ENDLESS = 1_000_000.0

CHILDREN = {"bound", "joined", "free", "chosen", "first/4", "hold"}


async def nothing() -> None:
    pass


def family(app: App, *, changed: bool = False, parents: bool = True) -> tuple[Any, Any]:
    """Parents of two kinds; another deploy asks for other things, or does not have them."""

    @app.workflow(name="child")
    async def child() -> None:
        await asyncio.sleep(ENDLESS)

    @app.entity
    class Door(Entity):
        async def hold(self) -> None:
            await asyncio.sleep(ENDLESS)

    async def work() -> None:
        if changed:
            await step(nothing)
        await child.options(id="bound", on_parent_end="cancel").start()
        await child.options(id="joined", on_parent_end="wait").start()
        await child.options(id="free").start()
        hold = Door("front").hold
        await asyncio.gather(child(), child.options(id="chosen")(), hold.options(id="hold")())  # type: ignore[attr-defined]

    if not parents:
        return None, None

    @app.entity
    class House(Entity):
        async def live(self) -> None:
            await work()

    return app.workflow(name="parent")(work), House("one").live


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():
            await asyncio.sleep(0)


async def found(app: App) -> dict[str, Status]:
    return {each.id: each.status for each in (await app.list_calls()).calls}


async def began(app: App) -> bool:
    statuses = await found(app)
    return all(statuses.get(each) in (Status.RUNNING, Status.SUSPENDED) for each in CHILDREN)


async def ended(app: App) -> bool:
    """All but the one that is free."""
    statuses = await found(app)
    return all(statuses[each] is Status.CANCELLED for each in CHILDREN - {"free"})


async def end(app: App, *, at_once: bool) -> None:
    handle = app.handle("first")
    await (handle.terminate() if at_once else handle.cancel())
    with pytest.raises(CallCancelled):
        await handle.result(timeout=20)
    await until(lambda: ended(app))
    assert (await found(app))["free"] in (Status.RUNNING, Status.SUSPENDED)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("operation", [False, True])
@pytest.mark.parametrize("reason", [Status.STUCK, Status.UNHANDLED])
async def test_children_end_with_a_parent_that_cannot_go_on(
    app: App, operation: bool, reason: Status, at_once: bool
) -> None:
    parent = family(app)[operation]
    after = again(app)
    family(after, changed=reason is Status.STUCK, parents=reason is Status.STUCK)
    async with app:
        await parent.options(id="first").start()
        await until(lambda: began(app))
    async with after:

        async def parked() -> bool:
            return await after.handle("first").status() is reason

        if not operation:
            # It was in no memory, and is in none until something comes for it.
            await after.handle("first").signal("knock")
        await until(parked)
        await end(after, at_once=at_once)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_children_end_with_a_parent_that_is_paused_and_terminated(
    app: App, elsewhere: bool
) -> None:
    parent = family(app)[0]
    async with app:
        handle = await parent.options(id="first").start()
        await until(lambda: began(app))
        await handle.pause()
        if not elsewhere:
            await end(app, at_once=True)
    if elsewhere:
        after = again(app)
        family(after)
        async with after:
            await end(after, at_once=True)


async def test_children_end_with_a_parent_that_is_imported_and_parked(app: App) -> None:
    parent = family(app)[0]
    async with app:
        await parent.options(id="first").start()
        await until(lambda: began(app))
        data = await app.export_call("first")
    # All that it leads to is in the file, but for the one that goes on under an id of its own.
    assert [each["command"] for each in json.loads(data)["outside"]] == [3]
    other = App("scenario", url="memory:", idle_seconds=0.05)
    family(other)
    async with other:
        await other.import_calls(data, restart_operations=True)
        # Nothing leads to the one that goes on under an id of its own.
        expected = {"first", *CHILDREN} - {"free"}

        async def are_there() -> bool:
            return len(await found(other)) >= len(expected)

        await until(are_there)
        statuses = await found(other)
        assert statuses.keys() == expected
        assert {statuses[each] for each in CHILDREN - {"hold", "free"}} == {Status.QUARANTINED}
        await other.handle("first").cancel()
        await until(lambda: ended(other))
