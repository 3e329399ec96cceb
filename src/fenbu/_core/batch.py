"""The batch that is being filled: rows for one transaction, and effects to release once it is durable.

A row that changes twice before the batch is sent is written once: `inserted` and `updated` hold the
invocations themselves, which are turned into rows when the batch is sent. A call that is accepted and
finished within one batch is one row, or none if its handler keeps nothing.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct, field

from fenbu._core.effect import Accepted, Effect, Ended
from fenbu._core.message import Message
from fenbu._core.model import Chunk, EntityField, EntityState, Entry, Invocation, Payload


class CommitBatch(Struct):
    """The rows of one transaction. All of them are written, or none."""

    inserted: list[Invocation] = field(default_factory=list)
    updated: list[Invocation] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    """Ids of calls to forget: row and journal. None of them has chunks."""
    entries: list[Entry] = field(default_factory=list)
    rewritten: list[Invocation] = field(default_factory=list)
    """Calls that begin anew: all of their row, and their old journal goes before `entries` are written."""
    entities: list[EntityState] = field(default_factory=list)
    entities_deleted: list[tuple[str, str]] = field(default_factory=list)
    fields: list[EntityField] = field(default_factory=list)
    fields_deleted: list[tuple[str, str, str]] = field(default_factory=list)
    """Entity, key and name; none of them is in `fields`."""
    inbox: list[Message] = field(default_factory=list)
    inbox_deleted: list[int] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    chunks_deleted: list[str] = field(default_factory=list)
    """Ids of calls in `rewritten` whose chunks go before `chunks` are written."""
    """In the order in which readers see them; those that are there already are passed over."""
    step_results_deleted: list[tuple[str, str, int]] = field(default_factory=list)
    """Id, run and command of transactional steps whose outcome is in `entries`."""

    def is_empty(self) -> bool:
        """Nothing to write."""
        return not (
            self.inserted
            or self.updated
            or self.entries
            or self.entities
            or self.inbox
            or self.inbox_deleted
            or self.deleted
            or self.rewritten
            or self.entities_deleted
            or self.chunks
            or self.fields
            or self.fields_deleted
        )


class Batch:
    """Filled by partitions, emptied by the committer."""

    __slots__ = (
        "dropped",
        "effects",
        "entities",
        "fields",
        "messages",
        "number",
        "rows",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows = CommitBatch()
        self.effects: list[Effect] = []
        self.entities: dict[tuple[str, str], EntityState | None] = {}
        """New states by (entity, key); None for a deleted one. The last of a batch counts."""
        self.fields: dict[tuple[str, str, str], Payload | None] = {}
        """New values of lazy fields by (entity, key, name); None for a deleted one."""
        self.messages: deque[Message] = deque()
        """On their way to a partition of the same node, applied within this batch."""
        self.dropped: set[str] = set()
        """Calls accepted and finished within this batch whose handler keeps nothing."""

    def forget(self, invocation: Invocation, *, chunks: bool = False) -> None:
        """A call begins anew: what this batch has of it is void, and so is what was there before.

        Its `chunks` go, too, if another call takes its place.
        """
        rows, id_ = self.rows, invocation.id
        rows.deleted = [each for each in rows.deleted if each != id_]
        if chunks:
            rows.chunks = [each for each in rows.chunks if each.id != id_]
            rows.chunks_deleted.append(id_)
        rows.entries = [each for each in rows.entries if each.id != id_]
        self.dropped.discard(id_)
        inserted = [each for each in rows.inserted if each.id != id_]
        if len(inserted) == len(rows.inserted):
            rows.rewritten.append(invocation)
        else:
            rows.inserted = [*inserted, invocation]

    def is_empty(self) -> bool:
        """Nothing has come yet that would have to be written."""
        return not (self.entities or self.fields) and self.rows.is_empty()

    def tells(self) -> bool:
        """Somebody is told that a call exists, or how it has ended: only the owner may say that."""
        return any(isinstance(each, Ended | Accepted) for each in self.effects)

    def finish(self) -> CommitBatch:
        """The rows to write."""
        rows = self.rows
        if self.dropped:
            dropped = self.dropped
            rows.inserted = [each for each in rows.inserted if each.id not in dropped]
            rows.entries = [each for each in rows.entries if each.id not in dropped]
        for name, state in self.entities.items():
            if state is None:
                rows.entities_deleted.append(name)
            else:
                rows.entities.append(state)
        for place, value in self.fields.items():
            if value is None:
                rows.fields_deleted.append(place)
            else:
                rows.fields.append(EntityField(*place, value))
        return rows
