"""Streams in the core: what code and bodies write, at which place, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu import step, stream
from fenbu._core import ids
from fenbu._core.effect import RunBody, Written
from fenbu._core.message import Cancel
from fenbu._core.model import Chunk, Kind
from fenbu._core.stream import body_writes
from tests.unit.drive import Drive, bodies


@pytest.fixture
def drive() -> Drive:
    return Drive()


def chunks(drive: Drive) -> list[tuple[int, int, int, Any, bool]]:
    """All that was written: run, command, position, value, whether it ends the stream."""
    found: list[Chunk] = [each for batch in drive.batches for each in batch.chunks]
    return [(each.run, each.command, each.position, each.value, each.ends) for each in found]


def says(drive: Drive, body: RunBody, position: int, value: str | None) -> bool:
    taken = body_writes(drive.engine, body, "n", position, value, now=drive.now)
    effects = drive.commit()
    assert [each for each in effects if isinstance(each, Written)] == [Written(body.id)] * taken
    return taken


async def task() -> None:
    pass


async def work() -> None:
    out = stream("n", int)
    await out.write(1)
    await step(task)
    await out.write(2)
    await out.close()
    await step(task)


@pytest.mark.guarantee("stream-once")
def test_code_writes_once_whatever_is_replayed(drive: Drive) -> None:
    drive.register(work, Kind.WORKFLOW)
    (body,) = bodies(drive.call("work", id="a"))
    assert chunks(drive) == [(0, 1, 0, "1", False)]
    drive.start()
    drive.load_ready("a")
    assert len(chunks(drive)) == 1
    drive.completed(body)
    drive.start()
    drive.load_ready("a")
    assert chunks(drive)[1:] == [(0, 3, 0, "2", False), (0, 4, 0, None, True)]


@pytest.mark.guarantee("stream-once")
def test_nothing_is_taken_from_a_body_that_nobody_waits_for(drive: Drive) -> None:
    drive.register(work, Kind.WORKFLOW)
    (body,) = bodies(drive.call("work", id="a"))
    assert says(drive, body, 0, '"x"')
    assert chunks(drive)[1:] == [(0, 2, 0, '"x"', False)]
    drive.completed(body)
    assert not says(drive, body, 1, '"y"')
    drive.start()
    assert not says(drive, body, 1, '"y"')
    drive.message(Cancel(0, "a", "enough"))
    assert not says(drive, body, 1, '"y"')


def test_the_body_of_a_cancelled_task_may_clean_up(drive: Drive) -> None:
    drive.register(task, Kind.TASK)
    (body,) = bodies(drive.call("task", id="a"))
    assert says(drive, body, 0, '"x"')
    drive.message(Cancel(0, "a", "enough"))
    assert says(drive, body, 1, '"y"')
    drive.cancelled(body)
    assert not says(drive, body, 2, '"z"')


def test_a_call_that_would_not_be_kept_is_kept_for_its_readers(drive: Drive) -> None:
    drive.register(task, Kind.TASK, retention_seconds=0.0)
    drive.register(work, Kind.WORKFLOW, retention_seconds=0.0)
    (body,) = bodies(drive.call("task", id="silent"))
    drive.completed(body)
    assert "silent" not in drive.rows
    (body,) = bodies(drive.call("task", id="a"))
    assert says(drive, body, 0, '"x"')
    drive.completed(body)
    assert drive.rows["a"].finished_at is not None
    (body,) = bodies(drive.call("work", id="b"))
    (body,) = bodies(drive.completed(body))
    drive.completed(body)
    assert drive.rows["b"].finished_at is not None


class Desk:
    count: int = 0

    async def good(self) -> None:
        await stream("n", int).write(1)
        await step(task)
        self.count += 1
        await stream("n", int).write(2)

    async def bad(self) -> None:
        await self.good()
        raise ValueError


@pytest.mark.guarantee("entity-linear")
@pytest.mark.parametrize(("name", "written"), [("good", ["1", "2"]), ("bad", [])])
def test_an_operation_writes_when_it_has_ended_well(
    drive: Drive, name: str, written: list[str]
) -> None:
    from fenbu._core.event import EntityLoaded

    drive.register_entity(Desk)
    drive.call(f"Desk.{name}", id="a", key="1")
    (body,) = bodies(drive.event(EntityLoaded(0, "Desk", "1", None)))
    assert chunks(drive) == []
    # What it had written is in no memory any more: the replay asks for it again.
    drive.start()
    drive.load_ready("a")
    drive.event(EntityLoaded(0, "Desk", "1", None))
    drive.completed(body)
    assert [each[3] for each in chunks(drive)] == written
    assert drive.rows["a"].finished_at is not None


def test_the_number_of_a_run_is_in_its_name() -> None:
    for run in (0, 1, 12):
        assert ids.run_number("a", ids.run_id("a", run)) == run
