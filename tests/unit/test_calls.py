"""A call from acceptance to outcome, row by row."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from fenbu import App
from fenbu._api.signal import wait_signal
from fenbu._api.step import step
from fenbu._core.effect import Ended, LoadCalls, LoadReady, StopBody, WakeAt
from fenbu._core.event import CallsLoaded, DueLoaded
from fenbu._core.message import Call, Cancel, Restore, Signal
from fenbu._core.message import Retry as RetryMessage
from fenbu._core.model import EntryKind, Invocation, Kind, Status
from fenbu._core.retry import Retry
from tests.unit.drive import Drive, bodies


async def double(n: int) -> int:
    return n * 2


async def three(n: int) -> int:
    n = await step(double, n)
    n = await step(double, n)
    return await step(double, n)


@pytest.mark.guarantee("accepted-never-lost")
def test_a_task_is_a_row_before_its_body_runs(drive: Drive) -> None:
    drive.register(double, Kind.TASK)
    effects = drive.call("double", 21, id="a")
    assert drive.rows["a"].status is Status.RUNNING
    (body,) = bodies(effects)
    assert (body.args, body.attempt, body.command) == ((21,), 1, 0)
    effects = drive.completed(body, 42)
    assert drive.rows["a"].status is Status.COMPLETED
    assert drive.rows["a"].result == "42"
    assert [each.id for each in effects if isinstance(each, Ended)] == ["a"]


def test_a_call_that_ends_within_its_batch_is_written_once(drive: Drive) -> None:
    async def pure(n: int) -> int:
        return n + 1

    drive.register(pure, Kind.WORKFLOW)
    drive.call("pure", 1, id="a")
    (batch,) = drive.batches
    assert (len(batch.inserted), len(batch.updated), len(batch.entries)) == (1, 0, 0)
    assert drive.rows["a"].result == "2"


def test_without_retention_it_is_not_written_at_all(drive: Drive) -> None:
    async def pure() -> None: ...

    drive.register(pure, Kind.WORKFLOW, retention_seconds=0.0)
    effects = drive.call("pure", id="a")
    assert drive.batches[-1].is_empty()
    assert any(isinstance(each, Ended) for each in effects)


def test_without_retention_an_open_call_goes_when_it_ends(drive: Drive) -> None:
    drive.register(double, Kind.TASK, retention_seconds=0.0)
    (body,) = bodies(drive.call("double", 1, id="a"))
    assert "a" in drive.rows
    drive.completed(body, 2)
    assert "a" not in drive.rows


def test_a_three_step_workflow_is_five_rows_in_four_batches(drive: Drive) -> None:
    drive.register(three, Kind.WORKFLOW)
    effects = drive.call("three", 1, id="a")
    for value in (2, 4, 8):
        (body,) = bodies(effects)
        effects = drive.completed(body, value)
    rows = [(len(b.inserted), len(b.updated), len(b.entries)) for b in drive.batches]
    assert rows == [(1, 0, 0), (0, 0, 1), (0, 0, 1), (0, 1, 1)]
    assert drive.rows["a"].result == "8"


@pytest.mark.guarantee("step-once")
@pytest.mark.parametrize("recorded", [0, 1, 2])
def test_after_a_crash_only_the_step_without_outcome_runs_again(
    drive: Drive, recorded: int
) -> None:
    drive.register(three, Kind.WORKFLOW)
    effects = drive.call("three", 1, id="a")
    for value in (2, 4, 8)[:recorded]:
        effects = drive.completed(*bodies(effects), value)
    drive.start()
    (body,) = bodies(drive.load_ready("a"))
    assert (body.command, body.args) == (recorded + 1, ((1, 2, 4)[recorded],))


@pytest.mark.guarantee("one-outcome")
def test_a_late_outcome_of_a_body_changes_nothing(drive: Drive) -> None:
    drive.register(double, Kind.TASK)
    (body,) = bodies(drive.call("double", 1, id="a"))
    drive.completed(body, 2)
    drive.completed(body, 99)
    assert drive.rows["a"].result == "2"
    assert drive.batches[-1].is_empty()


def test_a_task_waits_for_its_next_attempt_as_a_row(drive: Drive) -> None:
    retry = Retry(attempts=3, first_seconds=10, jitter=0.0)
    drive.register(double, Kind.TASK, retry=retry)
    (body,) = bodies(drive.call("double", 1, id="a"))
    effects = drive.failed(body, ValueError("no"), retryable=True)
    row = drive.rows["a"]
    assert (row.status, row.attempt, row.wake_at) == (Status.PENDING, 1, 1010.0)
    assert effects == [WakeAt(1010.0)]
    assert not drive.engine.partitions[0].residents
    drive.now = 1010.0
    (body,) = bodies(drive.marks(drive.event(DueLoaded(0, drive.load_begins(), drive.loaded("a")))))
    assert body.attempt == 2


def test_a_failed_task_keeps_its_error(drive: Drive) -> None:
    drive.register(double, Kind.TASK)
    (body,) = bodies(drive.call("double", 1, id="a"))
    drive.failed(body, ValueError("no"))
    failure = drive.rows["a"].failure
    assert drive.rows["a"].status is Status.FAILED
    assert failure is not None
    assert (failure.type, failure.message) == ("builtins:ValueError", "no")


def test_retry_of_a_failed_workflow_is_another_run(drive: Drive) -> None:
    drive.register(three, Kind.WORKFLOW)
    (body,) = bodies(drive.call("three", 1, id="a"))
    drive.failed(body, ValueError("no"))
    effects = drive.event_after_load(RetryMessage(0, "a"))
    assert any(isinstance(each, LoadReady) for each in effects)
    assert drive.entries.get("a", []) == []
    (body,) = bodies(drive.load_ready("a"))
    assert (body.command, body.run) == (1, "a~1")


def test_cancelling_a_running_task_stops_its_body(drive: Drive) -> None:
    drive.register(double, Kind.TASK)
    (body,) = bodies(drive.call("double", 1, id="a"))
    assert drive.message(Cancel(0, "a", "why")) == [StopBody("a", 0)]
    drive.cancelled(body)
    assert drive.rows["a"].status is Status.CANCELLED


def test_cancelled_code_may_clean_up_with_steps(drive: Drive) -> None:
    async def careful() -> None:
        try:
            await step(double, 1)
        finally:
            await step(double, 2)

    drive.register(careful, Kind.WORKFLOW)
    drive.call("careful", id="a")
    effects = drive.message(Cancel(0, "a", "why"))
    (cleanup,) = bodies(effects)
    assert cleanup.args == (2,)
    drive.completed(cleanup, 4)
    assert drive.rows["a"].status is Status.CANCELLED


def test_a_timer_that_fires_is_in_the_journal_and_one_that_does_not_is_not(drive: Drive) -> None:
    async def patient() -> str:
        async with asyncio.timeout(100):
            await asyncio.sleep(5)
        return "ok"

    drive.register(patient, Kind.WORKFLOW)
    drive.call("patient", id="a")
    assert drive.engine.timers.next() == 1005.0
    drive.tick(4.9)
    assert "a" not in drive.entries
    drive.tick(0.2)
    assert [(each.kind, each.command) for each in drive.entries["a"]] == [("timer_fired", 2)]
    assert drive.rows["a"].result == '"ok"'


def test_a_workflow_that_waits_for_nothing_is_stuck_not_lost(drive: Drive) -> None:
    async def hopeless() -> None:
        await asyncio.get_running_loop().create_future()

    drive.register(hopeless, Kind.WORKFLOW)
    drive.call("hopeless", id="a")
    assert drive.rows["a"].status is Status.STUCK
    assert "step" in (drive.rows["a"].waiting or "")


def test_a_call_without_a_handler_waits_for_one(drive: Drive) -> None:
    drive.register(double, Kind.TASK)
    drive.call("double", 1, id="a")
    drive.registry._specs.clear()
    drive.start()
    drive.load_ready("a")
    assert drive.rows["a"].status is Status.UNHANDLED
    assert "double" in (drive.rows["a"].waiting or "")


def test_a_call_that_only_waits_makes_room_for_the_backlog(drive: Drive) -> None:
    async def then_sleep() -> None:
        await step(double, 1)
        await asyncio.sleep(1000)

    drive.register(then_sleep, Kind.WORKFLOW)
    drive.engine.window = 2
    running = [bodies(drive.call("then_sleep", id=f"w{n}", waited=False)) for n in range(2)]
    assert bodies(drive.call("then_sleep", id="w2", waited=False)) == []
    effects = drive.completed(running[0][0], 2)
    assert [each.after for each in effects if isinstance(each, LoadReady)] == [2]


def test_a_sender_that_does_not_know_the_handler_leaves_its_version_open(drive: Drive) -> None:
    drive.register(double, Kind.TASK, version=1)
    drive.register(double, Kind.TASK, version=2, timeout_seconds=60.0)
    drive.call("double", 21, id="a", version=0)
    assert (drive.rows["a"].version, drive.rows["a"].deadline_at) == (2, 1060.0)
    drive.call("double", 21, id="b", version=0, deadline_at=1001.0)
    assert (drive.rows["b"].version, drive.rows["b"].deadline_at) == (2, 1001.0)


def test_a_call_at_the_wrong_address_fails(drive: Drive) -> None:
    class Account:
        balance: int = 0

        async def deposit(self, amount: int) -> None:
            self.balance += amount

    drive.register_entity(Account)
    drive.register(double, Kind.TASK)
    drive.call("Account.deposit", 5, id="a")
    drive.call("double", 5, id="b", key="alice")
    # One that waited for its handler, too.
    drive.call("double", 5, id="c", wake_at=2000.0)
    drive.rows["c"].key = "alice"
    drive.now = 2000.0
    begun = drive.load_begins()
    drive.event(DueLoaded(0, begun, drive.loaded("c")))
    for id_, reason in (("a", "needs the key"), ("b", "of no entity"), ("c", "of no entity")):
        failure = drive.rows[id_].failure
        assert drive.rows[id_].status is Status.FAILED
        assert failure is not None
        assert reason in failure.message
    assert not drive.states


def from_inbox(drive: Drive, handler: str, id_: str, *, early: bool, fresh: bool = True) -> None:
    """A client of another process has sent a call."""
    spec = drive.registry.latest(handler)
    assert spec is not None
    invocation = Invocation(
        id=id_, partition=0, handler=handler, args=spec.signature.encode((1,), {})
    )
    drive.inbox[7] = message = Call(invocation, fresh=fresh)
    drive.engine.receive(message, drive.now, 7, early=early)


def test_what_is_durable_as_a_message_begins_before_its_row_is_written(drive: Drive) -> None:
    drive.register(double, Kind.TASK)
    drive.register(three, Kind.WORKFLOW)
    from_inbox(drive, "double", "a", early=True)
    (body,) = drive.engine.early_bodies
    drive.engine.early_bodies.clear()
    # Its end is in the batch that accepts it, and so it is one row, written once.
    effects = drive.completed(body, 2)
    (batch,) = drive.batches
    assert not bodies(effects)
    assert ([each.status for each in batch.inserted], batch.updated, batch.inbox_deleted) == (
        [Status.COMPLETED], [], [7],
    )  # fmt: skip
    from_inbox(drive, "three", "b", early=True)
    (body,) = drive.engine.early_bodies
    drive.engine.early_bodies.clear()
    # The second step waits until the outcome of the first is recorded.
    (second,) = bodies(drive.completed(body, 2))
    assert not drive.engine.early_bodies
    assert second.args == (2,)
    assert len(drive.entries["b"]) == 1


@pytest.mark.parametrize(("early", "fresh"), [(False, True), (True, False)])
def test_what_another_node_may_have_begun_waits_for_its_row(
    drive: Drive, early: bool, fresh: bool
) -> None:
    drive.register(double, Kind.TASK)
    from_inbox(drive, "double", "a", early=early, fresh=fresh)
    effects = drive.commit()
    if not fresh:
        (request,) = [each for each in effects if isinstance(each, LoadCalls)]
        effects = drive.event(CallsLoaded(0, request.batch, request.ids, []))
    assert not drive.engine.early_bodies
    assert len(bodies(effects)) == 1


@pytest.mark.guarantee("accepted-never-lost")
def test_a_call_with_a_chosen_id_is_durable_with_the_journal_that_says_it_was_sent(
    drive: Drive,
) -> None:
    """Its row has to be read first: until then it was in memory only, and gone with the process."""
    app = App("chosen")

    @app.task(name="leaf")
    async def leaf(n: int) -> int:
        return n

    async def work() -> None:
        await leaf.options(id="chosen").start(1)
        await step(double, 1)

    drive.register(work, Kind.WORKFLOW)
    drive.call("work", id="a")
    assert drive.rows["a"].commands is not None
    (message,) = drive.inbox.values()
    assert isinstance(message, Call)
    assert message.invocation.id == "chosen"


def test_what_comes_behind_a_call_with_a_journal_waits_until_that_is_durable(drive: Drive) -> None:
    async def work() -> str:
        await step(double, 1)
        return await wait_signal("go", str)

    drive.register(work, Kind.WORKFLOW)
    (body,) = bodies(drive.call("work", id="a"))
    drive.completed(body, 2)
    made = replace(drive.rows["a"], id="b", status=Status.RUNNING)
    entries = [replace(each, id="b") for each in drive.entries["a"]]
    effects = drive.from_inbox(Restore(made, entries))
    assert not drive.from_inbox(Signal(0, "b", "go", '"now"'))
    (request,) = [each for each in effects if isinstance(each, LoadCalls)]
    effects = drive.event(CallsLoaded(0, request.batch, request.ids, []))
    (request,) = [each for each in effects if isinstance(each, LoadCalls)]
    found = drive.loaded(*request.ids)
    drive.marks(drive.event(CallsLoaded(0, request.batch, request.ids, found)))
    assert (drive.rows["b"].status, drive.rows["b"].result) == (Status.COMPLETED, '"now"')
    kinds = [each.kind for each in drive.entries["b"]]
    assert kinds == [EntryKind.STEP_COMPLETED, EntryKind.SIGNAL_RECEIVED]


def test_a_call_that_is_imported_is_written_once(drive: Drive) -> None:
    async def flow() -> None: ...

    drive.register(flow, Kind.WORKFLOW)
    call = Invocation(id="a", partition=0, handler="flow", args="{}", created_at=drive.now)
    call.status, call.result = Status.COMPLETED, "null"
    effects = drive.from_inbox(Restore(call, []))
    (request,) = [each for each in effects if isinstance(each, LoadCalls)]
    drive.event(CallsLoaded(0, request.batch, request.ids, []))
    written = [
        (where, each.id)
        for batch in drive.batches
        for where, rows in (("inserted", batch.inserted), ("updated", batch.updated))
        for each in rows
    ]
    assert written == [("inserted", "a")]
