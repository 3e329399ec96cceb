"""The disk of the fake: what is left when every node and client is gone.

Rows are kept encoded, so that a later change of a caller's object does not show and a reader gets an object
of its own; a decoded copy beside each serves for looking only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from fenbu._core import limit
from fenbu._core.message import Call, Making, Message, decode
from fenbu._core.model import (
    Chunk,
    EntityField,
    EntityState,
    Entry,
    Invocation,
    Loaded,
    Payload,
    Status,
    Stored,
)
from fenbu._core.tree import Look, Seen
from fenbu._storage.protocol import Meta, NodeInfo
from fenbu._storage.stream import StreamCursor, StreamPage

ENCODER: Final = msgspec.msgpack.Encoder()

_invocation = msgspec.msgpack.Decoder(Invocation)
_entry = msgspec.msgpack.Decoder(Entry)


def _number(chunk: Chunk) -> int:
    return chunk.number


class Listener(Protocol):
    """A storage that is open on the database."""

    def notice(self) -> None:
        """Somebody else has changed it."""
        ...


class MemoryDatabase:
    """The disk: what is left when every node and client is gone."""

    def __init__(
        self, partition_count: int = limit.PARTITION_COUNT, cluster: str = "memory"
    ) -> None:
        self.meta = Meta(partition_count, cluster)
        self.rows: dict[str, bytes] = {}
        self.invocations: dict[str, Invocation] = {}
        """The same, decoded, for looking only: never handed out."""
        self.journals: dict[str, dict[int, bytes]] = {}
        self.chunks: dict[str, dict[str, list[Chunk]]] = {}
        """By call and stream, in order of their numbers."""
        self.chunk_sources: dict[str, set[tuple[str, int, int, int]]] = {}
        """By call, where its chunks come from: each is there once."""
        self.chunk_count = 0
        self.entities: dict[tuple[str, str], EntityState] = {}
        self.fields: dict[tuple[str, str, str], EntityField] = {}
        """Lazy fields, by entity, key and name."""
        self.inbox: dict[int, Payload] = {}
        self.calls: dict[int, Message] = {}
        """Those messages of the inbox that are calls, for looking only."""
        self.last_number = 0
        self.nodes: dict[Listener, NodeInfo] = {}
        """The live nodes and what they own."""
        self.node_count = 0
        self.storages: dict[Listener, None] = {}
        self.epochs: dict[int, int] = {}
        """How often each partition has been taken."""
        self.step_results: dict[tuple[str, str, int], Payload] = {}
        """Of transactional steps, until the journal has them."""

    def has_messages(self, partitions: Collection[int], after: int) -> bool:
        """Whether something is in the inbox of these partitions that came after a number."""
        return any(
            number > after and decode(message).partition in partitions
            for number, message in self.inbox.items()
        )

    def owner_of(self, partition: int) -> Listener | None:
        """Whose partition it is."""
        for storage, node in self.nodes.items():
            if partition in node.partitions:
                return storage
        return None

    def write_row(self, row: bytes) -> None:
        """Insert or replace a call."""
        invocation = _invocation.decode(row)
        self.rows[invocation.id] = row
        self.invocations[invocation.id] = invocation

    def rewrite(self, before: Stored, after: Stored) -> bool:
        """Give a row other payloads and texts, if it is as it was read."""
        if isinstance(before, EntityState) and isinstance(after, EntityState):
            name = (before.entity, before.key)
            now = self.entities.get(name)
            if now is None or now.state != before.state:
                return False
            self.entities[name] = replace(now, state=after.state)
            return True
        if isinstance(before, EntityField) and isinstance(after, EntityField):
            place = (before.entity, before.key, before.name)
            if found := self.fields.get(place) == before:
                self.fields[place] = after
            return found
        if isinstance(before, Chunk):
            stream = self.chunks.get(before.id, {}).get(before.stream, [])
            if (found := before in stream) and isinstance(after, Chunk):
                stream[stream.index(before)] = after
            return found
        if isinstance(before, Entry):
            journal = self.journals.get(before.id, {})
            found = journal.get(before.position) == ENCODER.encode(before)
            if found:
                journal[before.position] = ENCODER.encode(after)
            return found
        if not isinstance(before, Invocation) or self.rows.get(before.id) != ENCODER.encode(before):
            return False
        self.write_row(ENCODER.encode(after))
        return True

    def put(self, messages: Iterable[Payload]) -> None:
        """Append to the inbox."""
        for each in messages:
            self.last_number += 1
            self.inbox[self.last_number] = each
            message = decode(each)
            if isinstance(message, Making):
                self.calls[self.last_number] = message

    def append(self, chunks: Iterable[Chunk]) -> None:
        """Append to streams, in order, what is not there yet."""
        for each in chunks:
            source = (each.stream, each.run, each.command, each.position)
            sources = self.chunk_sources.setdefault(each.id, set())
            self.chunk_count += 1
            if source not in sources:
                sources.add(source)
                stream = self.chunks.setdefault(each.id, {}).setdefault(each.stream, [])
                stream.append(replace(each, number=self.chunk_count))

    def cut(self, id_: str, stream: str, before: float, limit: int) -> int:
        """See `Storage.delete_chunks`."""
        chunks = self.chunks.get(id_, {}).get(stream, [])
        oldest = chunks[:limit]
        kept = [each for each in oldest if each.at >= before]
        chunks[:limit] = kept
        for each in oldest:
            if each.at < before:
                self.chunk_sources[id_].discard(
                    (each.stream, each.run, each.command, each.position)
                )
        if not chunks:
            self.chunks.get(id_, {}).pop(stream, None)
        return len(oldest) - len(kept)

    def pages(self, cursors: Iterable[StreamCursor], limit: int) -> list[StreamPage]:
        """See `Storage.load_chunks`."""
        accepted: dict[str, int] = {}
        for call in self.calls.values():
            if isinstance(call, Call):
                accepted.setdefault(call.invocation.id, call.partition)
        pages: list[StreamPage] = []
        for each in cursors:
            row = self.invocations.get(each.id)
            status = Status.PENDING if row is None and each.id in accepted else None
            partition = accepted.get(each.id, -1)
            if row is not None:
                status, partition = row.status, row.partition
            chunks = self.chunks.get(each.id, {}).get(each.stream, [])
            first = bisect_right(chunks, each.after, key=_number)
            page = chunks[first : first + limit]
            pages.append(StreamPage(page, status, partition, len(page) < limit))
        return pages

    def look_up(self, look: Look) -> Seen:
        """See `Storage.snapshot`."""
        calls = [self.invocations[each] for each in sorted(look.ids) if each in self.invocations]
        chunks = [
            chunk
            for each in calls
            for stream in self.chunks.get(each.id, {}).values()
            for chunk in stream
        ]
        parents = set(look.parents)
        return Seen(
            self.load(calls),
            sorted(chunks, key=_number),
            sorted(
                each.id
                for each in self.invocations.values()
                if each.parent is not None and (each.parent.partition, each.parent.id) in parents
            ),
            [self.entities[each] for each in look.entities if each in self.entities],
            [decode(text) for _, text in sorted(self.inbox.items())] if look.messages else [],
            [self.fields[each] for each in look.fields if each in self.fields],
        )

    def copy(self, id_: str) -> Invocation:
        """A fresh copy of a call, which the caller may keep and change."""
        return _invocation.decode(self.rows[id_])

    def open_calls(self) -> list[Invocation]:
        """Those without an outcome."""
        return [each for each in self.invocations.values() if each.finished_at is None]

    def expiring(self, entity: str) -> list[tuple[float, str, int]]:
        """The instant, key and partition of each entity that will be forgotten and has no open operation."""
        used = {(each.entity, each.key) for each in self.open_calls()}
        return sorted(
            (each.expires_at, each.key, each.partition)
            for name, each in self.entities.items()
            if each.entity == entity and each.expires_at is not None and name not in used
        )

    def load(self, found: Iterable[Invocation]) -> list[Loaded]:
        """Fresh copies with journals."""
        return [
            Loaded(
                self.copy(each.id),
                [_entry.decode(row) for _, row in sorted(self.journals.get(each.id, {}).items())],
            )
            for each in found
        ]

    def changed(self, by: Listener) -> None:
        """Tell everybody else."""
        for each in self.storages:
            if each is not by:
                each.notice()
