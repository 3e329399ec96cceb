"""Updates, line by line: what stands in which batch, and what waits for what."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu import on_update, updates_running, wait_signal
from fenbu._core import journal, update
from fenbu._core.effect import Ended, LoadCalls
from fenbu._core.event import CallsLoaded
from fenbu._core.ids import update_id
from fenbu._core.message import Cancel, Reply, Signal, Update
from fenbu._core.model import Address, EntryKind, Kind, Loaded, Status
from tests.unit.drive import Drive


async def talk() -> str:
    words: list[str] = []

    @on_update
    async def ask(word: str) -> str:
        words.append(word)
        return word + await wait_signal("answer", str)

    @on_update
    def say(word: str) -> int:
        words.append(word)
        return updates_running()

    @say.validator
    def check(word: str) -> None:
        if word in words:
            raise ValueError(word)

    return await wait_signal("end", str)


def request(drive: Drive, name: str, word: str, id_: str, *, fresh: bool = True) -> Update:
    args = drive.registry.codec.of(Any).encode([word])
    call = update.call_of("t", id_, partition=0, name=name, args=args, now=drive.now)
    return Update(0, "t", call, fresh=fresh)


@pytest.fixture
def talking(drive: Drive) -> Drive:
    drive.register(talk, Kind.WORKFLOW)
    drive.call("talk", id="t")
    return drive


def answer(drive: Drive, *effects: Any) -> list[Any]:
    """The database answers what was asked of it."""
    (load,) = [each for each in effects if isinstance(each, LoadCalls)]
    found = [each for id_ in load.ids if id_ in drive.rows for each in drive.loaded(id_)]
    return drive.event(CallsLoaded(0, load.batch, load.ids, found))


def test_an_update_that_is_answered_at_once_is_one_row_and_one_entry(talking: Drive) -> None:
    effects = talking.message(request(talking, "say", "hello", "u1"))
    (ended,) = [each for each in effects if isinstance(each, Ended)]
    assert (ended.id, ended.outcome.status, ended.outcome.value) == ("t/@u1", Status.COMPLETED, "1")
    rows = talking.batches[-1]
    assert [(each.id, each.status) for each in rows.inserted] == [("t/@u1", Status.COMPLETED)]
    (entry,) = rows.entries
    assert (entry.kind, entry.name) == (EntryKind.UPDATE_RECEIVED, "say t/@u1")
    assert journal.recorded(entry.commands) == [("updated", "say t/@u1", "")]
    assert not rows.inbox


def test_a_refused_one_is_a_row_and_no_entry(talking: Drive) -> None:
    talking.message(request(talking, "say", "hello", "u1"))
    talking.message(request(talking, "say", "hello", "u2"))
    rows = talking.batches[-1]
    assert [(each.id, each.status) for each in rows.inserted] == [("t/@u2", Status.FAILED)]
    assert not rows.entries


def test_a_later_answer_is_sent_to_the_row(talking: Drive) -> None:
    talking.message(request(talking, "ask", "why", "u1"))
    row = talking.rows["t/@u1"]
    assert (row.status, row.sequence, row.partition) == (Status.RUNNING, 0, 0)
    talking.message(Signal(0, "t", "answer", '"!"'))
    ((number, reply),) = talking.inbox.items()
    assert isinstance(reply, Reply)
    assert reply.to == Address(0, "t/@u1", 0)
    talking.start()
    answer(talking, *talking.message(reply, number))
    assert (talking.rows["t/@u1"].status, talking.rows["t/@u1"].result) == (
        Status.COMPLETED, '"why!"',
    )  # fmt: skip
    assert not talking.inbox


def test_what_comes_while_an_update_is_looked_up_waits_behind_it(talking: Drive) -> None:
    first = request(talking, "ask", "why", "u1", fresh=False)
    talking.message(first)
    # From a client of the node: the inbox keeps it, because the database has to be asked.
    assert list(talking.inbox.values()) == [first]
    asked = talking.message(first, 1)
    talking.inbox[2] = Signal(0, "t", "answer", '"!"')
    assert not [
        each for each in talking.message(talking.inbox[2], 2) if isinstance(each, LoadCalls)
    ]
    assert set(talking.inbox) == {1, 2}
    answer(talking, *asked)
    kinds = [each.kind for each in talking.entries["t"]]
    assert kinds == [EntryKind.UPDATE_RECEIVED, EntryKind.SIGNAL_RECEIVED]
    assert [type(each) for each in talking.inbox.values()] == [Reply]


def test_an_id_that_exists_is_the_same_update(talking: Drive) -> None:
    first = request(talking, "say", "hello", "u1", fresh=False)
    for number in (1, 2):
        talking.inbox[number] = first
        answer(talking, *talking.message(first, number))
    assert len(talking.entries["t"]) == 1
    assert not talking.inbox


@pytest.mark.parametrize("stuck", [False, True])
def test_all_that_is_open_fails_when_the_workflow_ends(talking: Drive, stuck: bool) -> None:
    talking.message(request(talking, "ask", "why", "u1"))
    talking.message(request(talking, "ask", "how", "u2"))
    if stuck:
        # Its code cannot be asked: its journal says what is open.
        talking.rows["t"].status = Status.STUCK
        talking.start()
        talking.inbox[1] = Cancel(0, "t", "enough", at_once=True)
        answer(talking, *talking.message(talking.inbox[1], 1))
    else:
        talking.message(Cancel(0, "t", "enough", at_once=True))
    assert talking.rows["t"].status is Status.CANCELLED
    sent = [each for each in talking.inbox.values() if isinstance(each, Reply)]
    assert [each.to.id for each in sent] == ["t/@u1", "t/@u2"]
    assert {each.outcome.failure.type for each in sent if each.outcome.failure} == {
        "fenbu.errors:CallEnded"
    }


def test_the_journal_says_which_are_open(talking: Drive) -> None:
    talking.message(request(talking, "ask", "why", "u1"))
    talking.message(request(talking, "ask", "how", "u2"))
    assert journal.open_updates(talking.entries["t"]) == ["t/@u1", "t/@u2"]
    talking.message(Signal(0, "t", "answer", '"!"'))
    assert journal.open_updates(talking.entries["t"]) == ["t/@u2"]
    assert update_id("t", "u2") == "t/@u2"
    assert Loaded(talking.rows["t"], []).entries == []
