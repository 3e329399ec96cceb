"""Calls with their journals as a file: JSON that people can read and `fenbu.testing.replay` runs again.

`{"fenbu_history": 2, "call": {…}, "journal": [{…}, …], …, "calls": [{"call": {…}, …}, …], "messages": […]}`:
the call that was asked for, those of its tree, and what is on the way to them. The fields are those of the
structs, without the empty ones. A payload is `{"json": …}`, or `{"text": …}` or `{"base64": …}` if it is
something else. `state` is the entity's before the operation, for an operation that is still open, and
`state_version` says which version of its class wrote it. `fields` are the lazy fields of the entity that the
operation has seen. Format 1 has one call, and neither streams nor messages. See `docs/history.md`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from fenbu._core import journal
from fenbu._core.message import Message, encode
from fenbu._core.model import Chunk, Entry, Invocation, Loaded, Payload
from fenbu.errors import UsageError

FORMAT: Final = 2
READ: Final = (1, FORMAT)
"""The formats that can be read."""


class History(Struct):
    """What is needed to run a call's code again: its row, its journal, and its entity's state."""

    loaded: Loaded
    state: Payload | None = None
    state_version: int | None = None
    """None is that of the class as it is."""
    fields: dict[str, Payload] = field(default_factory=dict)
    """Lazy fields of the entity that the operation has seen, if they have rows."""
    chunks: list[Chunk] = field(default_factory=list)
    """What it has written to its streams, in order."""
    found_by: str | None = None
    """The call of the same file that has started it, or waits for it; None for the first."""


class Outside(Struct, frozen=True):
    """Something that a call of a file has asked for, without an answer so far; it is not in the file."""

    id: str
    """The call."""
    command: int
    kind: str
    name: str
    location: str


class Histories(Struct):
    """A call with those of its tree, as they were in one moment. The first is the call itself."""

    calls: list[History]
    messages: list[Message] = field(default_factory=list)
    """Accepted, and not applied yet, in order."""
    outside: list[Outside] = field(default_factory=list)

    @property
    def root(self) -> History:
        """The call that was asked for."""
        return self.calls[0]


class _Call(Struct, omit_defaults=True):
    call: dict[str, Any]
    journal: list[dict[str, Any]]
    state: dict[str, Any] | None = None
    state_version: int | None = None
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    found_by: str | None = None


class _File(_Call, kw_only=True):
    fenbu_history: int
    calls: list[_Call] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    outside: list[Outside] = field(default_factory=list)


def write(histories: Histories) -> bytes:
    """The text of a file."""
    file: dict[str, Any] = {"fenbu_history": FORMAT}
    file |= msgspec.to_builtins(_written(histories.root), builtin_types=(bytes,))
    others = [_written(each) for each in histories.calls[1:]]
    for name, value in (
        ("calls", others),
        ("messages", [_written_message(each) for each in histories.messages]),
        ("outside", histories.outside),
    ):
        if value:
            file[name] = value
    return msgspec.json.format(msgspec.json.encode(file)) + b"\n"


def read(text: bytes) -> Histories:
    """The histories in a file.

    Raises:
        UsageError: It is none, or one of a newer version of fenbu.
    """
    try:
        file = msgspec.json.decode(text, type=_File)
        if file.fenbu_history not in READ:
            raise UsageError(
                f"the history has format {file.fenbu_history}, and this version of fenbu reads {FORMAT}"
            )
        calls = [_read(each) for each in (file, *file.calls)]
        messages = [_message(each) for each in file.messages]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"this is no history of a call ({error}); `fenbu export ID` writes one"
        ) from None
    return Histories(calls, messages, file.outside)


def _written(history: History) -> _Call:
    return _Call(
        _fields(history.loaded.invocation, "args", "result"),
        [_fields(each, "value") for each in history.loaded.entries],
        None if history.state is None else _shown(history.state),
        None if history.state is None else history.state_version,
        {name: _shown(value) for name, value in history.fields.items()},
        [_chunk_fields(each) for each in history.chunks],
        history.found_by,
    )


def _read(call: _Call) -> History:
    invocation = _struct(Invocation, call.call, "args", "result")
    entries = [_struct(Entry, each, "value") for each in call.journal]
    state = None if call.state is None else _payload(call.state)
    fields = {name: _payload(value) for name, value in call.fields.items()}
    chunks = [_chunk(invocation.id, each) for each in call.chunks]
    loaded = Loaded(invocation, entries)
    return History(loaded, state, call.state_version, fields, chunks, call.found_by)


def _fields(struct: Invocation | Entry, *payloads: str) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(bytes,))
    for name in payloads:
        if fields.get(name) is not None:
            fields[name] = _shown(fields[name])
    fields["commands"] = journal.whole(struct.commands)
    return {name: each for name, each in fields.items() if each not in (None, [], ())}


def _struct(type_: type[Any], fields: dict[str, Any], *payloads: str) -> Any:
    for name in payloads:
        if name in fields:
            fields[name] = _payload(fields[name])
    commands = fields.get("commands")
    fields["commands"] = msgspec.json.encode(commands).decode() if commands else None
    return msgspec.convert(fields, type_)


def _chunk_fields(chunk: Chunk) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(chunk, builtin_types=(bytes,))
    # Its call is known, and every database gives numbers of its own.
    del fields["id"], fields["number"]
    if chunk.value is not None:
        fields["value"] = _shown(chunk.value)
    return {name: each for name, each in fields.items() if each is not None and each is not False}


def _chunk(id_: str, fields: dict[str, Any]) -> Chunk:
    if "value" in fields:
        fields["value"] = _payload(fields["value"])
    return msgspec.convert({"id": id_, **fields}, Chunk)


_PAYLOADS: Final = {
    "call": (("invocation", "args"),),
    "update": (("invocation", "args"),),
    "reply": (("outcome", "value"),),
    "signal": (("value",),),
}
"""Where the payloads are in a message, by its tag."""


def _places(fields: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each payload of a message: the object that has it, and its name there."""
    for *path, name in _PAYLOADS.get(fields["type"], ()):
        place = fields
        for each in path:
            place = place[each]
        if place.get(name) is not None:
            yield place, name


def _written_message(message: Message) -> dict[str, Any]:
    encoded = encode(message)
    fields: dict[str, Any] = (
        msgspec.json.decode(encoded)
        if isinstance(encoded, str)
        else msgspec.msgpack.decode(encoded)
    )
    for place, name in _places(fields):
        place[name] = _shown(place[name])
    return fields


def _message(fields: dict[str, Any]) -> Message:
    for place, name in _places(fields):
        place[name] = _payload(place[name])
    return msgspec.convert(fields, Message)


def _shown(payload: Payload) -> dict[str, Any]:
    if isinstance(payload, bytes):
        return {"base64": base64.b64encode(payload).decode()}
    try:
        shown = msgspec.json.decode(payload)
        # Only what comes back to the letter is shown as JSON.
        if msgspec.json.encode(shown).decode() == payload:
            return {"json": shown}
    except (msgspec.DecodeError, UnicodeError):
        pass
    return {"text": payload}


def _payload(shown: dict[str, Any]) -> Payload:
    if "json" in shown:
        return msgspec.json.encode(shown["json"]).decode()
    return shown["text"] if "text" in shown else base64.b64decode(shown["base64"])
