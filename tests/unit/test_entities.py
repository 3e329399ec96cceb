"""Entities: turns, states, and what a failed operation leaves behind."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu._api.step import step
from fenbu._core import limit
from fenbu._core.effect import Effect, LoadCalls, LoadEntity, LoadOperations
from fenbu._core.event import CallsLoaded, DueLoaded, EntityLoaded, OperationsLoaded
from fenbu._core.message import Call, Cancel
from fenbu._core.model import Invocation, Status
from tests.unit.drive import Drive, bodies


async def act(n: int) -> int:
    return n


class Counter:
    n: int = 0
    key: str

    async def add(self, n: int) -> int:
        self.n += n
        return self.n

    async def add_slowly(self, n: int) -> int:
        self.n += 100
        self.n += await step(act, n) - 100
        return self.n

    async def break_(self) -> None:
        self.n = 99
        raise ValueError("no")

    async def mistype(self) -> None:
        self.n = "text"  # type: ignore[assignment]

    async def undeclared(self) -> None:
        self.other = 1


@pytest.fixture
def counters(drive: Drive) -> Drive:
    drive.register_entity(Counter)
    return drive


def load(drive: Drive, key: str = "k") -> list[Effect]:
    state = drive.states.get(("Counter", key))
    return drive.event(EntityLoaded(0, "Counter", key, state))


def take_over_behind_a_slow_one(drive: Drive, **fields: Any) -> None:
    """A process dies while `a` runs and `b` is there."""
    drive.call("Counter.add", 0, id="z", key="k")
    load(drive)
    drive.call("Counter.add_slowly", 1, id="a", key="k")
    drive.call("Counter.add", 10, id="b", key="k", **fields)
    drive.start()


def test_the_first_operation_loads_the_state(counters: Drive) -> None:
    effects = counters.call("Counter.add", 5, id="a", key="k")
    assert effects == [LoadEntity(0, "Counter", "k")]
    assert counters.rows["a"].status is Status.PENDING
    load(counters)
    assert counters.rows["a"].result == "5"
    assert counters.states["Counter", "k"].state == '{"n":5}'


@pytest.mark.guarantee("entity-linear")
def test_state_and_result_are_in_one_batch_and_each_is_written_once(counters: Drive) -> None:
    counters.call("Counter.add", 1, id="a", key="k")
    load(counters)
    for id_ in ("b", "c"):
        counters.call("Counter.add", 1, id=id_, key="k")
    batch = counters.batches[-1]
    assert (len(batch.inserted), len(batch.updated), len(batch.entities)) == (1, 0, 1)
    assert counters.rows["c"].result == "3"


@pytest.mark.guarantee("entity-linear")
def test_operations_wait_for_their_turn_in_order(counters: Drive) -> None:
    counters.call("Counter.add", 0, id="z", key="k")
    load(counters)
    (body,) = bodies(counters.call("Counter.add_slowly", 1, id="a", key="k"))
    counters.call("Counter.add", 10, id="b", key="k")
    counters.call("Counter.add", 20, id="c", key="k")
    assert counters.rows["b"].status is Status.PENDING
    assert ("Counter", "k") not in counters.states
    counters.completed(body, 1)
    assert [counters.rows[each].result for each in "abc"] == ["1", "11", "31"]


@pytest.mark.guarantee("entity-linear")
@pytest.mark.parametrize("name", ["break_", "mistype", "undeclared"])
def test_an_operation_that_fails_changes_nothing(counters: Drive, name: str) -> None:
    counters.call("Counter.add", 5, id="a", key="k")
    load(counters)
    counters.call(f"Counter.{name}", id="b", key="k")
    assert counters.rows["b"].status is Status.FAILED
    counters.call("Counter.add", 1, id="c", key="k")
    assert counters.rows["c"].result == "6"


def test_a_running_operation_comes_before_those_accepted_after_it_when_loaded(
    counters: Drive,
) -> None:
    take_over_behind_a_slow_one(counters)
    (body,) = bodies(began(counters, counters.load_ready("a", "b")))
    assert (body.id, counters.rows["b"].status) == ("a", Status.RUNNING)
    counters.completed(body, 1)
    assert [counters.rows[each].result for each in "ab"] == ["1", "11"]


def test_a_long_queue_spills_to_the_database_and_keeps_its_order(
    counters: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "MAILBOX_OPERATIONS_MAX", 2)
    counters.call("Counter.add", 0, id="z", key="k")
    load(counters)
    (body,) = bodies(counters.call("Counter.add_slowly", 1, id="a", key="k"))
    for n, id_ in enumerate("bcdef"):
        counters.call("Counter.add", 10**n, id=id_, key="k", waited=True)
    assert set(counters.engine.partitions[0].residents) == {"a", "b", "c"}
    answer_operations(counters, counters.completed(body, 1), "d", "e", "f")
    assert [counters.rows[each].result for each in "bcdef"] == ["2", "12", "112", "1112", "11112"]


def began(drive: Drive, effects: list[Effect]) -> list[Effect]:
    """The state is loaded: what the operation that is next wants then."""
    assert LoadEntity(0, "Counter", "k") in effects
    return load(drive)


def answer_operations(drive: Drive, effects: list[Effect], *ids: str) -> list[Effect]:
    (request,) = [each for each in effects if isinstance(each, LoadOperations)]
    found, until = drive.loaded(*ids), request.until
    return drive.marks(
        drive.event(OperationsLoaded(0, request.batch, "Counter", "k", until, found, complete=True))
    )


@pytest.mark.guarantee("entity-linear")
def test_an_operation_whose_time_has_come_waits_for_those_that_are_not_loaded_yet(
    counters: Drive,
) -> None:
    take_over_behind_a_slow_one(counters, wake_at=counters.now + 5)
    counters.now += 5
    effects = counters.event(DueLoaded(0, counters.load_begins(), counters.loaded("b")))
    counters.marks(effects)
    (body,) = bodies(began(counters, answer_operations(counters, effects, "a", "b")))
    assert body.id == "a"
    counters.load_ready("a", "b")
    counters.completed(body, 1)
    assert [counters.rows[each].result for each in "ab"] == ["1", "11"]


@pytest.mark.guarantee("entity-linear")
def test_the_place_of_a_delayed_operation_is_where_it_was_when_its_time_came(
    counters: Drive,
) -> None:
    counters.call("Counter.add", 10, id="delayed", key="k", wake_at=counters.now + 5)
    (body,) = bodies(began(counters, counters.call("Counter.add_slowly", 1, id="a", key="k")))
    counters.now += 5
    due = counters.event(DueLoaded(0, counters.load_begins(), counters.loaded("delayed")))
    counters.marks(due)
    counters.start()
    # It is older, but the other one has begun.
    ready = sorted(("a", "delayed"), key=lambda id_: counters.rows[id_].sequence)
    effects = counters.load_ready(*ready)
    (again,) = bodies(began(counters, effects))
    assert (again.id, again.command) == (body.id, body.command)
    counters.completed(again, 1)
    assert [counters.rows[each].result for each in ("a", "delayed")] == ["1", "11"]


@pytest.mark.guarantee("entity-linear")
def test_an_operation_that_a_message_brings_to_memory_hides_none_before_it(
    counters: Drive,
) -> None:
    take_over_behind_a_slow_one(counters)
    counters.load_ready("a", "b")
    assert counters.rows["b"].status is Status.RUNNING  # It is marked, and waits for its turn.
    counters.start()
    effects = counters.event_after_load(Cancel(0, "b", "why"))
    assert counters.rows["b"].status is Status.CANCELLED
    counters.call("Counter.add", 100, id="c", key="k", waited=True)
    (body,) = bodies(began(counters, answer_operations(counters, effects, "a")))
    assert body.id == "a"
    answer_operations(counters, counters.completed(body, 1), "c")
    assert [counters.rows[each].result for each in "ac"] == ["1", "101"]


class Log:
    lines: list[str] = []

    async def append(self, line: str) -> None:
        self.lines.append(line)


def appends(drive: Drive, id_: str, *, chosen: bool, key: str = "k") -> Call:
    spec = drive.registry.latest("Log.append")
    assert spec is not None
    args = spec.signature.encode((id_,), {})
    invocation = Invocation(
        id=id_, partition=0, handler="Log.append", entity="Log", key=key, args=args
    )
    return Call(invocation, fresh=not chosen)


def answer(drive: Drive, load: LoadCalls) -> None:
    found = [id_ for id_ in load.ids if id_ in drive.rows]
    drive.event(CallsLoaded(0, load.batch, load.ids, drive.loaded(*found)))


@pytest.mark.guarantee("message-once-in-order")
def test_an_operation_does_not_overtake_one_whose_id_is_looked_up(drive: Drive) -> None:
    drive.register_entity(Log)
    there = drive.call("Log.append", "there", id="there", key="k")
    drive.event(EntityLoaded(0, "Log", "k", None))
    assert there == [LoadEntity(0, "Log", "k")]
    loads: dict[str, LoadCalls] = {}
    for id_, chosen in {"a": True, "b": False, "there": True, "c": True, "d": False}.items():
        for effect in drive.from_inbox(appends(drive, id_, chosen=chosen)):
            if isinstance(effect, LoadCalls):
                loads[id_] = effect
    drive.message(appends(drive, "e", chosen=False))  # of this node, and so behind them
    drive.read_inbox()
    assert list(loads) == ["a", "there", "c"]
    drive.message(appends(drive, "other", chosen=False, key="another"))
    assert "other" in drive.rows
    answer(drive, loads["c"])
    answer(drive, loads["there"])
    assert set(drive.rows) == {"there", "other"}
    answer(drive, loads["a"])
    assert drive.states["Log", "k"].state == '{"lines":["there","a","b","c","d","e"]}'
    assert drive.inbox == {}
    drive.message(appends(drive, "f", chosen=False))
    assert drive.rows["f"].status is Status.COMPLETED


@pytest.mark.guarantee("message-once-in-order")
def test_one_id_chosen_for_two_entities_holds_nobody_up(drive: Drive) -> None:
    drive.register_entity(Log)
    loads = [
        effect
        for id_, key in (("a", "k"), ("b", "l"), ("b", "k"), ("a", "l"))
        for effect in drive.from_inbox(appends(drive, id_, chosen=True, key=key))
        if isinstance(effect, LoadCalls)
    ]
    for load_ in loads:
        answer(drive, load_)
    assert {id_: row.key for id_, row in drive.rows.items()} == {"a": "k", "b": "l"}
    assert drive.inbox == {}
