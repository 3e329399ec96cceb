"""The Storage protocol: all that a node or a client asks of a database.

The one write of a node is `commit`; the one write of a client is `enqueue`. Every method is safe to call
again. Errors are those of `fenbu.errors`; a driver's own error never leaves its folder.
Absent: anything about user code, handlers' types or asyncio tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Protocol

from msgspec import Struct

from fenbu._core.batch import CommitBatch
from fenbu._core.message import Message
from fenbu._core.model import EntityState, Invocation, Loaded, Outcome, Status

UNPLACED: Final = -1
"""The partition of a client's message that knows an id and nothing else."""


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


class Meta(Struct, frozen=True):
    """What is fixed when the database is created."""

    partition_count: int
    cluster: str
    """A random id of this database's fenbu, hex."""


class Storage(Protocol):
    """A database that holds calls, journals, entities and inboxes.

    `now` is always an argument: no statement reads a clock.
    """

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

    async def take(self) -> list[int]:
        """Become the owner of partitions and return their numbers.

        Raises:
            OwnershipLost: Another process owns them; the message names it as far as known.
        """
        ...

    async def commit(self, batch: CommitBatch) -> Commit:
        """Write a batch in one durable transaction.

        Everything needed from `batch` is copied before the first suspension, so the caller may change
        the objects in it as soon as this coroutine has begun to wait. A batch that was refused and is
        given again is written as it was the first time: what has happened to its calls since then
        belongs to the next batch. A caller that is cancelled does not stop the commit.

        Of a call that is in `updated` twice the last counts; one that is in no row is passed over; what
        an update writes are the fields that change after acceptance (from `sequence` on, and not
        `parent` and `chain`). `journals_cleared` comes before everything else and `deleted` after
        `inserted`, `updated` and `entries`.

        Raises:
            InternalError: A call or an entry is inserted that exists already. Nothing was written.
            UnsupportedDatabase: The database is damaged, or cannot be written any more.
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

    async def last_sequences(self) -> dict[int, int]:
        """The highest sequence of an open call per partition that has open calls."""
        ...

    async def revive(self, handlers: Sequence[str]) -> int:
        """Let calls that are UNHANDLED or STUCK and whose handler is one of these go on; when a node starts.

        They become PENDING if they have not started, else RUNNING, without `waiting` and `failure`; a
        `wake_at` stays. Returns how many.
        """
        ...

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        """The states of these (entity, key) pairs; unknown ones are left out."""
        ...

    async def load_inbox(self, after: int, *, limit: int) -> list[Received]:
        """Inbox messages with a number above `after`, in order."""
        ...

    async def enqueue(self, messages: Sequence[Message]) -> None:
        """Put a client's messages into the inbox, durably, in order, all or none.

        A Subscribe, Signal, Cancel or Retry whose partition is UNPLACED goes to where its call is, or
        will be once the message that starts it is applied.

        Raises:
            CallNotFound: There is no call with the id of such a message.
            Unavailable: It was not written, or, after an I/O error, perhaps not.
        """
        ...

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Status]:
        """For each known id its outcome, or its status while it is open.

        A call whose message is still in the inbox is PENDING.
        """
        ...

    async def wait_for_change(self, seconds: float) -> bool:
        """Wait until another process may have changed the database, at most `seconds`: true if so.

        A hint only: it may say true for nothing, and the caller looks for itself from time to time. What
        changes between two waits ends the second one at once. One task at a time waits.
        """
        ...

    async def delete_finished(self, handler: str, before: float, *, limit: int) -> int:
        """Delete up to `limit` finished calls of a handler that ended before `before`, with journals."""
        ...


class CallFilter(Struct, frozen=True, kw_only=True):
    """Which calls to list; None means any."""

    statuses: tuple[Status, ...] | None = None
    handler: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    limit: int = 50


class Observer(Protocol):
    """Reads for people: command line and dashboard. Never used to decide anything."""

    async def list_calls(self, where: CallFilter) -> list[Invocation]:
        """Newest first."""
        ...

    async def find_calls(self, beginning: str, *, limit: int) -> list[Invocation]:
        """Calls whose id begins so, in order of id, also those that are still in the inbox.

        Not those with a `/` after the beginning: a call is found by its id, and not by its parent's.
        """
        ...

    async def count_calls(self) -> dict[tuple[str, Status], int]:
        """Calls by handler and status."""
        ...

    async def operations_before(self, invocation: Invocation, *, limit: int) -> list[Invocation]:
        """Open operations on the same entity that were accepted before this one, in order."""
        ...

    async def children(self, id: str, *, limit: int) -> list[Invocation]:  # noqa: A002
        """Calls that a command of this call waits for, or started."""
        ...

    async def list_entities(self, entity: str | None, *, limit: int) -> list[EntityState]:
        """Most recently changed first."""
        ...

    async def inbox_count(self) -> int:
        """Messages not yet applied."""
        ...

    async def owner(self) -> str | None:
        """The node that runs on this database at this moment, in words; None if none does."""
        ...

    async def check(self) -> list[tuple[str, bool, str]]:
        """Checks for `fenbu doctor`: (what, all right, what was seen and what to change)."""
        ...


__all__ = [
    "UNPLACED",
    "CallFilter",
    "Commit",
    "CommitBatch",
    "CommitOutcome",
    "Loaded",
    "Meta",
    "Observer",
    "Received",
    "Storage",
]
