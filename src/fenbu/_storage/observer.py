"""What is read for people: by the command line and the dashboard, and never to decide anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from fenbu._core.attribute import Condition
from fenbu._core.model import Chunk, EntityField, EntityState, Invocation, Status, Stored
from fenbu._storage.stream import StreamInfo


class CallFilter(Struct, frozen=True, kw_only=True):
    """Which calls to list; None means any."""

    statuses: tuple[Status, ...] | None = None
    handler: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    where: tuple[Condition, ...] = ()
    """Each of them must hold."""
    after: tuple[float, str] | None = None
    """Only what comes after this one in the list: `created_at` and id of the last one of the page before."""
    limit: int = 50


class Lister(Protocol):
    """What `pages_of` asks of a database."""

    async def list_calls(self, where: CallFilter) -> list[Invocation]:
        """Newest first."""
        ...


async def pages_of(database: Lister, where: CallFilter) -> AsyncIterator[list[Invocation]]:
    """All calls that fulfil a condition, so many at a time as it says."""
    while page := await database.list_calls(where):
        yield page
        where = replace(where, after=(page[-1].created_at, page[-1].id))


class Observer(Lister, Protocol):
    """Reads for people: command line and dashboard. Never used to decide anything. One chore: `rewrite`."""

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

    async def list_streams(self, id: str) -> list[StreamInfo]:  # noqa: A002
        """The streams of a call, by name."""
        ...

    async def list_entities(self, entity: str | None, *, limit: int) -> list[EntityState]:
        """Most recently changed first."""
        ...

    async def scan_entities(self, after: tuple[str, str], *, limit: int) -> list[EntityState]:
        """In order of entity and key, those after this one."""
        ...

    async def list_fields(self, entity: str, key: str) -> list[tuple[str, int]]:
        """The lazy fields of an entity that have a row, by name, and how many bytes each is stored in."""
        ...

    async def scan_fields(self, after: tuple[str, str, str], *, limit: int) -> list[EntityField]:
        """Lazy fields in order of entity, key and name, those after this one."""
        ...

    async def scan_chunks(self, after: int, *, limit: int) -> list[Chunk]:
        """Of all calls, in order of their numbers, those above this one."""
        ...

    async def inbox_count(self) -> int:
        """Messages not yet applied."""
        ...

    async def owner(self) -> str | None:
        """The node that runs on this database at this moment, in words; None if none does."""
        ...

    async def rewrite(self, changes: Sequence[tuple[Stored, Stored]]) -> int:
        """Give rows other payloads and texts that mean the same, such as under another key; how many.

        Each is (as it was read, as it is to be), both as the database has them. A row that is not as it was
        read any more is left alone, so it needs no ownership. A row is a transaction of its own: holding one
        lock at a time, it makes no node's batch wait for another.
        """
        ...

    async def check(self) -> list[tuple[str, bool, str]]:
        """Checks for `fenbu doctor`: (what, all right, what was seen and what to change)."""
        ...
