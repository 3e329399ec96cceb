"""The verified fake: a Storage and Observer in memory, with the same semantics as a real database.

A `MemoryDatabase` is the disk: it outlives the storages that are opened on it, one for each node or client,
which is how a simulation crashes a node and starts another.
Absent: durability, threads, and speed with millions of calls; reads of open calls look at all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from fenbu._core.batch import CommitBatch
from fenbu._core.ids import home_of
from fenbu._core.message import (
    Adopt,
    Cancel,
    Making,
    Message,
    Pause,
    Retry,
    Signal,
    Subscribe,
    Update,
    decode,
    encode,
)
from fenbu._core.model import (
    FINISHED,
    PARKED,
    Chunk,
    EntityField,
    EntityState,
    Invocation,
    Loaded,
    Outcome,
    Payload,
    Status,
)
from fenbu._storage.memory.database import ENCODER, MemoryDatabase
from fenbu._storage.memory.tree import Moves
from fenbu._storage.position import number_of, read_of
from fenbu._storage.protocol import (
    ONE_TRANSACTION,
    UNPLACED,
    Commit,
    CommitOutcome,
    InboxPosition,
    InboxRead,
    Meta,
    Open,
    Received,
    StepKey,
)
from fenbu._storage.resolve import resolve
from fenbu.errors import CallNotFound, InternalError, OwnershipLost, Unavailable, UsageError

CHANGING: Final = frozenset(
    {
        "partition",
        "sequence",
        "waiters",
        "deadline_at",
        "status",
        "attempt",
        "crashes",
        "started_at",
        "finished_at",
        "wake_at",
        "waiting",
        "cancel_reason",
        "commands",
        "result",
        "failure",
        "heartbeats",
        "attributes",
    }
)
"""What an update writes; the rest of a row is as it was inserted."""

_RUNNABLE: Final = frozenset({Status.PENDING, Status.RUNNING})

_fields = msgspec.msgpack.Decoder(dict[str, Any])


class _Rows(NamedTuple):
    """A copy of a batch."""

    inserted: list[tuple[str, bytes]]
    updated: dict[str, bytes]
    deleted: list[str]
    entries: list[tuple[str, int, bytes]]
    rewritten: dict[str, bytes]
    entities: list[EntityState]
    entities_deleted: list[tuple[str, str]]
    fields: list[EntityField]
    fields_deleted: list[tuple[str, str, str]]
    inbox: list[Payload]
    inbox_deleted: list[int]
    chunks: list[Chunk]
    chunks_deleted: list[str]
    step_results_deleted: list[tuple[str, str, int]]
    places: dict[str, int | None]
    """The partitions of calls that are written; None for one that is given away."""

    @classmethod
    def of(cls, batch: CommitBatch) -> _Rows:
        """Encode what can change, copy the rest."""
        batch = resolve(batch)
        given = {each.id for each in batch.inbox if isinstance(each, Adopt)}
        return cls(
            [(each.id, ENCODER.encode(each)) for each in batch.inserted],
            {each.id: ENCODER.encode(each) for each in batch.updated},
            list(batch.deleted),
            [(each.id, each.position, ENCODER.encode(each)) for each in batch.entries],
            {each.id: ENCODER.encode(each) for each in batch.rewritten},
            list(batch.entities),
            list(batch.entities_deleted),
            list(batch.fields),
            list(batch.fields_deleted),
            [encode(each) for each in batch.inbox],
            list(batch.inbox_deleted),
            list(batch.chunks),
            list(batch.chunks_deleted),
            list(batch.step_results_deleted),
            {
                each.id: None if each.id in given else each.partition
                for each in (*batch.inserted, *batch.updated, *batch.rewritten)
            },
        )


class MemoryStorage(Moves):
    """A node's or client's connection to a MemoryDatabase; a new database if none is given."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__(database if database is not None else MemoryDatabase())
        self.listener = f"memory-{id(self):x}"
        self.refusal: str | None = None
        """Set it, and commits are refused with this text, as by a full disk."""
        self._refused: tuple[CommitBatch, _Rows] | None = None
        self.taken = {}
        self._open = False
        self._news = False
        self._joined = False
        self._waiting: asyncio.Future[None] | None = None

    def notice(self) -> None:
        """Somebody else has changed the database."""
        self._news = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _database(self) -> MemoryDatabase:
        """Suspend, as a real database would, then answer."""
        await asyncio.sleep(0)
        if not self._open:
            raise Unavailable("the storage is not open")
        return self.database

    async def join(self, name: str, now: float, code: str = "") -> None:
        await super().join(name, now, code)
        self._joined = True

    async def open(self, *, create: bool = True) -> Meta:
        del create
        await asyncio.sleep(0)
        self._open = True
        self.database.storages[self] = None
        return self.database.meta

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._open = False
        self.database.storages.pop(self, None)
        self.lose_session()

    async def commit(self, batch: CommitBatch) -> Commit:
        refused, self._refused = self._refused, None
        rows = refused[1] if refused and refused[0] is batch else _Rows.of(batch)
        database = await self._database()
        if self.refusal is not None:
            self._refused = (batch, rows)
            return Commit(CommitOutcome.REFUSED, self.refusal)
        self._check_owned(rows)
        self._check_new(rows)
        self._write(rows)
        database.changed(self)
        return Commit(CommitOutcome.COMMITTED)

    def _write(self, rows: _Rows) -> None:
        database = self.database
        for each in rows.chunks_deleted:
            database.chunks.pop(each, None)
            database.chunk_sources.pop(each, None)
        for each, row in rows.rewritten.items():
            database.journals.pop(each, None)
            database.write_row(row)
        for _, row in rows.inserted:
            database.write_row(row)
        for each, row in rows.updated.items():
            self._update(each, row)
        for each, position, row in rows.entries:
            database.journals.setdefault(each, {})[position] = row
        for each in rows.deleted:
            database.rows.pop(each, None)
            database.invocations.pop(each, None)
            database.journals.pop(each, None)
        for name in rows.entities_deleted:
            database.entities.pop(name, None)
        for state in rows.entities:
            self._write_entity(state)
        for place in rows.fields_deleted:
            database.fields.pop(place, None)
        for each in rows.fields:
            database.fields[each.entity, each.key, each.name] = each
        for number in rows.inbox_deleted:
            database.inbox.pop(number, None)
            database.calls.pop(number, None)
        for step in rows.step_results_deleted:
            database.step_results.pop(step, None)
        database.put(rows.inbox)
        database.append(rows.chunks)

    def _check_owned(self, rows: _Rows) -> None:
        """A node that is none any more commits nothing, and nobody what belongs to another node."""
        if self._joined and self not in self.database.nodes:
            raise OwnershipLost("the session of this node has ended")
        for id_, place in rows.places.items():
            before = self.database.invocations.get(id_)
            # Whoever owns a call may give it to another partition, also when it has just been accepted.
            partition = place if before is None else before.partition
            owner = None if partition is None else self.database.owner_of(partition)
            if owner not in (None, self):
                raise AssertionError(f"split brain: {id_} of partition {partition}")
        if any(each in self.database.chunks for each in rows.deleted):
            raise AssertionError(f"a call that has chunks is forgotten at once: {rows.deleted}")

    def _check_new(self, rows: _Rows) -> None:
        """All or none: find a contradiction before anything is written."""
        database = self.database
        names = [id_ for id_, _ in rows.inserted]
        if len(set(names)) < len(names) or not database.rows.keys().isdisjoint(names):
            raise InternalError("a batch inserts a call whose id exists already")
        places = [(id_, position) for id_, position, _ in rows.entries]
        present = any(
            position in database.journals.get(id_, {})
            for id_, position in places
            if id_ not in rows.rewritten
        )
        if len(set(places)) < len(places) or present:
            raise InternalError("a batch writes a journal entry that exists already")

    def _update(self, id_: str, row: bytes) -> None:
        stored = self.database.rows.get(id_)
        if stored is not None:
            # A field that has its default is in neither of them.
            kept = {
                name: each for name, each in _fields.decode(stored).items() if name not in CHANGING
            }
            changed = _fields.decode(row).items()
            kept |= {name: each for name, each in changed if name in CHANGING}
            self.database.write_row(ENCODER.encode(kept))

    def _write_entity(self, state: EntityState) -> None:
        name = (state.entity, state.key)
        old = self.database.entities.get(name)
        if old is not None:
            state = msgspec.structs.replace(state, partition=old.partition)
        self.database.entities[name] = state

    async def run_step(
        self, step: StepKey, kind: str, work: Callable[[Any], Awaitable[Payload]]
    ) -> Payload:
        del step, kind, work
        raise UsageError(ONE_TRANSACTION)

    async def load_ready(self, cursors: Mapping[int, int], *, limit: int) -> list[Loaded]:
        cursors = dict(cursors)
        database = await self._database()
        ready = sorted(
            (
                each
                for each in database.open_calls()
                if each.status in _RUNNABLE
                and each.wake_at is None
                and each.sequence > cursors.get(each.partition, each.sequence)
            ),
            key=lambda each: (each.partition, each.sequence),
        )
        found: list[Invocation] = []
        count: dict[int, int] = {}
        for each in ready:
            count[each.partition] = count.get(each.partition, 0) + 1
            if count[each.partition] <= limit:
                found.append(each)
        return database.load(found)

    async def load_operations(
        self, entity: str, key: str, *, after: int, limit: int
    ) -> list[Loaded]:
        database = await self._database()
        found = [
            each
            for each in database.open_calls()
            if (each.entity, each.key) == (entity, key)
            and each.sequence > after
            and each.status in _RUNNABLE
            and each.wake_at is None
        ]
        found.sort(key=lambda each: each.sequence)
        return database.load(found[:limit])

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        wanted = set(ids)
        database = await self._database()
        return database.load(
            database.invocations[each] for each in sorted(wanted) if each in database.invocations
        )

    def _asleep(self, partitions: Iterable[int]) -> list[tuple[float, str]]:
        wanted = set(partitions)
        return sorted(
            (each.wake_at, each.id)
            for each in self.database.open_calls()
            if each.wake_at is not None and each.status not in PARKED and each.partition in wanted
        )

    async def load_due(self, partitions: Sequence[int], now: float, *, limit: int) -> list[Loaded]:
        partitions = list(partitions)
        database = await self._database()
        due = [id_ for at, id_ in self._asleep(partitions) if at <= now]
        return database.load(database.invocations[each] for each in due[:limit])

    async def next_due(self, partitions: Sequence[int]) -> float | None:
        partitions = list(partitions)
        await self._database()
        asleep = self._asleep(partitions)
        return asleep[0][0] if asleep else None

    async def last_sequences(self, partitions: Sequence[int]) -> dict[int, int]:
        return _last_sequences(await self._database(), set(partitions))

    async def revive(self, handlers: Sequence[str], partitions: Sequence[int]) -> int:
        wanted, places = set(handlers), set(partitions)
        database = await self._database()
        last = _last_sequences(database, places)
        found = [
            each
            for each in database.open_calls()
            if each.status in {Status.UNHANDLED, Status.STUCK}
            and each.handler in wanted
            and each.partition in places
        ]
        for each in sorted(found, key=lambda each: each.sequence):
            call = database.copy(each.id)
            if call.status is Status.UNHANDLED:
                # It has lost its place to those behind it, which may have begun.
                call.sequence = last[call.partition] = last[call.partition] + 1
            call.status = Status.PENDING if call.started_at is None else Status.RUNNING
            call.waiting = call.failure = None
            database.write_row(ENCODER.encode(call))
        database.changed(self)
        return len(found)

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        wanted = sorted(set(keys))
        database = await self._database()
        return [database.entities[each] for each in wanted if each in database.entities]

    async def load_inbox(
        self,
        partitions: Sequence[int],
        after: InboxPosition | None,
        *,
        limit: int,
        until: InboxPosition | None = None,
    ) -> InboxRead:
        wanted = set(partitions)
        database = await self._database()
        first = number_of(after)
        last = database.last_number if until is None else number_of(until)
        found = [
            (number, message)
            for number, text in sorted(database.inbox.items())
            if first < number <= last and (message := decode(text)).partition in wanted
        ]
        return read_of(
            [Received(*each) for each in found[:limit]], complete=len(found) <= limit, last=last
        )

    async def enqueue(self, messages: Sequence[Message]) -> None:
        messages = list(messages)
        database = await self._database()
        database.put([encode(each) for each in self._placed(messages)])
        database.changed(self)

    def _placed(self, messages: list[Message]) -> list[Message]:
        database = self.database
        found = {
            each.invocation.id: each.partition
            for each in (*messages, *database.calls.values())
            if isinstance(each, Making)
        }
        placed: list[Message] = []
        for each in messages:
            if (
                isinstance(each, Subscribe | Update | Signal | Cancel | Retry | Pause)
                and each.partition == UNPLACED
            ):
                row, partition = database.invocations.get(each.id), found.get(each.id)
                if row is not None:
                    count = database.meta.partition_count
                    is_there = row.entity is not None
                    partition = row.partition if is_there else home_of(row.id, None, None, count)
                if partition is None:
                    raise CallNotFound(f"no call has the id {each.id!r}, or its retention is over")
                placed.append(msgspec.structs.replace(each, partition=partition))
            else:
                placed.append(each)
        return placed

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        wanted = list(ids)
        database = await self._database()
        accepted: dict[str, int] = {}
        for call in database.calls.values():
            if isinstance(call, Making):
                accepted.setdefault(call.invocation.id, call.partition)
        found: dict[str, Outcome | Open] = {}
        for each in wanted:
            row = database.invocations.get(each)
            if row is None:
                if each in accepted:
                    found[each] = Open(Status.PENDING, accepted[each])
            elif row.status in FINISHED:
                found[each] = Outcome(row.status, row.result, row.failure)
            else:
                found[each] = Open(row.status, row.partition)
        return found

    def hint(
        self,
        partitions: Collection[int] = (),
        clients: Collection[str] = (),
        nodes: Collection[int] = (),
    ) -> None:
        """Nothing to do: whoever is open on the database notices what is written."""

    async def wait_for_change(self, seconds: float) -> bool:
        await self._database()
        if not self._news:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(seconds):
                    await self._waiting
            except TimeoutError:
                return False
            finally:
                self._waiting = None
        self._news = False
        return True

    async def delete_finished(self, handler: str, before: float, *, limit: int) -> int:
        database = await self._database()
        expired = sorted(
            (each.finished_at, each.id)
            for each in database.invocations.values()
            if each.handler == handler
            and each.finished_at is not None
            and each.finished_at < before
        )[:limit]
        for _, each in expired:
            del database.rows[each], database.invocations[each]
            database.journals.pop(each, None)
            database.chunks.pop(each, None)
            database.chunk_sources.pop(each, None)
        # Of steps that were given up in the middle of their commit.
        for key in [each for each in database.step_results if each[0] not in database.invocations]:
            del database.step_results[key]
        return len(expired)


def _last_sequences(database: MemoryDatabase, partitions: Collection[int]) -> dict[int, int]:
    last: dict[int, int] = {}
    for each in database.open_calls():
        if each.partition in partitions:
            last[each.partition] = max(each.sequence, last.get(each.partition, each.sequence))
    return last
