"""Heartbeats in the engine: kept for the next attempt, written with the batch, and gone with their step."""

from __future__ import annotations

from typing import Any

from fenbu import App, step
from fenbu._core.effect import RunBody
from fenbu._core.event import BodyBeat
from fenbu._core.message import Retry as RetryMessage
from fenbu._core.model import Heartbeat, Kind, Status
from fenbu._core.retry import Retry
from tests.unit.drive import Drive, bodies

SOON = Retry(attempts=3, first_seconds=0, jitter=0)


async def copy(n: int) -> int:
    return n


async def flow(n: int) -> int:
    first = await step.options(retry=SOON)(copy, n)
    return first + await step(copy, n)


def beat(drive: Drive, body: RunBody, text: str) -> None:
    heartbeat = Heartbeat(body.command, drive.now, text)
    drive.event(BodyBeat(0, body.id, body.attempt, heartbeat))


def said(drive: Drive) -> list[tuple[int, Any]]:
    return [(each.command, each.value) for each in drive.rows["a"].heartbeats]


def test_the_next_attempt_of_a_task_gets_the_last_one(drive: Drive) -> None:
    drive.register(copy, Kind.TASK, retry=SOON)
    (body,) = bodies(drive.call("copy", 1, id="a"))
    assert body.heartbeat is None
    beat(drive, body, "1")
    beat(drive, body, "2")
    assert said(drive) == [(0, "2")]
    drive.failed(body, OSError(), retryable=True)
    drive.now += 10
    (body,) = bodies(drive.load_ready("a"))
    assert body.heartbeat is not None
    assert (body.attempt, body.heartbeat.value) == (2, "2")
    drive.completed(body, 1)
    assert said(drive) == [(0, "2")], "for people it stays"


def test_after_a_crash_it_is_there(drive: Drive) -> None:
    drive.register(copy, Kind.TASK)
    (body,) = bodies(drive.call("copy", 1, id="a"))
    beat(drive, body, "7")
    drive.start()
    (body,) = bodies(drive.load_ready("a"))
    assert body.heartbeat is not None
    assert body.heartbeat.value == "7"


def test_that_of_a_step_goes_with_its_outcome(drive: Drive) -> None:
    drive.register(flow, Kind.WORKFLOW)
    (body,) = bodies(drive.call("flow", 1, id="a"))
    beat(drive, body, "5")
    assert said(drive) == [(1, "5")]
    drive.failed(body, OSError(), retryable=True)
    (body,) = bodies(drive.tick(10))
    assert body.heartbeat is not None
    assert body.heartbeat.value == "5"
    (second,) = bodies(drive.completed(body, 1))
    assert said(drive) == []
    assert second.heartbeat is None
    beat(drive, second, "6")
    drive.failed(second, OSError())
    assert drive.rows["a"].status is Status.FAILED
    assert said(drive) == []


def test_a_body_that_nobody_waits_for_says_nothing(drive: Drive) -> None:
    drive.register(copy, Kind.TASK, retry=SOON)
    (body,) = bodies(drive.call("copy", 1, id="a"))
    drive.failed(body, OSError(), retryable=True)
    batches = len(drive.batches)
    beat(drive, body, "late")
    assert said(drive) == []
    assert drive.batches[batches].is_empty()
    drive.now += 10
    drive.load_ready("a")
    beat(drive, body, "later")
    assert said(drive) == [], "it is that of the first attempt, and the second one runs"


def test_an_operator_lets_a_task_go_on_where_it_was_and_a_workflow_anew(drive: Drive) -> None:
    drive.register(copy, Kind.TASK)
    (body,) = bodies(drive.call("copy", 1, id="a"))
    beat(drive, body, "7")
    drive.failed(body, OSError())
    drive.event_after_load(RetryMessage(0, "a"))
    assert said(drive) == [(0, "7")]


def test_what_continues_as_new_begins_without_any(drive: Drive) -> None:
    app = App("anew", url="memory:")

    @app.workflow(name="anew")
    async def anew(n: int) -> int:
        await step(copy, n)
        anew.continue_as_new(n + 1)

    drive.registry.add(app.registry.get("anew", 1))
    (body,) = bodies(drive.call("anew", 1, id="a", context={"trace": "1"}))
    beat(drive, body, "5")
    (body,) = bodies(drive.completed(body, 1))
    assert (body.args, body.heartbeat, body.context) == ((2,), None, {"trace": "1"})
    assert said(drive) == []
    assert drive.rows["a"].context == {"trace": "1"}
