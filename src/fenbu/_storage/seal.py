"""What a codec hook does to the structs that a database holds: payloads, and texts that may show values.

Sealed are arguments, results, values, states, lazy fields, messages, chunks, heartbeats, the words of errors
(message, traceback, args), why a call is stuck, the reasons of cancellations. Not sealed is what the database
must find or people steer by: ids, names, keys, instants, statuses, types of errors, attributes, what code
asked for, and the context that middleware gives calls.

What cannot be opened stays as it is stored, marked as `Unreadable`, and is written back like that: whoever
lacks a key changes nothing. Payloads are bound to no row, because they move: a result becomes a reply, and
that a journal entry, without anybody having to read it.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from fenbu._core.batch import CommitBatch
from fenbu._core.codec import CodecHook
from fenbu._core.message import (
    Call,
    Cancel,
    Message,
    Pause,
    Reply,
    Restore,
    Signal,
    Update,
    Withheld,
    guarded,
)
from fenbu._core.model import (
    Chunk,
    EntityState,
    Entry,
    EntryKind,
    Failure,
    Heartbeat,
    Invocation,
    Loaded,
    Outcome,
    Payload,
    Status,
    Unreadable,
    UnreadableFailure,
)

MARK: Final = "sealed:"
"""How a text begins that was sealed; base64 follows."""

_WORDS: Final = frozenset({Status.STUCK, Status.QUARANTINED, Status.PAUSED})
"""Where `waiting` has words of an error, or of an operator."""

_ENGINES: Final = frozenset({"", "timeout", "cancelled", "terminated", "caller cancelled"})
"""Reasons of cancellations that are the engine's own words."""


class Seal:
    """Applies one hook."""

    def __init__(self, hook: CodecHook) -> None:
        self._hook = hook

    # Payloads and texts.

    def payload(self, payload: Payload) -> Payload:
        """What to store for a payload.

        Raises:
            Exception: What the hook raised.
        """
        if isinstance(payload, Unreadable):
            return payload.stored
        # In MessagePack only an integer begins like JSON, and it is alone; JSON gets a space at its end.
        data = payload if isinstance(payload, bytes) else payload.encode() + b" "
        made = self._hook.encode(data)
        return payload if made == data else made

    def open(self, payload: Payload) -> Payload:
        """The payload again."""
        if isinstance(payload, str):
            return payload
        try:
            data = self._hook.decode(payload)
            if len(data) > 1 and data[0] < 0x80:
                return data.removesuffix(b" ").decode()
        except Exception as error:  # noqa: BLE001 - a hook is the user's, and may raise anything
            return _unreadable(payload, _words(error))
        return data

    def _value(self, payload: Payload | None) -> Payload | None:
        return None if payload is None else self.payload(payload)

    def _open_value(self, payload: Payload | None) -> Payload | None:
        return None if payload is None else self.open(payload)

    def text(self, text: str) -> str:
        """What to store for a text."""
        data = text.encode()
        made = self._hook.encode(data)
        return (
            text
            if made == data and not text.startswith(MARK)
            else MARK + base64.b64encode(made).decode()
        )

    def open_text(self, text: str) -> str:
        """The text again; as it is stored if it cannot be opened."""
        if not text.startswith(MARK):
            return text
        try:
            return self._hook.decode(base64.b64decode(text.removeprefix(MARK))).decode()
        except Exception:  # noqa: BLE001 - see `open`
            return text

    def _reason(self, reason: str | None) -> str | None:
        if reason is None or reason in _ENGINES or reason.startswith(MARK):
            return reason
        return self.text(reason)

    def _open_reason(self, reason: str | None) -> str | None:
        return None if reason is None else self.open_text(reason)

    def failure(self, failure: Failure | None) -> Failure | None:
        """An error with its type alone."""
        if failure is None:
            return None
        if isinstance(failure, UnreadableFailure):
            return Failure(failure.type, failure.message)
        words = (failure.message, failure.traceback, failure.args, failure.attributes)
        data = msgspec.json.encode(words)
        made = self._hook.encode(data)
        if made == data and not failure.message.startswith(MARK):
            return failure
        return Failure(failure.type, MARK + base64.b64encode(made).decode())

    def open_failure(self, failure: Failure | None) -> Failure | None:
        """The error again."""
        if failure is None or not failure.message.startswith(MARK):
            return failure
        try:
            data = self._hook.decode(base64.b64decode(failure.message.removeprefix(MARK)))
            return Failure(failure.type, *msgspec.json.decode(data, type=_Words))
        except Exception as error:  # noqa: BLE001 - see `open`
            return UnreadableFailure(failure.type, failure.message, reason=_words(error))

    def outcome(self, outcome: Outcome) -> Outcome:
        """Its value and error."""
        return Outcome(outcome.status, self._value(outcome.value), self.failure(outcome.failure))

    def open_outcome(self, outcome: Outcome) -> Outcome:
        """The outcome again."""
        return Outcome(
            outcome.status, self._open_value(outcome.value), self.open_failure(outcome.failure)
        )

    # Rows.

    def started(self, message: Call | Signal | Update) -> Call | Signal | Update:
        """A message that makes a call, or goes together with one."""
        match message:
            case Call():
                return replace(message, invocation=self.invocation(message.invocation))
            case Signal():
                value, failure = self._value(message.value), self.failure(message.failure)
                return replace(message, value=value, failure=failure)
            case Update():
                call, failure = self.invocation(message.invocation), self.failure(message.failure)
                return replace(message, invocation=call, failure=failure)

    def invocation(self, call: Invocation, *, changes: bool = False) -> Invocation:
        """A call's row; with `changes`, what an update writes, and arguments are not among that."""
        waiting = call.waiting
        if waiting is not None and call.status in _WORDS:
            waiting = waiting if waiting.startswith(MARK) else self.text(waiting)
        return replace(
            call,
            args="" if changes else self.payload(call.args),
            result=self._value(call.result),
            failure=self.failure(call.failure),
            waiting=waiting,
            cancel_reason=self._reason(call.cancel_reason),
            heartbeats=tuple(_beat(each, self._value(each.value)) for each in call.heartbeats),
        )

    def open_invocation(self, call: Invocation) -> Invocation:
        """The row again, in place."""
        call.args = self.open(call.args)
        call.result = self._open_value(call.result)
        call.failure = self.open_failure(call.failure)
        call.waiting = self._open_reason(call.waiting)
        call.cancel_reason = self._open_reason(call.cancel_reason)
        if call.heartbeats:
            opened = (_beat(each, self._open_value(each.value)) for each in call.heartbeats)
            call.heartbeats = tuple(opened)
        return call

    def entry(self, entry: Entry) -> Entry:
        """A journal entry."""
        name = entry.name
        if entry.kind is EntryKind.CANCEL_REQUESTED:
            name = self._reason(name)
        return replace(
            entry, name=name, value=self._value(entry.value), failure=self.failure(entry.failure)
        )

    def open_loaded(self, loaded: Loaded) -> Loaded:
        """A call with its journal, in place.

        If a part of the journal, or a heartbeat, cannot be read, the arguments cannot: the code must not see
        half of it.
        """
        call, stored = loaded.invocation, loaded.invocation.args
        self.open_invocation(call)
        reason = None
        for beat in call.heartbeats:
            if isinstance(beat.value, Unreadable):
                reason = beat.value.reason
        for each in loaded.entries:
            if each.kind is EntryKind.CANCEL_REQUESTED:
                each.name = self._open_reason(each.name)
            each.value = self._open_value(each.value)
            each.failure = self.open_failure(each.failure)
            for part in (each.value, each.failure):
                if isinstance(part, Unreadable | UnreadableFailure):
                    reason = part.reason
        if reason is not None and not isinstance(call.args, Unreadable):
            call.args = _unreadable(stored, reason)
        return loaded

    def state(self, state: EntityState) -> EntityState:
        """An entity's state."""
        return replace(state, state=self.payload(state.state))

    def open_state(self, state: EntityState) -> EntityState:
        """The state again."""
        return replace(state, state=self.open(state.state))

    def chunk(self, chunk: Chunk) -> Chunk:
        """A value of a stream."""
        return replace(chunk, value=self._value(chunk.value))

    def open_chunk(self, chunk: Chunk) -> Chunk:
        """The value again."""
        return replace(chunk, value=self._open_value(chunk.value))

    def message(self, message: Message) -> Message:
        """A message."""
        match message:
            case Call() | Signal() | Update():
                return self.started(message)
            case Reply():
                return replace(message, outcome=self.outcome(message.outcome))
            case Restore():
                return Restore(
                    self.invocation(message.invocation),
                    [self.entry(each) for each in message.entries],
                    tuple(self.chunk(each) for each in message.chunks),
                )
            case Cancel() | Pause():
                return replace(message, reason=self._reason(message.reason) or "")
            case Withheld():
                return self.message(_placed(message.message, message.partition))
            case _:
                return message

    def open_message(self, message: Message) -> Message:
        """The message again."""
        match message:
            case Call():
                self.open_invocation(message.invocation)
                return message
            case Reply():
                return guarded(replace(message, outcome=self.open_outcome(message.outcome)))
            case Signal():
                value, failure = self._open_value(message.value), self.open_failure(message.failure)
                return guarded(replace(message, value=value, failure=failure))
            case Update():
                self.open_invocation(message.invocation)
                return guarded(replace(message, failure=self.open_failure(message.failure)))
            case Restore():
                self.open_loaded(Loaded(message.invocation, message.entries))
                chunks = tuple(self.open_chunk(each) for each in message.chunks)
                return replace(message, chunks=chunks)
            case Cancel() | Pause():
                return replace(message, reason=self.open_text(message.reason))
            case _:
                return message

    def batch(self, batch: CommitBatch) -> CommitBatch:
        """A copy of a batch."""
        return replace(
            batch,
            inserted=[self.invocation(each) for each in batch.inserted],
            updated=[self.invocation(each, changes=True) for each in batch.updated],
            rewritten=[self.invocation(each) for each in batch.rewritten],
            entries=[self.entry(each) for each in batch.entries],
            entities=[self.state(each) for each in batch.entities],
            fields=[replace(each, value=self.payload(each.value)) for each in batch.fields],
            inbox=[self.message(each) for each in batch.inbox],
            chunks=[self.chunk(each) for each in batch.chunks],
        )


_Words: Any = tuple[str, str, str | None, str | None]


def data_of(cell: str | bytes | Failure) -> bytes | None:
    """What a hook has made of a payload or error, as it is stored; None if none has."""
    if isinstance(cell, bytes):
        return cell
    text = cell.message if isinstance(cell, Failure) else cell
    return base64.b64decode(text.removeprefix(MARK)) if text.startswith(MARK) else None


def _placed(message: Reply | Signal | Update, partition: int) -> Reply | Signal | Update:
    """Addressed to where its call is by now."""
    if isinstance(message, Reply):
        return replace(message, to=replace(message.to, partition=partition))
    return replace(message, partition=partition)


def _beat(beat: Heartbeat, value: Payload | None) -> Heartbeat:
    """The same with another value."""
    if isinstance(value, bytes):
        return Heartbeat(beat.command, beat.at, data=value)
    return Heartbeat(beat.command, beat.at, value)


def _unreadable(stored: Payload, reason: str) -> Unreadable:
    made = Unreadable(stored.encode() if isinstance(stored, str) else stored)
    made.reason, made.stored = reason, stored
    return made


def _words(error: Exception) -> str:
    return f"its stored form cannot be read here: {type(error).__name__}: {error}"
