"""Loading: what was read is used only as far as it is still true."""

from __future__ import annotations

import pytest

from fenbu._api.signal import wait_signal
from fenbu._api.step import step
from fenbu._core.effect import Accepted, Effect, LoadCalls, LoadReady
from fenbu._core.event import CallsLoaded, DueLoaded, EntityLoaded, ReadyLoaded
from fenbu._core.message import Call, Cancel, IfExists, Retry, Signal
from fenbu._core.model import Invocation, Kind, Status
from tests.unit.drive import Drive, bodies


async def act(n: int) -> int:
    return n


async def work() -> int:
    return await step(act, 1)


@pytest.mark.guarantee("one-outcome")
def test_a_call_that_ended_while_it_was_being_loaded_does_not_come_back(drive: Drive) -> None:
    drive.register(work, Kind.WORKFLOW)
    drive.call("work", id="a")
    drive.start()
    (request,) = [each for each in drive.commit() if isinstance(each, LoadReady)]
    stale = drive.loaded("a")
    # Another way to memory is faster than the load of the backlog.
    drive.inbox[1] = Signal(0, "a", "n", "1")
    (load,) = [each for each in drive.message(drive.inbox[1], 1) if isinstance(each, LoadCalls)]
    effects = drive.marks(drive.event(CallsLoaded(0, load.batch, load.ids, drive.loaded("a"))))
    drive.completed(*bodies(effects), 1)
    assert drive.rows["a"].status is Status.COMPLETED
    effects = drive.event(ReadyLoaded(0, request.batch, request.until, stale, complete=True))
    assert bodies(drive.marks(effects)) == []
    (again,) = [each for each in effects if isinstance(each, LoadReady)]
    drive.event(ReadyLoaded(0, again.batch, again.until, [], complete=True))
    assert not drive.engine.partitions[0].spilled


async def listen() -> list[str]:
    return [await wait_signal("word", str) for _ in range(3)]


@pytest.mark.guarantee("message-once-in-order")
def test_a_message_waits_behind_those_that_came_before_its_call_was_in_memory(drive: Drive) -> None:
    drive.register(listen, Kind.WORKFLOW)
    drive.call("listen", id="a")
    drive.start()
    (request,) = [each for each in drive.commit() if isinstance(each, LoadReady)]
    drive.inbox[11] = Signal(0, "a", "word", '"first"')
    (load,) = [each for each in drive.message(drive.inbox[11], 11) if isinstance(each, LoadCalls)]
    # The load of the backlog is faster.
    found = drive.loaded("a")
    drive.marks(drive.event(ReadyLoaded(0, request.batch, request.until, found, complete=True)))
    drive.inbox[12] = Signal(0, "a", "word", '"second"')
    drive.message(drive.inbox[12], 12)
    drive.message(Signal(0, "a", "word", '"third"'))
    (third,) = [number for number in drive.inbox if number not in (11, 12)]
    drive.event(CallsLoaded(0, load.batch, load.ids, found))
    drive.message(drive.inbox[third], third)
    assert drive.rows["a"].result == '["first","second","third"]'
    assert not drive.inbox


@pytest.mark.guarantee("accepted-never-lost")
def test_beyond_the_window_a_call_is_a_row_until_there_is_room() -> None:
    drive = Drive(active_calls_max=16)
    drive.register(act, Kind.TASK)
    started = [body for n in range(40) for body in bodies(drive.call("act", n, id=f"{n:02}"))]
    assert len(started) == 16
    assert drive.rows["39"].status is Status.PENDING
    effects = [each for body in started for each in drive.completed(body, 0)]
    (request,) = [each for each in effects if isinstance(each, LoadReady)]
    found = drive.loaded(*(f"{n:02}" for n in range(16, 32)))
    effects = drive.event(ReadyLoaded(0, request.batch, request.until, found, complete=False))
    assert [body.id for body in bodies(drive.marks(effects))] == [f"{n:02}" for n in range(16, 32)]


def test_a_waited_call_passes_the_backlog() -> None:
    drive = Drive(active_calls_max=16)
    drive.register(act, Kind.TASK)
    for n in range(20):
        drive.call("act", n, id=f"{n}")
    (body,) = bodies(drive.call("act", 0, id="waited", waited=True))
    assert body.id == "waited"


@pytest.mark.guarantee("message-once-in-order")
def test_a_signal_right_behind_a_call_that_spills_waits_for_it() -> None:
    async def listens() -> int:
        return await wait_signal("n", int)

    drive = Drive(active_calls_max=16)
    drive.register(act, Kind.TASK)
    drive.register(listens, Kind.WORKFLOW)
    first = [body for n in range(17) for body in bodies(drive.call("act", n, id=f"{n}"))]
    spec = drive.registry.latest("listens")
    assert spec is not None
    invocation = Invocation(
        id="a", partition=0, handler="listens", args=spec.signature.encode((), {})
    )
    drive.inbox = {1: Call(invocation), 2: Signal(0, "a", "n", "7")}
    (load,) = [each for each in drive.message(drive.inbox[1], 1) if isinstance(each, LoadCalls)]
    drive.message(drive.inbox[2], 2)
    drive.event(CallsLoaded(0, load.batch, load.ids, []))
    assert drive.rows["a"].status is Status.PENDING
    assert list(drive.inbox) == [2]
    effects = [each for body in first for each in drive.completed(body, 0)]
    (request,) = [each for each in effects if isinstance(each, LoadReady)]
    found = drive.loaded("16", "a")
    drive.marks(drive.event(ReadyLoaded(0, request.batch, request.until, found, complete=True)))
    assert drive.rows["a"].result == "7"
    assert drive.inbox == {}


async def collects(count: int) -> list[int]:
    return [await wait_signal("n", int) for _ in range(count)]


def _signal(number: int) -> Signal:
    return Signal(0, "a", "n", str(number))


def _load(effects: list[Effect]) -> LoadCalls:
    (load,) = [each for each in effects if isinstance(each, LoadCalls)]
    return load


def _answer(drive: Drive, load: LoadCalls) -> None:
    """And what is asked for again, because the call has changed since."""
    effects = drive.event(CallsLoaded(0, load.batch, load.ids, drive.loaded(*load.ids)))
    for again in effects:
        if isinstance(again, LoadCalls):
            _answer(drive, again)


@pytest.mark.guarantee("message-once-in-order")
def test_a_signal_does_not_overtake_one_that_waits_for_the_row_of_its_call(drive: Drive) -> None:
    drive.register(collects, Kind.WORKFLOW)
    drive.call("collects", 3, id="a")
    drive.start()
    load = _load(drive.from_inbox(_signal(1)))
    # The backlog brings the call while its row is being read for the first signal.
    drive.load_ready("a")
    drive.from_inbox(_signal(2))
    drive.message(_signal(3))
    _answer(drive, load)
    drive.read_inbox()
    assert drive.rows["a"].result == "[1,2,3]"
    assert drive.inbox == {}


@pytest.mark.guarantee("message-once-in-order")
def test_signals_that_code_could_not_see_come_before_those_that_wait_for_the_row(
    drive: Drive,
) -> None:
    fits = True

    async def listens() -> list[int]:
        if not fits:
            await step(act, 1)
        return [await wait_signal("n", int) for _ in range(2)]

    drive.register(listens, Kind.WORKFLOW)
    drive.call("listens", id="a")
    drive.start()
    fits = False
    drive.load_ready("a")
    assert drive.rows["a"].status is Status.STUCK
    drive.event_after_load(_signal(1))
    drive.event_after_load(Retry(0, "a"))
    load = _load(drive.from_inbox(_signal(2)))
    drive.load_ready("a")  # It has the first, and is stuck again before it sees it.
    _answer(drive, load)
    fits = True
    drive.event_after_load(Retry(0, "a"))
    drive.load_ready("a")
    assert drive.rows["a"].result == "[1,2]"
    assert drive.inbox == {}


@pytest.mark.guarantee("message-once-in-order")
def test_a_call_that_is_cancelled_before_it_begins_leaves_nothing_in_the_inbox(
    drive: Drive,
) -> None:
    drive.register(collects, Kind.WORKFLOW)
    drive.call("collects", 1, id="a", wake_at=drive.now + 5)
    drive.event_after_load(_signal(1))
    load = _load(drive.from_inbox(Cancel(0, "a", "why")))
    drive.from_inbox(_signal(2))
    drive.event(DueLoaded(0, drive.load_begins(), drive.loaded("a")))
    _answer(drive, load)
    assert drive.rows["a"].status is Status.CANCELLED
    assert drive.inbox == {}


@pytest.mark.guarantee("message-once-in-order")
def test_what_came_while_an_operation_was_stuck_is_there_when_it_tries_again(drive: Drive) -> None:
    fits = True

    class Listener:
        async def listen(self) -> int:
            if not fits:
                await step(act, 1)
            return await wait_signal("n", int)

    drive.register_entity(Listener)
    drive.call("Listener.listen", id="a", key="k")
    state = EntityLoaded(0, "Listener", "k", None)
    drive.event(state)
    drive.start()
    fits = False
    drive.load_ready("a")
    drive.event(state)
    assert drive.rows["a"].status is Status.STUCK
    drive.from_inbox(_signal(7))
    fits = True
    load = _load(drive.from_inbox(Retry(0, "a")))
    drive.load_ready("a")
    _answer(drive, load)
    assert drive.rows["a"].result == "7"
    assert drive.inbox == {}


def test_cancelling_a_call_in_the_backlog_needs_no_code(drive: Drive) -> None:
    drive.register(act, Kind.TASK)
    drive.call("act", 1, id="a", wake_at=5000.0)
    drive.event_after_load(Cancel(0, "a", "why"))
    assert drive.rows["a"].status is Status.CANCELLED


@pytest.mark.guarantee("no-split-brain")
def test_a_message_for_another_nodes_partition_only_becomes_a_row(drive: Drive) -> None:
    drive.registry.partition_count = 2
    drive.engine.send(Signal(1, "elsewhere", "n", "1"))
    drive.commit()
    assert list(drive.inbox.values()) == [Signal(1, "elsewhere", "n", "1")]


@pytest.mark.guarantee("accepted-never-lost")
def test_who_replaces_a_call_that_lives_elsewhere_need_not_wait_for_its_owner(drive: Drive) -> None:
    drive.register(act, Kind.TASK)
    drive.registry.partition_count = 2
    drive.call("act", 1, id="a", wake_at=5000.0)
    (row,) = drive.rows.values()
    row.partition = 1  # It was given to another node, for its load.
    drive.start()
    invocation = Invocation(id="a", partition=0, handler="act", args=row.args)
    call = Call(invocation, if_exists=IfExists.REPLACE, ticket="ticket")
    effects = drive.event_after_load(call)
    assert Accepted("a", existed=False) in effects
    (sent,) = drive.inbox.values()
    assert (sent.partition, sent.ticket) == (1, "ticket")


def test_who_is_alone_at_two_crashes_in_a_row_is_quarantined(drive: Drive) -> None:
    drive.register(act, Kind.TASK)
    for id_ in "abc":
        drive.call("act", 1, id=id_)
    drive.start()
    assert len(bodies(drive.load_ready("a", "b", "c"))) == 3  # after the first crash
    drive.start()
    (alone,) = bodies(drive.load_ready("a", "b", "c"))  # after the second: one at a time
    assert alone.id == "a"
    (alone,) = bodies(drive.marks(drive.completed(alone, 1)))
    assert alone.id == "b"
    drive.start()
    (alone,) = bodies(drive.load_ready("b", "c"))  # `b` was alone when it went down: again, then
    assert alone.id == "b"
    drive.start()
    (alone,) = bodies(drive.load_ready("b", "c"))  # and once more
    assert drive.rows["b"].status is Status.QUARANTINED
    assert alone.id == "c"
    drive.completed(alone, 1)
    assert drive.rows["c"].status is Status.COMPLETED
