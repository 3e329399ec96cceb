"""Any storage ≡ memory: the same random batches give the same answers to every read."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from fenbu._core.message import Call, Cancel, Message, Reply, Retry, Signal, Subscribe
from fenbu._core.model import (
    FINISHED,
    Address,
    Chunk,
    EntityState,
    Entry,
    EntryKind,
    Failure,
    Invocation,
    Outcome,
    Status,
)
from fenbu._core.pause import NEVER_SECONDS
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.observer import CallFilter
from fenbu._storage.open import Database
from fenbu._storage.postgres.storage import PostgresStorage
from fenbu._storage.protocol import UNPLACED, CommitBatch, CommitOutcome
from fenbu._storage.sqlite.storage import SQLiteStorage
from fenbu._storage.stream import StreamCursor
from fenbu.errors import CallNotFound, InternalError
from tests.fixture.loop import Runner
from tests.fixture.postgres import new_url
from tests.fixture.row import own
from tests.fixture.storage import SimulatedDisk, calls_with_large_args

IDS = ["a", "b", "c", "a/1", "a/2", "a/1/1", "a~1/1", "b/1", "ü", "7"]
PARTITIONS = [0, 1, 255]
HANDLERS = ["checkout", "Stock.reserve"]
WRITERS = ["ü", "7"]
"""Calls that have streams: no node forgets one of them in a batch."""

ids = st.sampled_from(IDS)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
payloads = text | st.binary(max_size=8)
large = st.sampled_from(["語" * 9_000, b"\xff" * 9_000])
"""What SQLite keeps apart from the rows of open calls."""
instants = st.floats(0, 100, allow_nan=False) | st.sampled_from(
    [1.0, 2.0, 50.5, 1_700_000_000.123_457]
)
addresses = st.builds(Address, st.sampled_from(PARTITIONS), ids, st.integers(0, 5))
failures = st.builds(Failure, text, text, text, st.none() | text, st.none() | text)
statuses = st.sampled_from(list(Status))
keys = st.tuples(st.sampled_from(["Stock", "Cart"]), st.sampled_from(["1", "2", "é"]))


@st.composite
def invocations(draw: st.DrawFn, sequence: int) -> Invocation:
    """A row as the engine writes it: finished calls have an end, open ones have none."""
    status = draw(statuses)
    entity, key = draw(keys | st.just((None, None)))
    return Invocation(
        id=draw(ids),
        partition=draw(st.sampled_from(PARTITIONS)),
        handler=draw(st.sampled_from(HANDLERS)),
        version=draw(st.integers(1, 3)),
        entity=entity,
        key=key,
        args=draw(payloads | large),
        created_at=draw(instants),
        sequence=sequence,
        parent=draw(st.none() | addresses),
        waiters=draw(st.lists(addresses, max_size=2).map(tuple)),
        chain=draw(st.lists(text, max_size=2).map(tuple)),
        deadline_at=draw(st.none() | instants),
        status=status,
        attempt=draw(st.integers(0, 2)),
        crashes=draw(st.integers(0, 2)),
        started_at=draw(st.none() | instants),
        finished_at=draw(instants) if status in FINISHED else None,
        # What is paused has an instant that never comes, see pause.py.
        wake_at=NEVER_SECONDS + draw(instants)
        if status is Status.PAUSED
        else draw(st.none() | instants),
        waiting=draw(st.none() | text),
        cancel_reason=draw(st.none() | text),
        commands=draw(st.none() | text),
        result=draw(st.none() | payloads),
        failure=draw(st.none() | failures),
    )


entries = st.builds(
    Entry,
    ids,
    st.integers(0, 3),
    st.sampled_from(list(EntryKind)),
    instants,
    st.integers(0, 3),
    st.none() | text,
    st.integers(0, 3),
    st.none() | instants,
    st.none() | statuses,
    st.none() | payloads,
    st.none() | failures,
    st.none() | instants,
    st.none() | text,
)
entities = st.builds(
    lambda name, partition, state, version, at: EntityState(*name, partition, state, version, at),
    keys, st.sampled_from(PARTITIONS), payloads, st.integers(1, 3), instants,
)  # fmt: skip
chunks = st.builds(
    Chunk, st.sampled_from(WRITERS), st.sampled_from(["log", "é"]), st.integers(0, 1), st.integers(0, 1),
    st.integers(0, 3), instants, st.none() | payloads, st.booleans(),
)  # fmt: skip
places = st.sampled_from([*PARTITIONS, UNPLACED])
messages = st.one_of(
    st.builds(Call, invocations(sequence=0), st.booleans(), st.booleans()),
    st.builds(
        Reply, addresses, st.builds(Outcome, statuses, st.none() | payloads, st.none() | failures)
    ),
    st.builds(Subscribe, places, ids, addresses),
    st.builds(Signal, places, ids, text, payloads),
    st.builds(Cancel, places, ids, text),
    st.builds(Retry, places, ids),
)
placed = messages.filter(lambda each: each.partition != UNPLACED)


class StorageMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = self.loop()
        self.folder = Path(tempfile.mkdtemp())
        self.storages: list[Database] = [MemoryStorage(), self.other()]
        self.sequence = 0
        self.inboxes: list[list[int]] = [[], []]
        """The numbers of the messages in the inbox of each, in the same order."""
        for each in self.storages:
            self.runner.run(each.open())
            self.runner.run(own(each))

    def loop(self) -> Runner:
        return asyncio.Runner()

    def other(self) -> Database:
        return SQLiteStorage(self.folder / "fenbu.db")

    def teardown(self) -> None:
        for each in self.storages:
            self.runner.run(each.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def read_inbox(self, partitions: list[int]) -> None:
        """The same messages in the same order; what numbers they have is each storage's own affair."""
        answers: list[list[Message]] = []
        for number, each in enumerate(self.storages):
            read = self.runner.run(each.load_inbox(partitions, None, limit=99))
            answers.append([received.message for received in read.found])
            self.inboxes[number] = [received.number for received in read.found]
        assert answers[0] == answers[1], "load_inbox"

    def read_streams(self, most: int) -> None:
        """The same values in the same order, in pages; their numbers are each storage's own affair."""
        answers: list[Any] = []
        names = [(id_, name) for id_ in (*WRITERS, "unknown") for name in ("log", "é")]
        for each in self.storages:
            after, seen = dict.fromkeys(names, 0), list[Any]()
            for _ in range(3):
                cursors = [StreamCursor(*name, number) for name, number in after.items()]
                pages = self.runner.run(each.load_chunks(cursors, limit=most))
                for name, page in zip(names, pages, strict=True):
                    numbers = [after[name], *(chunk.number for chunk in page.chunks)]
                    assert numbers == sorted(set(numbers))
                    after[name] = numbers[-1]
                seen += [
                    replace(page, chunks=[replace(c, number=0) for c in page.chunks])
                    for page in pages
                ]
            answers.append(seen)
        assert answers[0] == answers[1], "load_chunks"

    def both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Ask both; they must agree, also on errors."""
        answers: list[Any] = []
        for each in self.storages:
            try:
                answers.append(self.runner.run(getattr(each, method)(*args, **kwargs)))
            except (CallNotFound, InternalError) as error:
                answers.append(type(error))
        memory, other = (
            sorted(map(repr, each)) if method in UNORDERED else each for each in answers
        )
        assert memory == other, method
        return answers[0]

    def numbered(self, data: st.DataObject, count: int) -> list[Invocation]:
        """New rows, each with a sequence that no row had before."""
        rows: list[Invocation] = []
        for _ in range(count):
            self.sequence += 1
            rows.append(data.draw(invocations(self.sequence)))
        return rows

    @rule(
        data=st.data(),
        sizes=st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 1)),
        deleted=st.lists(ids.filter(lambda each: each not in WRITERS), max_size=1),
        streamed=st.lists(chunks, max_size=4),
        written=st.lists(entries, max_size=4),
        states=st.lists(entities, max_size=2, unique_by=lambda each: (each.entity, each.key)),
        states_deleted=st.lists(keys, max_size=1),
        inbox=st.lists(placed, max_size=3),
        inbox_deleted=st.lists(st.integers(0, 9), max_size=2, unique=True),
    )
    def commit(
        self, data, sizes, deleted, streamed, written, states, states_deleted, inbox, inbox_deleted
    ):
        named = {(each.entity, each.key) for each in states}
        inserted = self.numbered(data, sizes[0])
        names = {each.id for each in inserted}
        batch = CommitBatch(
            inserted=inserted,
            updated=self.numbered(data, sizes[1]),
            deleted=deleted,
            entries=written,
            rewritten=[each for each in self.numbered(data, sizes[2]) if each.id not in names],
            entities=states,
            entities_deleted=[each for each in states_deleted if each not in named],
            inbox=inbox,
            chunks=streamed,
        )
        if self.commit_both(batch, inbox_deleted) is InternalError:
            # What contradicts is a duplicate; without it, the rest must go through.
            known = {each.id: each for each in batch.inserted}
            exist = {each.invocation.id for each in self.both("load_calls", IDS)}
            batch.inserted = [each for name, each in known.items() if name not in exist]
            batch.entries = []
            assert self.commit_both(batch, inbox_deleted).outcome is CommitOutcome.COMMITTED

    def commit_both(self, batch: CommitBatch, inbox_deleted: list[int]) -> Any:
        """`inbox_deleted` counts from the first message that is there."""
        answers: list[Any] = []
        for each, numbers in zip(self.storages, self.inboxes, strict=True):
            batch.inbox_deleted = [numbers[n] for n in inbox_deleted if n < len(numbers)]
            try:
                answers.append(self.runner.run(each.commit(batch)))
            except InternalError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(sent=st.lists(messages, max_size=3))
    def enqueue(self, sent):
        self.both("enqueue", sent)

    @rule(
        handlers=st.lists(st.sampled_from(HANDLERS), max_size=2),
        partitions=st.lists(st.sampled_from(PARTITIONS), unique=True),
    )
    def revive(self, handlers, partitions):
        self.both("revive", handlers, partitions)

    @rule(handler=st.sampled_from(HANDLERS), before=instants, limit=st.integers(1, 3))
    def delete_finished(self, handler, before, limit):
        self.both("delete_finished", handler, before, limit=limit)

    @rule(id_=ids, stream=st.sampled_from(("log", "é")), before=instants, limit=st.integers(1, 3))
    def delete_chunks(self, id_, stream, before, limit):
        self.both("delete_chunks", id_, stream, before, limit=limit)
        # The numbers are each storage's own affair: behind the last one of an instant comes the same.
        answers: list[Any] = []
        for each in self.storages:
            last = self.runner.run(each.last_chunk(id_, stream, before))
            cursor = StreamCursor(id_, stream, last)
            (page,) = self.runner.run(each.load_chunks([cursor], limit=99))
            answers.append([replace(chunk, number=0) for chunk in page.chunks])
        assert answers[0] == answers[1], "last_chunk"

    @rule(
        cursors=st.dictionaries(st.sampled_from(PARTITIONS), st.integers(0, 20)),
        now=instants,
        limit=st.integers(1, 4),
        after=st.integers(0, 30),
        name=keys,
        partitions=st.lists(st.sampled_from(PARTITIONS), unique=True),
        where=st.builds(
            CallFilter,
            statuses=st.none() | st.lists(statuses, max_size=4).map(tuple),
            handler=st.none() | st.sampled_from(HANDLERS),
            created_after=st.none() | instants,
            created_before=st.none() | instants,
            after=st.none() | st.tuples(instants, ids),
            limit=st.integers(1, 9),
        ),
        id_=ids,
    )
    def read_a_part(self, cursors, now, limit, after, name, partitions, where, id_):
        self.both("load_ready", cursors, limit=limit)
        self.both("load_due", partitions, now, limit=limit)
        self.both("next_due", partitions)
        self.read_inbox(partitions)
        self.read_streams(limit)
        self.both("last_sequences", partitions)
        self.both("load_operations", *name, after=after, limit=limit)
        self.both("list_calls", where)
        self.both("list_entities", name[0], limit=limit)
        self.both("children", id_, limit=limit)

    @invariant()
    def everything_is_the_same(self):
        loaded = self.both("load_calls", IDS)
        for each in loaded:
            self.both("children", each.invocation.id, limit=9)
            self.both("operations_before", each.invocation, limit=9)
        self.both("load_ready", dict.fromkeys(PARTITIONS, 0), limit=99)
        self.both("load_due", PARTITIONS, 2e9, limit=99)
        self.both("next_due", PARTITIONS)
        self.both("last_sequences", PARTITIONS)
        self.both(
            "load_entities", [(name, key) for name in ("Stock", "Cart") for key in ("1", "2", "é")]
        )
        self.read_inbox(PARTITIONS)
        self.both("outcomes", [*IDS, "unknown"])
        self.both("list_calls", CallFilter(limit=99))
        self.both("count_calls")
        self.both("list_entities", None, limit=9)
        self.both("inbox_count")
        self.read_streams(99)
        for each in WRITERS:
            self.both("list_streams", each)

    @invariant()
    def nothing_is_left_of_arguments(self):
        path = self.folder / "fenbu.db"
        if path.exists():
            calls_with_large_args(path)


UNORDERED = {"load_calls", "load_entities"}


class PostgresMachine(StorageMachine):
    server = ""

    def other(self) -> Database:
        return PostgresStorage(new_url(self.server))


class SimulatedMachine(StorageMachine):
    def loop(self) -> Runner:
        self.disk = SimulatedDisk()
        return self.disk.loop

    def other(self) -> Database:
        return self.disk.storage()


@pytest.fixture(autouse=True, scope="module")
def _server(postgres):
    PostgresMachine.server = postgres


TestSQLite = StorageMachine.TestCase
TestPostgres = PostgresMachine.TestCase
TestSimulated = SimulatedMachine.TestCase
TestSQLite.settings = TestPostgres.settings = TestSimulated.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
