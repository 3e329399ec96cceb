"""Today's code over recorded histories: what agrees, and what is told of what does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from fenbu import Entity, UsageError, patched, wait_signal
from fenbu._api.step import step
from fenbu._core import history
from fenbu._core.codec import Codec
from fenbu._core.event import EntityLoaded
from fenbu._core.handler import Registry
from fenbu._core.history import Histories, History
from fenbu._core.message import Cancel, Signal
from fenbu._core.model import Kind, Loaded, Status
from fenbu._core.rehearsal import Divergence, rehearse
from tests.unit.drive import Drive, bodies


async def charge(n: int) -> int:
    return n


async def check(n: int) -> int:
    return n


async def work(n: int) -> int:
    first = await step(charge, n)
    await wait_signal("go", bool)
    return first + await step(charge, n)


def recorded(code: Any = work, *, until: str = "end") -> History:
    """A call of `code` that has come so far."""
    drive = Drive()
    drive.register(code, Kind.WORKFLOW)
    effects = drive.call(code.__name__, 1, id="a")
    if until != "step":
        drive.completed(bodies(effects)[0], 1)
    if until == "cancel":
        drive.message(Cancel(0, "a", "enough"))
    if until in ("end", "failure"):
        (second,) = bodies(drive.message(Signal(0, "a", "go", "true")))
        if until == "end":
            drive.completed(second, 2)
        else:
            drive.failed(second, ValueError("no money"))
    return History(drive.loaded("a")[0])


def with_code(code: Any, found: History, **options: Any) -> Divergence | None:
    """What is told of `code` in the place of the one that was recorded."""
    drive = Drive()
    code.__name__ = found.loaded.invocation.handler
    drive.register(code, Kind.WORKFLOW, **options)
    return rehearse(drive.registry, found)


POINTS = ["step", "signal", "cancel", "failure", "end"]


@pytest.mark.parametrize("until", POINTS)
def test_unchanged_code_agrees(until: str) -> None:
    found = recorded(until=until)
    finished = {"cancel": Status.CANCELLED, "failure": Status.FAILED, "end": Status.COMPLETED}
    assert found.loaded.invocation.status is finished.get(until, Status.RUNNING)
    assert with_code(work, found) is None


@pytest.mark.parametrize("until", POINTS)
def test_a_history_comes_back_from_its_file_as_it_was(until: str) -> None:
    found = recorded(until=until)
    assert history.read(history.write(Histories([found]))).calls == [found]


@pytest.mark.parametrize("payload", ['{"a":1.5}', '{"a": 1.50}', "", b"\x93\x01", '"é"'])
def test_payloads_come_back_to_the_letter(payload: Any) -> None:
    found = recorded()
    found.loaded.invocation.args = payload
    found.state = payload
    assert history.read(history.write(Histories([found]))).calls == [found]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no history"),
        (b"{}", "no history"),
        (b'{"fenbu_history": 3, "call": {}, "journal": []}', "format 3"),
        (b'{"fenbu_history": 1, "call": {"id": 5}, "journal": []}', "no history"),
        (b'{"fenbu_history": 1, "call": {"args": 5}, "journal": []}', "no history"),
    ],
)
def test_what_is_no_history_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        history.read(text)


def test_the_first_difference_is_told_with_both_places() -> None:
    async def changed(n: int) -> int:
        await step(check, n)
        return await work(n)

    found = with_code(changed, recorded())
    assert found is not None
    assert (found.id, found.handler, found.position) == ("a", "work", 0)
    assert found.recorded is not None
    assert found.asked is not None
    assert found.recorded.startswith("step charge at test_rehearsal.py:")
    assert found.asked.startswith("step check at test_rehearsal.py:")


def test_a_step_that_is_gone_is_a_difference() -> None:
    async def changed(n: int) -> int:
        await wait_signal("go", bool)
        return n + await step(charge, n)

    found = with_code(changed, recorded(until="signal"))
    assert found is not None
    assert (found.position, found.asked) == (0, "nothing")


def test_an_order_that_changed_is_a_difference() -> None:
    async def both(n: int) -> int:
        return await step(charge, n) + await step(check, n)

    async def swapped(n: int) -> int:
        return await step(check, n) + await step(charge, n)

    drive = Drive()
    drive.register(both, Kind.WORKFLOW)
    drive.call("both", 1, id="a")
    found = with_code(swapped, History(drive.loaded("a")[0]))
    assert found is not None
    assert found.position == 0


def test_a_finished_call_must_end_as_it_did() -> None:
    async def changed(n: int) -> int:
        return 1 + await work(n)

    found = with_code(changed, recorded())
    assert found is not None
    assert found.position == 3
    assert found.reason == (
        "it ended completed with '3', and with the code of today it ends completed with '4'"
    )


def test_a_finished_call_must_end() -> None:
    async def changed(n: int) -> int:
        result = await work(n)
        await wait_signal("more", bool)
        return result

    found = with_code(changed, recorded())
    assert found is not None
    assert "still waits for signal more" in found.reason


def test_an_open_call_may_go_another_way_from_where_it_is() -> None:
    async def changed(n: int) -> int:
        first = await step(charge, n)
        await wait_signal("other", bool)
        return first + await step(check, n)

    assert with_code(changed, recorded(until="signal")) is None


def test_a_marked_change_agrees_with_calls_that_came_by_before() -> None:
    async def changed(n: int) -> int:
        if patched("check"):
            await step(check, n)
        return await work(n)

    for until in POINTS:
        assert with_code(changed, recorded(until=until)) is None


def test_code_that_can_never_go_on_is_told() -> None:
    async def changed(n: int) -> int:
        await step(charge, n)
        await asyncio.get_running_loop().create_future()
        return n

    found = with_code(changed, recorded(until="signal"))
    assert found is not None
    assert "nothing will ever do" in found.reason


def test_arguments_that_fit_no_more_are_told() -> None:
    async def changed(n: dict[str, int]) -> None: ...

    found = with_code(changed, recorded(until="signal"))
    assert found is not None
    assert found.reason.endswith("got `int` at `n`")


def test_a_handler_or_version_that_is_not_there_is_told() -> None:
    found = recorded(until="signal")
    missing = rehearse(Registry(Codec()), found)
    assert missing is not None
    assert missing.reason == "it needs a node that has registered work"
    missing = with_code(work, found, version=2)
    assert missing is not None
    assert "version 1 of work; this one has 2" in missing.reason


def test_operations_are_replayed_on_the_state_before_them() -> None:
    class Stock(Entity):
        units: int = 10

        async def take(self, n: int) -> int:
            self.units -= n
            if self.units < 5:
                await step(check, n)
            await step(charge, n)
            return self.units

    drive = Drive()
    drive.register_entity(Stock)
    drive.call("Stock.take", 3, id="a", key="tea")
    (body,) = bodies(drive.event(EntityLoaded(0, "Stock", "tea", None)))
    drive.completed(body, 1)
    drive.call("Stock.take", 4, id="b", key="tea")
    (waits,) = drive.loaded("b")
    assert waits.invocation.started_at is not None
    state = drive.states["Stock", "tea"].state
    assert rehearse(drive.registry, History(waits, state)) is None
    diverged = rehearse(drive.registry, History(waits, None))
    assert diverged is not None
    assert diverged.position == 0
    (ended,) = drive.loaded("a")
    refused = rehearse(drive.registry, History(ended, None))
    assert refused is not None
    assert "only while it is open" in refused.reason


def test_a_call_that_ended_before_it_began_has_nothing_to_replay() -> None:
    found = recorded(until="signal")
    call = found.loaded.invocation
    call.status, call.commands = Status.CANCELLED, None
    assert with_code(work, History(Loaded(call, []))) is None


def test_positions_are_told_before_the_code_comes_to_them() -> None:
    drive = Drive()
    drive.register(work, Kind.WORKFLOW)
    told: list[int] = []
    rehearse(drive.registry, recorded(), told.append)
    assert told == [0, 1, 2, 3]


@pytest.mark.parametrize("before", ["json", "msgpack"])
def test_the_format_of_a_database_may_change(before: str) -> None:
    async def answers(n: int) -> dict[str, Any]:
        found = await step(charge, n)
        return {"n": found, "at": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"x"}

    async def other(n: int) -> dict[str, Any]:
        return {"n": await step(charge, n) + 1}

    async def unknown(n: int) -> dict[Any, Any]:
        await step(charge, n)
        return {1.5: 1, (1, 2): 3}

    drive = Drive()
    drive.registry = Registry(Codec(format=before))  # type: ignore[arg-type]
    drive.registry.partition_count = 1
    drive.start()
    drive.register(answers, Kind.WORKFLOW)
    drive.completed(bodies(drive.call("answers", 1, id="a"))[0], 1)
    found = History(drive.loaded("a")[0])
    assert isinstance(found.loaded.invocation.result, str if before == "json" else bytes)

    def today(code: Any) -> Divergence | None:
        after = Drive()
        code.__name__ = "answers"
        format_ = "msgpack" if before == "json" else "json"
        after.registry = Registry(Codec(format=format_))  # type: ignore[arg-type]
        after.register(code, Kind.WORKFLOW)
        return rehearse(after.registry, found)

    assert today(answers) is None
    divergence = today(other)
    assert divergence is not None
    assert "with the code of today it ends completed" in divergence.reason
    assert today(unknown) is not None
