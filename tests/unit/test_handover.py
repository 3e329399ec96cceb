"""A partition changes hands: all that is in it goes on with its next owner, and nothing counts as a crash."""

from __future__ import annotations

import asyncio

import pytest

from fenbu._api.step import step
from fenbu._core.effect import RunBody, StopBody
from fenbu._core.event import ReadyLoaded
from fenbu._core.message import Call, Cancel, Signal
from fenbu._core.model import Invocation, Kind, Status
from tests.unit.drive import Drive, bodies


async def act(n: int) -> int:
    return n


async def steps(n: int) -> int:
    n = await step(act, n)
    return await step(act, n)


async def sleeps() -> None:
    await asyncio.sleep(500)


def release(drive: Drive) -> list[object]:
    drive.engine.release([0], drive.now)
    return list(drive.commit())


@pytest.mark.guarantee("accepted-never-lost")
def test_a_waiting_workflow_is_a_row_with_its_instant(drive: Drive) -> None:
    drive.register(sleeps, Kind.WORKFLOW)
    drive.call("sleeps", id="a")
    release(drive)
    assert drive.rows["a"].status is Status.SUSPENDED
    assert drive.rows["a"].wake_at == drive.now + 500
    assert drive.engine.partitions == {}
    assert drive.engine.next_tick() is None or drive.engine.tick(drive.now + 1000) is None
    assert drive.commit() == []


@pytest.mark.guarantee("step-once")
def test_a_workflow_goes_on_behind_its_last_recorded_step(drive: Drive) -> None:
    drive.register(steps, Kind.WORKFLOW)
    (first,) = bodies(drive.call("steps", 1, id="a"))
    (second,) = bodies(drive.completed(first, 10))
    effects = release(drive)
    assert [each for each in effects if isinstance(each, StopBody)] == [StopBody("a", 2)]
    assert drive.rows["a"].crashes == -1
    drive.start()
    (again,) = bodies(drive.load_ready("a"))
    assert (again.command, again.args, again.attempt) == (2, (10,), second.attempt)
    assert drive.rows["a"].crashes == 0
    drive.completed(again, 11)
    assert drive.rows["a"].result == "11"


def test_what_happens_to_a_partition_that_has_gone_is_nobodys_business_here(drive: Drive) -> None:
    drive.register(steps, Kind.WORKFLOW)
    (body,) = bodies(drive.call("steps", 1, id="a"))
    release(drive)
    assert drive.completed(body, 10) == []
    assert drive.batches[-1].is_empty()


def test_a_call_that_is_being_looked_up_goes_through_the_inbox(drive: Drive) -> None:
    drive.register(act, Kind.TASK)
    spec = drive.registry.latest("act")
    assert spec is not None
    invocation = Invocation(
        id="mine", partition=0, handler="act", args=spec.signature.encode((1,), {})
    )
    drive.message(Call(invocation))
    release(drive)
    assert list(drive.inbox.values()) == [Call(invocation)]


def test_a_request_to_cancel_code_that_has_not_been_replayed_is_not_lost(drive: Drive) -> None:
    drive.register(steps, Kind.WORKFLOW)
    drive.call("steps", 1, id="a")
    drive.start()
    drive.event(_ready(drive, "a"))
    drive.message(Cancel(0, "a", "why"))
    release(drive)
    waiting = [each for each in drive.inbox.values() if isinstance(each, Cancel)]
    assert waiting == [Cancel(0, "a", "why")]


def _ready(drive: Drive, *ids: str) -> ReadyLoaded:
    return ReadyLoaded(0, drive.load_begins(), 1, drive.loaded(*ids), complete=True)


def test_messages_to_a_partition_of_others_are_rows_of_the_batch(drive: Drive) -> None:
    release(drive)
    drive.engine.post(Signal(0, "a", "n", "1"), drive.now)
    drive.commit()
    assert list(drive.inbox.values()) == [Signal(0, "a", "n", "1")]


def test_a_lost_session_drops_code_and_writes_nothing(drive: Drive) -> None:
    left: list[str] = []

    async def careful() -> None:
        try:
            await asyncio.sleep(500)
        finally:
            left.append("left")

    drive.register(careful, Kind.WORKFLOW)
    drive.call("careful", id="a")
    drive.engine.abandon()
    assert left == ["left"]
    assert drive.commit() == []
    assert drive.rows["a"].status is Status.RUNNING


def test_bodies_are_told_to_stop_when_their_partition_goes(drive: Drive) -> None:
    drive.register(act, Kind.TASK)
    (body,) = bodies(drive.call("act", 1, id="t"))
    assert isinstance(body, RunBody)
    assert StopBody("t", 0) in release(drive)
    drive.start()
    (again,) = bodies(drive.load_ready("t"))
    assert again.attempt == body.attempt
