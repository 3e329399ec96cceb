"""Code that changes while its calls are in flight: versions, and marks of small changes."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu import App, UsageError, patched, wait_signal
from fenbu._api.step import step
from fenbu._core.message import Cancel, Retry, Signal
from fenbu._core.model import Kind, Status
from tests.unit.drive import Drive, bodies


async def charge(n: int) -> int:
    return n


async def check(n: int) -> int:
    return n


def deploy(drive: Drive, code: Any, **options: Any) -> None:
    """A new process with another body of the handler `work`, beside other versions of it."""
    version = options.get("version", 1)
    drive.registry._specs.pop(("work", version), None)
    drive.registry._latest.clear()
    code.__name__ = "work"
    drive.register(code, Kind.WORKFLOW, **options)
    for spec in drive.registry._specs.values():
        latest = drive.registry._latest.setdefault(spec.name, spec)
        if latest.version < spec.version:
            drive.registry._latest[spec.name] = spec
    drive.start()


async def original() -> list[int]:
    return [await step(charge, 1), await step(charge, 2)]


async def with_a_check() -> list[int]:
    found = [await step(charge, 1)]
    if patched("check"):
        found.append(await step(check, 10))
    return [*found, await step(charge, 2)]


async def checked_always() -> list[int]:
    """The change when its mark is gone from the code."""
    return [await step(charge, 1), await step(check, 10), await step(charge, 2)]


@pytest.mark.guarantee("replay-same")
def test_a_call_that_came_by_before_the_change_goes_on_in_the_old_way() -> None:
    drive = Drive()
    deploy(drive, original)
    (first,) = bodies(drive.call("work", id="a"))
    (second,) = bodies(drive.completed(first, 1))
    assert second.args == (2,)
    deploy(drive, with_a_check)
    (again,) = bodies(drive.load_ready("a"))
    assert again.args == (2,)
    drive.completed(again, 2)
    assert drive.rows["a"].result == "[1,2]"


@pytest.mark.guarantee("replay-same")
def test_a_call_that_has_not_come_by_takes_the_new_way_and_keeps_to_it() -> None:
    drive = Drive()
    deploy(drive, original)
    (first,) = bodies(drive.call("work", id="a"))
    deploy(drive, with_a_check)
    (first,) = bodies(drive.load_ready("a"))
    (looked,) = bodies(drive.completed(first, 1))
    assert looked.args == (10,)
    # Another crash: the replay of the mark says the same.
    drive.start()
    (looked,) = bodies(drive.load_ready("a"))
    assert looked.args == (10,)
    (last,) = bodies(drive.completed(looked, 10))
    # The mark goes from the code: what was recorded with it still fits, numbers of commands included.
    deploy(drive, checked_always)
    (again,) = bodies(drive.load_ready("a"))
    assert (again.command, again.args) == (last.command, (2,))
    drive.completed(again, 2)
    assert drive.rows["a"].result == "[1,10,2]"


def test_a_mark_that_goes_too_early_leaves_old_calls_stuck() -> None:
    drive = Drive()
    deploy(drive, original)
    drive.completed(*bodies(drive.call("work", id="a")), 1)
    deploy(drive, checked_always)
    drive.load_ready("a")
    assert drive.rows["a"].status is Status.STUCK


def test_a_change_is_decided_once_for_a_call() -> None:
    async def loops() -> list[int]:
        return [await step(charge, n) for n in (1, 2, 3)]

    async def loops_with_a_check() -> list[int]:
        found: list[int] = []
        for n in (1, 2, 3):
            found.append(await step(charge, n))
            if patched("check"):
                found.append(await step(check, 10 * n))
        return found

    drive = Drive()
    deploy(drive, loops)
    (first,) = bodies(drive.call("work", id="old"))
    (second,) = bodies(drive.completed(first, 1))
    deploy(drive, loops_with_a_check)
    (second,) = bodies(drive.load_ready("old"))
    for n in (2, 3):
        found = bodies(drive.completed(second, n))
        (second,) = found or [second]
    assert drive.rows["old"].result == "[1,2,3]"

    (body,) = bodies(drive.call("work", id="new"))
    seen: list[int] = []
    while drive.rows["new"].finished_at is None:
        seen.append(body.args[0])
        found = bodies(drive.completed(body, body.args[0]))
        (body,) = found or [body]
    assert seen == [1, 10, 2, 20, 3, 30]


def test_a_mark_belongs_into_workflow_code() -> None:
    with pytest.raises(UsageError, match=r"patched\(\) belongs into the code of a workflow"):
        patched("check")


def test_calls_in_flight_run_with_the_version_that_they_were_started_with() -> None:
    drive = Drive()
    deploy(drive, original)
    drive.completed(*bodies(drive.call("work", id="a", version=1)), 1)
    deploy(drive, checked_always, version=2)
    assert drive.registry.latest("work") is drive.registry.get("work", 2)
    (again,) = bodies(drive.load_ready("a"))
    assert again.args == (2,)
    drive.completed(again, 2)
    assert drive.rows["a"].result == "[1,2]"


def test_a_call_of_an_unknown_version_waits_for_a_node_that_has_it() -> None:
    drive = Drive()
    deploy(drive, original)
    assert not bodies(drive.call("work", id="a", version=2))
    row = drive.rows["a"]
    assert row.status is Status.UNHANDLED
    assert row.waiting == "a node that has registered version 2 of work; this one has 1"
    # Others go on.
    assert bodies(drive.call("work", id="b", version=1))
    deploy(drive, checked_always, version=2)
    drive.event_after_load(Retry(0, "a"))
    assert bodies(drive.load_ready("a"))


def test_a_call_in_flight_can_be_cancelled_where_its_handler_is_not() -> None:
    drive = Drive()
    deploy(drive, waiting_for_word)
    drive.call("work", id="a")
    drive.registry._specs.clear()
    drive.start()
    drive.event_after_load(Cancel(0, "a", "enough"))
    assert drive.rows["a"].status is Status.CANCELLED
    assert not drive.inbox


async def waiting_for_word() -> str:
    return await wait_signal("word", str)


@pytest.mark.guarantee("accepted-never-lost")
def test_what_is_sent_to_a_call_in_flight_waits_for_a_node_that_has_its_handler() -> None:
    drive = Drive()
    deploy(drive, waiting_for_word)
    drive.call("work", id="a")
    signal = Signal(0, "a", "word", drive.registry.codec.of(str).encode("hello"))
    # The partition is now at a node with other code, which learns of the call by its message.
    drive.registry._specs.clear()
    drive.start()
    drive.event_after_load(signal)
    assert drive.rows["a"].status is Status.UNHANDLED
    ((number, kept),) = drive.inbox.items()
    assert kept is signal
    # And now back where its code is.
    deploy(drive, waiting_for_word)
    drive.event_after_load(Retry(0, "a"))
    drive.load_ready("a")
    drive.message(signal, number)
    assert drive.rows["a"].result == '"hello"'
    assert not drive.inbox


@pytest.mark.parametrize("version", [0, -1, 1.5, "2", True, None])
def test_a_version_is_a_positive_whole_number(version: Any) -> None:
    app = App("versions", url="memory:")
    with pytest.raises(UsageError, match="version must be a whole number from 1 on"):
        app.workflow(version=version)(original)


def test_one_name_and_version_is_one_handler() -> None:
    app = App("versions", url="memory:")
    app.workflow(name="work")(original)
    app.workflow(name="work", version=2)(checked_always)
    with pytest.raises(UsageError, match="'work' version 2 is registered twice"):
        app.workflow(name="work", version=2)(with_a_check)
