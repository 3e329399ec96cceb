"""What readers of streams ask a database, and what it answers."""

from __future__ import annotations

from msgspec import Struct

from fenbu._core.model import Chunk, Status


class StreamCursor(Struct, frozen=True):
    """How far somebody has read a stream of a call: up to the chunk with the number `after`."""

    id: str
    stream: str
    after: int


class StreamPage(Struct, frozen=True):
    """What comes after a cursor; all of it from one moment, so that a call that has ended has no more."""

    chunks: list[Chunk]
    status: Status | None
    """That of the call; None if there is none with this id."""
    partition: int
    complete: bool
    """Nothing more was there."""


class StreamInfo(Struct, frozen=True):
    """A stream of a call, for people."""

    stream: str
    chunk_count: int
    is_closed: bool
    changed_at: float
