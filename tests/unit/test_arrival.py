"""Which calls belong to one, how they stand in a file, and how they come into another database."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fenbu._core import history, ids
from fenbu._core.arrival import IMPORTED, arrivals
from fenbu._core.history import Histories, History, Outside
from fenbu._core.message import (
    Adopt,
    Call,
    Cancel,
    Claim,
    Message,
    Pause,
    Reply,
    Restore,
    Retry,
    Signal,
    Subscribe,
    Update,
    Withheld,
)
from fenbu._core.model import (
    Address,
    Chunk,
    EntityState,
    EntryKind,
    Heartbeat,
    Loaded,
    Outcome,
    Status,
    Unreadable,
)
from fenbu._core.tree import Look, Seen, drive, walk
from fenbu.errors import UsageError
from tests.fixture.row import FAILURE, call, entry, finished, full_call, full_entry

COUNT = 64


class Rows:
    """A database in which everything is looked up by going through it."""

    def __init__(self, *calls: Loaded, messages: tuple[Message, ...] = ()) -> None:
        self.calls = {each.invocation.id: each for each in calls}
        self.messages = list(messages)
        self.states: list[EntityState] = []
        self.chunks: list[Chunk] = []
        self.looks = 0

    def look_up(self, look: Look) -> Seen:
        self.looks += 1
        found = [self.calls[each] for each in look.ids if each in self.calls]
        ids_ = {each.invocation.id for each in found}
        children = [
            each.invocation.id
            for each in self.calls.values()
            if (parent := each.invocation.parent) is not None
            and (parent.partition, parent.id) in look.parents
        ]
        return Seen(
            found,
            [each for each in self.chunks if each.id in ids_],
            children,
            [each for each in self.states if (each.entity, each.key) in look.entities],
            self.messages if look.messages else [],
        )

    def tree(self, id_: str, *, alone: bool = False) -> Histories:
        found = drive(walk(id_, COUNT, alone=alone), self.look_up)
        assert found is not None
        return found

    def ids(self, id_: str) -> list[str]:
        return [each.loaded.invocation.id for each in self.tree(id_).calls]


def row(id_: str, *commands: str, entries: tuple[object, ...] = (), **fields: object) -> Loaded:
    """An open call that has asked for this: a kind, a space and a name for each."""
    asked = ",".join('["{}","{}","shop.py:1"]'.format(*each.split()) for each in commands)
    begun = {"status": Status.SUSPENDED, "started_at": 5.0, **fields}
    return Loaded(call(id_, **begun, commands=f"[{asked}]" if asked else None), list(entries))  # type: ignore[arg-type]


def ended(command: int, position: int = 1) -> object:
    return entry(
        "a", position, kind=EntryKind.CALL_FINISHED, command=command, status=Status.COMPLETED
    )


def test_nobody_is_no_tree() -> None:
    assert drive(walk("a", COUNT), Rows().look_up) is None


def test_a_tree_is_what_was_started_and_what_is_waited_for() -> None:
    said = entry("asked", 1, kind=EntryKind.UPDATE_RECEIVED, name="say asked/@a/6")
    rows = Rows(
        row("a", "patch new", "call leaf", "step charge", "call leaf", "await other", "await past",
            "update say", "signal go", "await gone", entries=(ended(5),)),
        row("a/1", "call leaf"),
        row("a/1/1", parent=Address(3, "a/1", 1)),
        Loaded(finished("a/3", 5.0), []),
        row("other", waiters=(Address(1, "a", 4),)),
        row("past"),
        row("chosen", parent=Address(ids.partition_of("a", COUNT), "a", 3)),
        row("asked", "call leaf", entries=(said,)),
        row("asked/@a/6", handler="fenbu.update", key="say", parent=Address(1, "a", 6)),
        row("asked/1"),
        row("stranger", parent=Address(1, "stranger", 1)),
    )  # fmt: skip
    tree = rows.tree("a")
    found = {each.loaded.invocation.id: each.found_by for each in tree.calls}
    assert found == {
        "a": None, "a/1": "a", "a/3": "a", "other": "a", "a/1/1": "a/1", "chosen": "a",
        "asked/@a/6": "a", "asked": "asked/@a/6", "asked/1": "asked",
    }  # fmt: skip
    assert tree.outside == [Outside("a", 8, "await", "gone", "shop.py:1")]
    assert [each.loaded.invocation.id for each in rows.tree("a", alone=True).calls] == ["a"]


def test_a_fork_finds_the_children_of_its_original() -> None:
    forked = entry(
        "b", 1, kind=EntryKind.FORKED, command=2, name="a",
        value='{"last":2,"run":"a","seed":"s","anew":1}', commands='[["call","leaf","shop.py:2"]]',
    )  # fmt: skip
    rows = Rows(
        row("b", "call leaf", "call leaf", entries=(forked,)),
        *(row(each) for each in ("a/1", "a/2", "a/3", "b/1", "b/2", "b/3")),
    )
    assert rows.ids("b") == ["b", "b/1", "a/2", "b/3"]


def test_a_later_run_has_children_of_its_own() -> None:
    rows = Rows(row("a", "call leaf", attempt=2), row("a/1"), row("a~2/1"))
    assert rows.ids("a") == ["a", "a~2/1"]


def test_what_is_accepted_and_has_no_row_is_a_call() -> None:
    first = call("a/1", parent=Address(1, "a", 1))
    again = replace(first, args="[2]")
    restored = Restore(call("x", status=Status.RUNNING, parent=Address(1, "a", 2)), [entry("x", 1)])
    chosen = call("y", parent=Address(1, "a", 3))
    mail: tuple[Message, ...] = (
        Call(first, fresh=True),
        Call(again, listener="me"),
        restored,
        Call(chosen),
        Update(1, "z", call("z/@u", parent=Address(1, "a", 4))),
        Call(call("stranger")),
    )
    rows = Rows(
        row("a", "call leaf", "call leaf", "call leaf", "update say"), row("z"), messages=mail
    )
    tree = rows.tree("a")
    assert [each.loaded.invocation.id for each in tree.calls] == ["a", "a/1", "x", "y", "z"]
    assert tree.calls[1].loaded == Loaded(first, [])
    assert tree.calls[2].loaded.entries == restored.entries
    # What made them is no message any more; what comes behind is.
    assert tree.messages == [mail[1], mail[4]]
    assert not tree.outside


def test_mail_is_what_goes_to_a_call_of_the_tree() -> None:
    theirs: list[Message] = [
        Signal(1, "a", "go", "1"),
        Reply(Address(1, "a", 1), Outcome(Status.COMPLETED, "1")),
        Subscribe(1, "a/1", Address(1, "a", 2)),
        Cancel(1, "a/1", "why"),
        Pause(1, "a", "why"),
    ]
    others: list[Message] = [
        Signal(1, "b", "go", "1"),
        Reply(Address(1, "b", 1), Outcome(Status.COMPLETED, "1")),
        Subscribe(1, "a", Address(1, "b", 2)),
        Subscribe(1, "b", Address(1, "a", 2)),
        Adopt(1, "a"),
        Claim(1, "a", 2),
    ]
    rows = Rows(row("a", "call leaf"), row("a/1"), messages=(*others, *theirs))
    assert rows.tree("a").messages == theirs
    hidden = Unreadable(b"x")
    rows.messages = [Withheld(1, "b", Signal(1, "b", "go", hidden), "no key")]
    assert rows.tree("a").messages == []
    rows.messages = [Withheld(1, "a", Signal(1, "a", "go", hidden), "no key")]
    with pytest.raises(UsageError, match="a message to a cannot be read here: no key"):
        rows.tree("a")


def test_a_file_has_all_of_it() -> None:
    whole = full_call("a/1")
    whole.status, whole.finished_at = Status.RUNNING, None
    # Of commands the words count, and not the spaces.
    whole.commands = '[["step","charge","a.py:1"]]'
    full = replace(full_entry("a/1", 1), commands='[["call","leaf","a.py:2"]]')
    rows = Rows(
        row("a", "call leaf", "await gone"),
        Loaded(whole, [full, entry("a/1", 2, value='{"a": 1}')]),
        messages=(
            Signal(1, "a", "go", b"\xff"),
            Signal(1, "a", "go", '{"a":1}'),
            Signal(1, "a", "go", failure=FAILURE),
            Reply(Address(1, "a", 2, 3), Outcome(Status.COMPLETED, b"\x00")),
            Reply(Address(1, "a", 2), Outcome(Status.FAILED, failure=FAILURE)),
            Update(1, "a", call("a/@u", args=b"\xc3"), failure=FAILURE),
            Call(call("a/1", args="[1, 2]")),
            Cancel(1, "a", "why"),
        ),
    )
    rows.chunks = [
        Chunk("a/1", "said", 0, 1, 0, 5.0, b"\xff", number=7),
        Chunk("a/1", "said", 1, 2, 0, 6.0, '"x"', number=8),
        Chunk("a/1", "said", 0, 3, 0, 7.0, ends=True, number=9),
    ]
    assert whole.entity is not None
    rows.states = [EntityState(whole.entity, whole.key or "", 1, b"\x01", 4)]
    tree = rows.tree("a")
    read = history.read(history.write(tree))
    tree.calls[1].chunks = [replace(each, number=0) for each in tree.calls[1].chunks]
    assert read == tree
    assert read.calls[1].state == b"\x01"
    assert read.calls[1].loaded.invocation.heartbeats[1] == Heartbeat(3, 2.5, None, b"\x00\xff")
    # The same to the letter, whoever wrote it.
    assert history.write(read) == history.write(history.read(history.write(read)))


def coming(histories: Histories, **options: object) -> tuple[dict[str, Restore], list[Message]]:
    messages = arrivals(histories, COUNT, **options)  # type: ignore[arg-type]
    calls = [each for each in messages if isinstance(each, Restore)]
    assert messages[: len(calls)] == calls
    return {each.id: each for each in calls}, messages[len(calls) :]


def test_everything_has_its_place_in_the_other_database() -> None:
    update = call(
        "a/@u", handler="fenbu.update", key="say", status=Status.RUNNING, parent=Address(9, "b", 1)
    )
    operation = call("a/2", entity="Till", key="x", parent=Address(8, "a", 2))
    tree = Histories(
        [
            History(row("a", waiters=(Address(7, "a/1", 3), Address(7, "b", 3)))),
            History(row("a/1", parent=Address(8, "a", 1))),
            History(Loaded(operation, [])),
            History(Loaded(update, [])),
        ],
        [
            Reply(Address(9, "a", 1, 2), Outcome(Status.COMPLETED, "1")),
            Signal(9, "a/1", "go"),
            Cancel(9, "a/2", "why"),
            Subscribe(9, "a/1", Address(9, "a", 3)),
            Call(replace(operation, parent=Address(9, "a/1", 5)), listener="me", ticket="t"),
            Update(9, "a", replace(update, parent=Address(9, "a/1", 6)), listener="me"),
            Retry(9, "a"),
            Pause(9, "a", resumes=True),
            Pause(9, "a"),
        ],
    )
    a, b, a1 = (ids.partition_of(each, COUNT) for each in ("a", "b", "a/1"))
    till = ids.partition_of_entity("Till", "x", COUNT)
    calls, messages = coming(tree, goes_on=True)
    assert list(calls) == ["a/@u", "a/2", "a/1", "a"]
    assert {id_: each.partition for id_, each in calls.items()} == {
        "a": a, "a/1": a1, "a/2": till, "a/@u": a,
    }  # fmt: skip
    assert calls["a"].invocation.waiters == (Address(a1, "a/1", 3),)
    assert calls["a/1"].invocation.parent == Address(a, "a", 1)
    assert calls["a/@u"].invocation.parent == Address(b, "b", 1)
    assert calls["a/@u"].invocation.status is Status.RUNNING
    assert messages == [
        Reply(Address(a, "a", 1, 2), Outcome(Status.COMPLETED, "1")),
        Signal(a1, "a/1", "go"),
        Cancel(till, "a/2", "why"),
        Subscribe(a1, "a/1", Address(a, "a", 3)),
        Call(replace(operation, partition=till, parent=Address(a1, "a/1", 5))),
        Update(a, "a", replace(update, partition=a, parent=Address(a1, "a/1", 6))),
        Retry(a, "a"),
        Pause(a, "a", resumes=True),
        Pause(a, "a"),
    ]
    # Where nothing is to go on, nothing lets it.
    calls, messages = coming(tree)
    assert messages[-2:] == [
        Update(a, "a", replace(update, partition=a, parent=Address(a1, "a/1", 6))),
        Pause(a, "a"),
    ]
    assert [each.invocation.status for each in calls.values()] == [
        Status.RUNNING,
        *[Status.QUARANTINED] * 3,
    ]
    assert calls["a"].invocation.waiting == IMPORTED
    assert list(coming(tree, alone=True)[0]) == ["a"]


@pytest.mark.parametrize(
    ("fields", "status", "wake_at"),
    [
        ({}, Status.RUNNING, None),
        ({"wake_at": 9.0, "crashes": 2}, Status.RUNNING, None),
        ({"status": Status.STUCK, "failure": FAILURE}, Status.RUNNING, None),
        ({"status": Status.PENDING, "wake_at": 9.0, "failure": FAILURE}, Status.PENDING, 9.0),
        ({"status": Status.PENDING, "started_at": None, "wake_at": 9.0}, Status.PENDING, 9.0),
        ({"status": Status.UNHANDLED, "started_at": None}, Status.PENDING, None),
        ({"status": Status.PAUSED, "wake_at": 1e11, "waiting": "why"}, Status.PAUSED, 1e11),
        ({"status": Status.COMPLETED, "finished_at": 9.0}, Status.COMPLETED, None),
    ],
)
def test_what_becomes_of_a_call(
    fields: dict[str, object], status: Status, wake_at: float | None
) -> None:
    before = row("a", **fields)  # type: ignore[arg-type]
    calls, _ = coming(Histories([History(before)]), goes_on=True)
    made = calls["a"].invocation
    assert (made.status, made.wake_at, made.crashes) == (status, wake_at, 0)
    # The error of its last attempt is told by one that waits for the next.
    assert made.failure == (FAILURE if status is Status.PENDING and "failure" in fields else None)
    assert before.invocation.crashes == fields.get("crashes", 0)
    parked, _ = coming(Histories([History(before)]))
    stays = status in (Status.PAUSED, Status.COMPLETED)
    assert parked["a"].invocation.status is (status if stays else Status.QUARANTINED)


def test_an_operation_that_has_begun_begins_anew_without_what_it_has_started() -> None:
    operation = row(
        "a/1",
        entity="Till",
        key="x",
        parent=Address(1, "a", 1),
        heartbeats=(Heartbeat(1, 2.0, "1"),),
    )
    operation.entries.append(entry("a/1", 1))
    tree = Histories(
        [
            History(row("a", "call Till.add")),
            History(operation, chunks=[Chunk("a/1", "said", 0, 1, 0, 5.0, "1")], found_by="a"),
            History(row("a/1/1"), found_by="a/1"),
            History(row("a/1/1/1"), found_by="a/1/1"),
            History(row("a/2"), found_by="a"),
        ],
        [Signal(1, "a/1/1", "go"), Signal(1, "a/2", "go")],
    )
    with pytest.raises(UsageError, match=r"checkout a/1 on 'x' is an operation that has not ended"):
        arrivals(tree, COUNT)
    calls, messages = coming(tree, goes_on=True, restart_operations=True)
    assert list(calls) == ["a/2", "a/1", "a"]
    assert [each.id for each in messages if isinstance(each, Signal)] == ["a/2"]
    anew = calls["a/1"].invocation
    assert (anew.status, anew.attempt, anew.started_at, anew.heartbeats) == (
        Status.PENDING,
        1,
        None,
        (),
    )
    assert anew.parent == Address(ids.partition_of("a", COUNT), "a", 1)
    assert not calls["a/1"].entries
    assert not calls["a/1"].chunks


def test_under_another_id_it_comes_alone() -> None:
    over = Loaded(finished("a", 9.0, parent=Address(1, "p", 1)), [entry("a", 1)])
    chunk = Chunk("a", "said", 0, 1, 0, 5.0, "1")
    tree = Histories([History(over, chunks=[chunk]), History(row("a/1"))], [Signal(1, "a", "go")])
    calls, messages = coming(tree, id_="b")
    assert list(calls) == ["b"]
    assert calls["b"].invocation.parent is None
    assert [each.id for each in (*calls["b"].entries, *calls["b"].chunks)] == ["b", "b"]
    assert not messages
    assert list(coming(tree, id_="a")[0]) == ["a/1", "a"]
