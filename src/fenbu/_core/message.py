"""What one call, or a client, says to another call: durable, addressed to a partition, applied once.

A message to a call that its sender's node holds in memory is applied in the sender's own batch. Any
other becomes a row of the receiver's inbox in the sender's batch, and the receiver deletes that row in
the batch that applies it. So a message takes effect exactly once without any record of what was seen.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from fenbu._core.model import (
    Address,
    Chunk,
    Entry,
    Failure,
    Invocation,
    Outcome,
    Payload,
    Unreadable,
    UnreadableFailure,
)


class IfExists(StrEnum):
    """What a call means whose id exists already."""

    REUSE = "reuse"
    """That one."""
    REJECT = "reject"
    """Nothing: its sender hears of it."""
    REPLACE = "replace"
    """Itself: that one is ended at once, and forgotten."""
    AFTER_FAILURE = "after_failure"
    """Itself if that one has ended without a result, else that one."""
    AFTER_END = "after_end"
    """Itself if that one has ended, else that one."""


REUSE: Final = IfExists.REUSE
"""See `model.COMPLETED` for why."""


class Call(Struct, frozen=True, tag="call", omit_defaults=True, gc=False):
    """Accept this call. An id that exists already means the existing call."""

    invocation: Invocation
    fresh: bool = False
    """The id was made by fenbu for this call alone, so it cannot exist yet."""
    waited: bool = False
    """Somebody waits for its outcome: it does not queue behind calls that were only started."""
    listener: str | None = None
    """Who waits in another process, by the name under which hints reach it."""
    if_exists: IfExists = IfExists.REUSE
    ticket: str | None = None
    """The id of a call that tells the sender whether it was accepted, see `conflict.py`."""

    @property
    def partition(self) -> int:
        return self.invocation.partition


class Reply(Struct, frozen=True, tag="reply", gc=False):
    """The call that `to` waits for has ended."""

    to: Address
    outcome: Outcome

    @property
    def partition(self) -> int:
        return self.to.partition


class Subscribe(Struct, frozen=True, tag="subscribe", gc=False):
    """Send the outcome of `id` to `reply_to`."""

    partition: int
    id: str
    reply_to: Address


class Update(Struct, frozen=True, tag="update", omit_defaults=True, gc=False):
    """Ask the code of the workflow `id` for something; what comes of it is the outcome of `invocation`."""

    partition: int
    id: str
    invocation: Invocation
    """The update's own call, which lives in the partition of its workflow."""
    fresh: bool = False
    """See `Call`, here and below."""
    listener: str | None = None
    failure: Failure | None = None
    """Why the workflow cannot take it, when that is known."""


class Signal(Struct, frozen=True, tag="signal", omit_defaults=True, gc=False):
    """A named value for a running call, or an error that is raised where the value is waited for."""

    partition: int
    id: str
    name: str
    value: Payload | None = None
    failure: Failure | None = None


class Cancel(Struct, frozen=True, tag="cancel", gc=False):
    """Ask a call to stop; or end it `at_once`, without asking its code."""

    partition: int
    id: str
    reason: str
    at_once: bool = False


class Retry(Struct, frozen=True, tag="retry", gc=False):
    """Let a failed, stuck or quarantined call try again."""

    partition: int
    id: str
    parked: bool = False
    """It was, when somebody decided that: if it has ended since, it is left alone."""


class Pause(Struct, frozen=True, tag="pause", gc=False):
    """Let a task or workflow stand still until it is resumed; or resume it."""

    partition: int
    id: str
    reason: str = ""
    resumes: bool = False


class Probe(Struct, frozen=True, tag="probe", gc=False):
    """Looks for a deadlock on another node, see `deadlock.py`: does the call `id` wait for what is held?"""

    partition: int
    id: str
    origin_partition: int
    origin_id: str
    """The operation that would close the circle by waiting."""
    held: tuple[str, ...]
    """The entities that the origin's callers hold."""
    path: tuple[str, ...]
    """The entities on the way so far."""


class Deadlock(Struct, frozen=True, tag="deadlock", gc=False):
    """An operation that waits for its turn waits for itself; `path` is the circle."""

    partition: int
    id: str
    path: str


class Adopt(Struct, frozen=True, tag="adopt", gc=False):
    """A call that waited for its turn in another partition belongs to this one now: run it."""

    partition: int
    id: str


class Claim(Struct, frozen=True, tag="claim", gc=False):
    """A call waits here for its handler, and the owner of another partition has it: let it go on there."""

    partition: int
    id: str
    to: int


class Withheld(Struct, frozen=True, tag="withheld", gc=False):
    """A reply, signal or update that this process cannot read: its call is parked, and the message stays."""

    partition: int
    id: str
    message: Reply | Signal | Update
    """As it is stored."""
    reason: str


class Restore(Struct, frozen=True, tag="restore", gc=False):
    """A call from elsewhere, with its journal: it is from now on, unless its id exists."""

    invocation: Invocation
    entries: list[Entry]
    chunks: tuple[Chunk, ...] = ()
    """What it has written to its streams, in order; they get new numbers."""

    @property
    def partition(self) -> int:
        return self.invocation.partition

    @property
    def id(self) -> str:
        return self.invocation.id


Message: TypeAlias = (
    Call | Reply | Subscribe | Update | Signal | Cancel | Retry | Probe | Deadlock | Adopt | Claim
    | Withheld | Restore | Pause
)  # fmt: skip

Making: TypeAlias = Call | Update | Restore
"""The messages that make a call."""

_json = msgspec.json.Decoder(Message)
_msgpack = msgspec.msgpack.Decoder(Message)


def guarded(message: Reply | Signal | Update) -> Reply | Signal | Update | Withheld:
    """The message, or the same as one that cannot be read if its value, arguments or error cannot."""
    match message:
        case Reply():
            value, failure, id_ = message.outcome.value, message.outcome.failure, message.to.id
        case Update():
            value, failure, id_ = message.invocation.args, message.failure, message.id
        case Signal():
            value, failure, id_ = message.value, message.failure, message.id
    for each in (value, failure):
        if isinstance(each, Unreadable | UnreadableFailure):
            return Withheld(message.partition, id_, message, each.reason)
    return message


def within(message: Message) -> Message:
    """The message itself, for who does not have to read its values."""
    return message.message if isinstance(message, Withheld) else message


def encode(message: Message) -> Payload:
    """JSON text that people can read, or MessagePack where a payload is bytes."""
    match message:
        case Call() | Update():
            payload = message.invocation.args
        case Reply():
            payload = message.outcome.value
        case Signal():
            payload = message.value
        case Restore():
            call = message.invocation
            rows = (*message.entries, *message.chunks)
            values = (call.args, call.result, *(each.value for each in rows))
            payload = next((each for each in values if isinstance(each, bytes)), None)
        case _:
            payload = None
    if isinstance(payload, bytes):
        return msgspec.msgpack.encode(message)
    return msgspec.json.encode(message).decode()


def decode(data: Payload) -> Message:
    """The message that `encode` wrote."""
    return _json.decode(data) if isinstance(data, str) else _msgpack.decode(data)
