"""A tree of calls moves from one database to another, with what is on the way to its calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from fenbu import AlreadyExists, App, CallCancelled, CallNotFound, Encryption, Status, UsageError
from fenbu._core import history
from fenbu.testing import crash_everywhere, replay, run
from tests.fixture.postgres import new_url
from tests.scenario.grove import function, grove_on, ran, until, until_inbox_is_empty

TREE = ["t", "t/1", "t/2", "t/2/3", "t-chosen"]
"""The call itself, the one that it has only started, its two children, and the child of one of them."""
LEAVES = ["t/1", "t/2/3", "t-chosen"]
EXPECTED = [
    "[charged t branch leaf, 1, 2]",
    "charged t chosen, 1, 2",
    "charged t detached, 1, 2",
    "x",
    "y",
]
STEPS = ["t branch leaf", "t chosen", "t detached"]


@pytest.fixture
def apps(tmp_path: Path, postgres: str) -> list[App]:
    ran.clear()
    return [
        grove_on(f"sqlite:///{tmp_path}/first.db"),
        grove_on(new_url(postgres), hook=Encryption([Encryption.new_key()])),
        grove_on(f"sqlite:///{tmp_path}/last.db"),
    ]


async def grown(app: App, name: str = "t") -> None:
    """A tree in which everything waits."""
    await function(app, "tree").options(id=name).start(name)
    ids = [each.replace("t", name, 1) for each in TREE]
    await until(app, ids, Status.SUSPENDED)


async def test_a_tree_goes_from_database_to_database_with_its_mail(apps: list[App]) -> None:
    first, second, last = apps
    async with first:
        await grown(first)
        await first.handle("t").start_update("say", "x", id="u")
        await until(first, ["t/@u"], Status.RUNNING)
        await until_inbox_is_empty(first)
    async with first.client():
        for each in LEAVES:
            await first.handle(each).signal("go", "1")
        text = await first.export_call("t")
    found = history.read(text)
    assert sorted(each.loaded.invocation.id for each in found.calls) == sorted([*TREE, "t/@u"])
    assert len(found.messages) == 3
    assert not found.outside
    async with second.client():
        await second.import_calls(text, go_on=True)
        with pytest.raises(
            AlreadyExists, match=r"there is a call t, t-chosen, t/1, t/2, t/2/3 and 1 more"
        ):
            await second.import_calls(text)
    async with second:
        # Each has one of the two signals that it waits for.
        await until_inbox_is_empty(second)
        await until(second, TREE, Status.SUSPENDED)
    async with second.client():
        for each in LEAVES:
            await second.handle(each).signal("go", "2")
        await second.handle("t").start_update("say", "y", id="v")
        text = await second.export_call("t")
    assert len(history.read(text).messages) == 4
    async with last:
        await last.import_calls(text, go_on=True)
        assert await last.handle("t").result() == EXPECTED
        assert await last.handle("t/@u").result() == await last.handle("t/@v").result() == 2
        said = [each async for each in last.handle("t/2").stream("said", str)]
    assert said == ["t branch begins", "t branch ends"]
    assert sorted(ran) == STEPS


async def test_a_tree_is_parked_until_it_is_retried(apps: list[App]) -> None:
    first, second, _ = apps
    async with first:
        await grown(first)
        text = await first.export_call("t")
    async with second:
        await second.import_calls(text)
        await until(second, TREE, Status.QUARANTINED)
        await second.handle("t").signal("go", "nobody waits for it")
        for each in TREE:
            await second.handle(each).retry()
        for each in LEAVES:
            await second.handle(each).signal("go", "1")
            await second.handle(each).signal("go", "2")
        assert await second.handle("t").result() == EXPECTED[:3]
    assert sorted(ran) == STEPS


async def test_results_that_are_under_way_come_too(apps: list[App]) -> None:
    """A child has ended, and its caller does not know it yet."""
    first, second, _ = apps
    async with first:
        await grown(first)
        await first.handle("t").pause()
        await until(first, ["t"], Status.PAUSED)
        for each in LEAVES:
            await first.handle(each).signal("go", "1")
            await first.handle(each).signal("go", "2")
        await until(first, [*LEAVES, "t/2"], Status.COMPLETED)
    async with first.client():
        text = await first.export_call("t")
    assert len(history.read(text).messages) == 2
    async with second:
        await second.import_calls(text, go_on=True)
        await until(second, ["t"], Status.PAUSED)
        await second.handle("t").resume()
        assert await second.handle("t").result() == EXPECTED[:3]
    assert sorted(ran) == STEPS


async def test_a_cancellation_reaches_the_children_that_came_along(apps: list[App]) -> None:
    first, second, last = apps
    async with first:
        await grown(first)
    async with first.client():
        text = await first.export_call("t")
    async with second:
        await second.import_calls(text, go_on=True)
        await second.handle("t").cancel("enough")
        with pytest.raises(CallCancelled):
            await second.handle("t").result()
        await until(second, ["t", "t/2", "t/2/3", "t-chosen"], Status.CANCELLED)
        await until(second, ["t/1"], Status.RUNNING, Status.SUSPENDED)
    assert sorted(ran) == sorted([*STEPS, "t branch leaf back", "t chosen back"])
    # The same with a cancellation that was sent before it left.
    ran.clear()
    async with first.client():
        await first.handle("t").cancel("enough")
        text = await first.export_call("t")
    async with last:
        await last.import_calls(text, go_on=True)
        await until(last, ["t", "t/2", "t/2/3", "t-chosen"], Status.CANCELLED)
    assert sorted(ran) == ["t branch leaf back", "t chosen back"]


async def test_calls_that_no_node_has_accepted_yet_come_too(apps: list[App]) -> None:
    first, second, last = apps
    async with first:
        pass
    async with first.client():
        await function(first, "tree").options(id="t").start("t")
        await first.handle("t").signal("go", "never read")
        text = await first.export_call("t")
    assert [each.loaded.invocation.id for each in history.read(text).calls] == ["t"]
    async with second.client():
        await second.import_calls(text, go_on=True)
        text = await second.export_call("t")
    async with last:
        await last.import_calls(text, go_on=True)
        await until(last, TREE, Status.SUSPENDED)


async def test_a_call_may_come_alone(apps: list[App]) -> None:
    first, second, last = apps
    async with first:
        await grown(first)
    async with first.client():
        alone, text = await first.export_call("t", alone=True), await first.export_call("t")
        with pytest.raises(CallNotFound):
            await first.export_call("nobody")
    found = history.read(alone)
    assert [each.loaded.invocation.id for each in found.calls] == ["t"]
    # A call that it has only started may be waited for or not: that is in no row.
    assert [(each.command, each.kind, each.name) for each in found.outside] == [
        (1, "call", "leaf"),
        (2, "call", "branch"),
        (3, "call", "leaf"),
    ]
    async with second, last:
        await second.import_calls(alone)
        assert await last.import_calls(text, alone=True) == ["t"]
        for each in (second, last):
            await until(each, ["t"], Status.QUARANTINED)
            assert not await each.runtime.gateway.storage.load_calls(TREE[1:])


async def test_an_operation_that_has_begun_stays_or_begins_anew(apps: list[App]) -> None:
    first, second, last = apps
    async with first:
        await function(first, "buyer").options(id="b").start(5)
        await function(first, "buyer").options(id="c").start(1)
        async with asyncio.timeout(20):
            while (
                len((found := history.read(await first.export_call("b"))).calls[-1].loaded.entries)
                < 1
            ):
                await asyncio.sleep(0)
        await until_inbox_is_empty(first)
        begun, waits = await first.export_call("b"), await first.export_call("c")
    assert [each.loaded.invocation.handler for each in found.calls] == ["buyer", "Till.add"]
    assert ran == ["5 cents"]
    async with second, last:
        with pytest.raises(
            UsageError, match=r"Till\.add b/1 on 'a' is an operation that has not ended"
        ):
            await second.import_calls(begun, go_on=True)
        # One that waits for its turn takes it at the entity that is here.
        await second.import_calls(waits, go_on=True)
        assert await second.handle("c").result() == 1
        await last.import_calls(begun, go_on=True, restart_operations=True)
        await last.handle("b/1").signal("go", "!")
        assert await last.handle("b").result() == 5
    assert ran == ["5 cents", "1 cents", "5 cents"]


async def test_a_tree_replays_as_a_test(apps: list[App], tmp_path: Path) -> None:
    first, *_ = apps
    async with first:
        await grown(first)
        await function(first, "buyer").options(id="c").start(1)
        assert await first.handle("c").result() == 1
        folder = tmp_path / "histories"
        folder.mkdir()
        for id_ in ("t", "c"):
            (folder / f"{id_}.json").write_bytes(await first.export_call(id_))
    assert replay(folder, first) == len(TREE) + 1
    # As a version of fenbu wrote it that knew one call only.
    old = json.loads((folder / "t.json").read_bytes())
    old = {"fenbu_history": 1, "call": old["call"], "journal": old["journal"]}
    (folder / "t.json").write_text(json.dumps(old))
    assert replay(folder, first) == 2


def test_a_crash_anywhere_while_a_tree_comes_changes_nothing() -> None:
    ran.clear()
    app = grove_on("memory:")

    async def depart() -> bytes:
        await grown(app)
        for each in LEAVES:
            await app.handle(each).signal("go", "1")
        return await app.export_call("t")

    text = run(app, depart)
    ran.clear()

    async def arrive() -> list[str]:
        # Whoever is not sure whether it has come sends it again.
        with contextlib.suppress(AlreadyExists):
            await app.import_calls(text, go_on=True)
        while not await app.runtime.gateway.storage.load_calls(["t"]):
            await asyncio.sleep(1)
        for each in LEAVES:
            await app.handle(each).signal("go", "2")
        return await function(app, "tree").handle("t").result()

    assert crash_everywhere(app, arrive) >= 3
    assert ran == []
