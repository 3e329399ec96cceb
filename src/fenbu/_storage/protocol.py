"""The Storage protocol: all that a node or a client asks of a database.

The one write of a node is `commit`; the one write of a client is `enqueue`. Every method is safe to call
again. Errors are those of `fenbu.errors`; a driver's own error never leaves its folder.
Absent: anything about user code, handlers' types or asyncio tasks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from fenbu._core.batch import CommitBatch
from fenbu._core.message import Message
from fenbu._core.model import EntityField, EntityState, Loaded, Outcome, Payload, Status
from fenbu._core.tree import Walk
from fenbu._storage.expiry import Expiring
from fenbu._storage.stream import StreamCursor, StreamPage

T = TypeVar("T")

UNPLACED: Final = -1
"""The partition of a client's message that knows an id and nothing else."""


ONE_TRANSACTION: Final = (
    "tx_step() needs an app on PostgreSQL: on any other database there is no connection that a function and "
    "its journal could share"
)
"""What a storage says that has no transactional steps."""


class CommitOutcome(Enum):
    """What became of a batch: values, not exceptions, because each of them will happen."""

    COMMITTED = "committed"
    REFUSED = "refused"
    """Nothing was written, for a reason that may pass (database busy, disk full): the same batch may be
    tried again."""
    UNKNOWN = "unknown"
    """It may or may not have been written: memory must be dropped and loaded again."""


class Commit(Struct, frozen=True):
    """The answer to `commit`; `error` says why, in words for a person, unless committed."""

    outcome: CommitOutcome
    error: str | None = None


class Received(Struct, frozen=True):
    """An inbox row. Numbers grow in the order in which one sender's messages were sent."""

    number: int
    message: Message


class InboxPosition(Struct, frozen=True):
    """Up to where an inbox has been read; what is in it is known to the storage that gave it.

    It holds for the partitions that were read, and for as long as this process owns them.
    """


class InboxRead(Struct, frozen=True):
    """The answer to `load_inbox`."""

    found: list[Received]
    position: InboxPosition
    """Where the next read goes on."""
    complete: bool
    """Everything has been read that was there when the first of these reads began."""


class Open(Struct, frozen=True):
    """A call that has not ended."""

    status: Status
    partition: int
    """Where it is now: as a rule, but not always, where its id places it."""


class NodeInfo(Struct, frozen=True):
    """A live node."""

    id: int
    """Not used again when the node is gone."""
    name: str
    host: str
    pid: int
    started_at: float
    partitions: tuple[int, ...]
    """Those that it owns, in order."""
    leaving: bool = False
    """It is about to stop: the others should take what it gives up."""
    load: int = 0
    """How many calls wait for a free place there; below 0, how many places are free."""
    code: str = ""
    """A digest of the handlers that it has: nodes share calls with those that have the same."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Beat(Struct, frozen=True):
    """What a node hears about once a second."""

    node: int
    """Its own id."""
    nodes: list[NodeInfo]
    """The live ones, first come first."""
    has_messages: bool = False
    """Something is in the inbox that has not been read. Where nothing but hints would tell, this does."""
    has_unhandled: bool = False
    """Calls wait somewhere for a node that has their handler."""

    @property
    def mine(self) -> NodeInfo | None:
        """What the database says of the node itself; None if it does not know it any more."""
        return next((each for each in self.nodes if each.id == self.node), None)


ASYNCPG: Final = "asyncpg"
SQLALCHEMY_SESSION: Final = "sqlalchemy session"
SQLALCHEMY_CONNECTION: Final = "sqlalchemy connection"
"""The kinds of connection that a transactional step can be given."""


class StepKey(Struct, frozen=True):
    """One transactional step of a call."""

    partition: int
    id: str
    run: str
    command: int


class Meta(Struct, frozen=True):
    """What is fixed when the database is created."""

    partition_count: int
    cluster: str
    """A random id of this database's fenbu, hex."""


class Ownership(Protocol):
    """Who runs which partitions. A lock that ends with its holder's session decides, never a clock.

    Guarantee: no-split-brain. A partition has one owner at a time, and only its owner commits for it.
    """

    async def join(self, name: str, now: float, code: str = "") -> None:
        """Become a node, under a name that no other has, with a digest of its handlers.

        Does nothing if this is one already. If a session of a node with this name is left, it is ended, as
        far as that is possible: its node has lost it, or would not join.

        Raises:
            OwnershipLost: The database allows one node, and another process is it; the message names it.
            Unavailable: It cannot be reached.
            UnsupportedDatabase: What lies between here and the database keeps no session.
        """
        ...

    async def nodes(self) -> list[NodeInfo]:
        """The live nodes, first come first. Anybody may ask."""
        ...

    async def beat(self, read: InboxPosition | None = None, load: int = 0) -> Beat:
        """What `nodes` says, asked by a node through the session that holds its locks, about once a second.

        `read` is up to where it has read its inbox, and `load` what it has to say of itself.

        Raises:
            OwnershipLost: That session has ended, and with it every ownership; see `commit`.
            Unavailable: There was no answer; whether the session has ended is not known yet.
        """
        ...

    async def retire(self) -> None:
        """From now on this node is seen as leaving. What it owns it still has to release.

        Raises:
            OwnershipLost: This process is not a node, or is none any more.
        """
        ...

    async def take(self, numbers: Sequence[int]) -> list[int]:
        """Become the owner of those of these partitions that have none; in order, all that are owned now.

        Raises:
            OwnershipLost: This process is not a node, or is none any more.
        """
        ...

    async def release(self, numbers: Sequence[int]) -> None:
        """Give these partitions up. Those that are not owned are passed over."""
        ...


class Streams(Protocol):
    """The chunks of streams, which `commit` writes: those of calls, and the logs of topics."""

    async def load_chunks(self, cursors: Sequence[StreamCursor], *, limit: int) -> list[StreamPage]:
        """For each cursor what comes after it, at most `limit` chunks in order of their numbers.

        Numbers of one call are given out in the order in which transactions commit, because one node at a
        time owns the call and writes through one session. So nothing appears later below a number that was
        seen. A call whose message is still in the inbox is PENDING.
        """
        ...

    async def last_chunk(self, id: str, stream: str, before: float | None = None) -> int:  # noqa: A002
        """The number of the last chunk of a stream, of those written before `before`; 0 without any.

        Reading on after it gives what came later, and all that was written from that instant on.
        """
        ...

    async def delete_chunks(self, id: str, stream: str, before: float, *, limit: int) -> int:  # noqa: A002
        """Delete up to `limit` chunks from the beginning of a stream that were written before `before`.

        Returns how many.
        """
        ...


class Entities(Expiring, Protocol):
    """The states of entities and their lazy fields, which `commit` writes."""

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        """The states of these (entity, key) pairs; unknown ones are left out."""
        ...

    async def load_fields(self, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
        """The lazy fields at these (entity, key, name); those without a row are left out."""
        ...


class Moves(Protocol):
    """Calls that leave for another database, and calls that come from one."""

    async def enqueue_new(self, messages: Sequence[Message]) -> list[str]:
        """Like `enqueue`, but only if none of the calls that the messages make exists, as a row or a message.

        For calls that come from elsewhere. Two of these at once are one after the other. Returns the ids of
        those that exist, in order: then nothing was written.

        Raises:
            Unavailable: It was not written, or, after an I/O error, perhaps not: doing it again tells.
        """
        ...

    async def snapshot(self, walk: Walk[T]) -> T:
        """Answer what a walk asks, all of it as it is in one moment; what the walk has found.

        Raises:
            Unavailable: The database cannot be reached. The walk cannot be used again.
        """
        ...


class Storage(Ownership, Streams, Entities, Moves, Protocol):
    """A database that holds calls, journals, entities and inboxes.

    `now` is always an argument: no statement reads a clock.
    """

    listener: str
    """The name under which `hint` reaches this process."""

    async def open(self, *, create: bool = True) -> Meta:
        """Connect and bring the tables up to date.

        Raises:
            Unavailable: It cannot be reached, or is locked for too long.
            UnsupportedDatabase: It is not a database, is damaged, or cannot be written.
            SchemaMismatch: A newer fenbu wrote it.
            UsageError: It does not exist and `create` is false.
        """
        ...

    async def close(self) -> None:
        """Release what is owned and disconnect. Does nothing the second time."""
        ...

    async def commit(self, batch: CommitBatch) -> Commit:
        """Write a batch in one durable transaction.

        Everything needed from `batch` is copied before the first suspension, so the caller may change
        the objects in it as soon as this coroutine has begun to wait. A batch that was refused and is
        given again is written as it was the first time: what has happened to its calls since then
        belongs to the next batch. A caller that is cancelled does not stop the commit.

        Of a call that is in `updated` twice the last counts; one that is in no row is passed over; what
        an update writes are the fields that change after acceptance (from `sequence` on, and not
        `parent` and `chain`). What `rewritten` replaces goes before everything else. Of a call in `deleted`
        nothing that the batch says elsewhere is written.

        What `inbox` holds for partitions of others is made known to their owners by a hint. An empty batch
        that is committed proves that this process is still a node.

        Chunks get their numbers in the order in which they stand in the batch, above all that were written
        for their call before. One that is there already, by where it comes from, stays as it is.

        Raises:
            InternalError: A call or an entry is inserted that exists already. Nothing was written.
            OwnershipLost: This process is no node any more: the session that held its locks has ended.
                Nothing was written, and other nodes may own its partitions: what is in memory is void.
            UnsupportedDatabase: The database is damaged, or cannot be written any more.
        """
        ...

    async def run_step(
        self, step: StepKey, kind: str, work: Callable[[Any], Awaitable[Payload]]
    ) -> Payload:
        """Do work with a connection of a kind, in one transaction with its result: once.

        If the result is there already, it is returned and nothing is done. It stays until a batch with
        `step_results_deleted` has the journal entry in its place. The transaction is fenced: it does not
        commit when the partition has another owner by then. A connection that breaks, also in the middle
        of the commit, is tried again; a node that is none any more gets no answer.

        Guarantee: transaction-once.

        Raises:
            UsageError: This database, or this kind, cannot do it; or the work has ended the transaction.
            Exception: What the work raised. Nothing of it was written.
        """
        ...

    async def load_ready(self, cursors: Mapping[int, int], *, limit: int) -> list[Loaded]:
        """Open calls to act upon now: PENDING or RUNNING with `wake_at` null.

        Those of each partition in `cursors` with a sequence above the cursor, in order of (partition,
        sequence), at most `limit` a partition.
        """
        ...

    async def load_operations(
        self, entity: str, key: str, *, after: int, limit: int
    ) -> list[Loaded]:
        """Like `load_ready`, for the operations on one entity with a sequence above `after`."""
        ...

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        """The calls with these ids, open or finished; unknown ids are left out."""
        ...

    async def load_due(self, partitions: Sequence[int], now: float, *, limit: int) -> list[Loaded]:
        """Open calls whose `wake_at` is not after `now`, earliest first; without those that are parked."""
        ...

    async def next_due(self, partitions: Sequence[int]) -> float | None:
        """The earliest `wake_at` of an open call in these partitions that is not parked."""
        ...

    async def last_sequences(self, partitions: Sequence[int]) -> dict[int, int]:
        """The highest sequence of an open call for each of these partitions that has open calls."""
        ...

    async def revive(self, handlers: Sequence[str], partitions: Sequence[int]) -> int:
        """Let calls of these partitions that are UNHANDLED or STUCK, of these handlers, go on.

        For a node that has taken them.

        They become PENDING if they have not started, else RUNNING, without `waiting` and `failure`; a
        `wake_at` stays. Those that were UNHANDLED come behind all others of their partition, in the order
        in which they were. Returns how many.
        """
        ...

    async def find_unhandled(
        self, handlers: Sequence[tuple[str, int]], besides: Sequence[int], *, limit: int
    ) -> list[tuple[str, int]]:
        """Ids and partitions of UNHANDLED calls of these handlers and versions, in other partitions.

        Not those of operations, which stay where their entity is. For a node that has the handlers.
        """
        ...

    async def load_inbox(
        self,
        partitions: Sequence[int],
        after: InboxPosition | None,
        *,
        limit: int,
        until: InboxPosition | None = None,
    ) -> InboxRead:
        """At most `limit` messages for these partitions that came after a position, None being the beginning.

        Nothing is read twice, and nothing is left out because it was written early and committed late.
        Those of one sender for one partition come in the order in which it sent them.

        Partitions that are taken while others have been read for long are first read by themselves, from
        the beginning `until` the position of the others. When that is complete all have the same position.
        """
        ...

    async def enqueue(self, messages: Sequence[Message]) -> None:
        """Put a client's messages into the inbox, durably, in order, all or none.

        A Subscribe, Signal, Cancel, Retry or Pause whose partition is UNPLACED goes to where its call was
        accepted (see `home_of`), or will be once the message that starts it is applied.

        Raises:
            CallNotFound: There is no call with the id of such a message.
            Unavailable: It was not written, or, after an I/O error, perhaps not.
        """
        ...

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        """For each known id its outcome, if it has one.

        A call whose message is still in the inbox is PENDING.
        """
        ...

    def hint(
        self,
        partitions: Collection[int] = (),
        clients: Collection[str] = (),
        nodes: Collection[int] = (),
    ) -> None:
        """Tell the owners of partitions, the clients who are listeners of names, and nodes by id, to look.

        Raises nothing, also when closed: a hint may be late, be lost, or come for nothing. `enqueue` and
        `commit` give their own.
        """
        ...

    async def wait_for_change(self, seconds: float) -> bool:
        """Wait until another process may have changed the database, at most `seconds`: true if so.

        For a node that means its inbox, for a client the outcome of a call. A hint only: it may say true
        for nothing, and it does from time to time, so that looking when it does is enough. What changes
        between two waits ends the second one at once. One task at a time waits.
        """
        ...

    async def delete_finished(self, handler: str, before: float, *, limit: int) -> int:
        """Delete up to `limit` finished calls of a handler that ended before `before`, and all of theirs.

        Chunks go first, a bounded number at a time, and a call that has none left after them. Returns how
        many calls are gone, or `limit` if there are chunks left to delete.
        """
        ...


__all__ = [
    "ASYNCPG",
    "ONE_TRANSACTION",
    "SQLALCHEMY_CONNECTION",
    "SQLALCHEMY_SESSION",
    "UNPLACED",
    "Beat",
    "Commit",
    "CommitBatch",
    "CommitOutcome",
    "InboxPosition",
    "InboxRead",
    "Loaded",
    "Meta",
    "Moves",
    "NodeInfo",
    "Open",
    "Ownership",
    "Received",
    "StepKey",
    "Storage",
]
