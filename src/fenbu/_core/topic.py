"""Topics: what a log of events is called, and how an event stands in it.

A log is a stream that belongs to no call and never ends: of one shard of a topic, written by the entity that
has the same name, one operation at a time. So its events are in order, and each is there once.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from fenbu._core.ids import partition_of
from fenbu._core.model import Chunk, Payload

STREAM: Final = "events"

RUN_EVENTS: Final = 2**30
"""Events that have one `run` in their chunks, whose `position` is an integer of 32 bits."""


class Envelope(Struct, frozen=True, omit_defaults=True):
    """An event on its way to its log, and in it."""

    event: msgspec.Raw
    """Encoded as the payload around it is."""
    key: str | None = None


class TopicSpec(Struct, frozen=True):
    """What a node has to know of a topic."""

    name: str
    shard_count: int
    retention_seconds: float


def log_key(topic: str, shard: int) -> str:
    """The key of the entity that writes a log."""
    return f"{topic}/{shard}"


def log_id(key: str) -> str:
    """The id of a log in the place of a call's. No call has two slashes in a row in its id."""
    return f"topic//{key}"


def is_log(id_: str) -> bool:
    """Whether this names a log."""
    return id_.startswith("topic//")


def shard_of(key: str, count: int) -> int:
    """Where the events with a key are. The partition of the log follows from another text."""
    return partition_of(key, count)


def encode(envelope: Envelope, *, text: bool) -> Payload:
    """An event as it stands in the log."""
    return msgspec.json.encode(envelope).decode() if text else msgspec.msgpack.encode(envelope)


_json = msgspec.json.Decoder(Envelope)
_msgpack = msgspec.msgpack.Decoder(Envelope)


def decode(payload: Payload) -> tuple[str | None, Payload]:
    """The key and the event's own payload."""
    if isinstance(payload, str):
        found = _json.decode(payload)
        return found.key, bytes(found.event).decode()
    found = _msgpack.decode(payload)
    return found.key, bytes(found.event)


def chunk_of(log: str, number: int, value: Payload, now: float) -> Chunk:
    """The row of the event that has so many before it."""
    run, position = divmod(number, RUN_EVENTS)
    return Chunk(log, STREAM, run, 0, position, now, value)
