"""A call with its journal as a file: JSON that people can read and `fenbu.testing.replay` runs again.

`{"fenbu_history": 1, "call": {…}, "journal": [{…}, …], "state": …}`: the fields are those of `Invocation` and
`Entry`, without the empty ones. A payload is `{"json": …}`, or `{"text": …}` or `{"base64": …}` if it is
something else. `state` is the entity's before the operation, for an operation that is still open, and
`state_version` says which version of its class wrote it. `fields` are the lazy fields of the entity that the
operation has seen.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
from msgspec import Struct, field, structs

from fenbu._core import journal
from fenbu._core.ids import partition_of
from fenbu._core.message import Restore
from fenbu._core.model import FINISHED, Entry, Invocation, Loaded, Payload, Status
from fenbu.errors import UsageError

FORMAT: Final = 1


class History(Struct):
    """What is needed to run a call's code again: its row, its journal, and its entity's state."""

    loaded: Loaded
    state: Payload | None = None
    state_version: int | None = None
    """None is that of the class as it is."""
    fields: dict[str, Payload] = field(default_factory=dict)
    """Lazy fields of the entity that the operation has seen, if they have rows."""


class _File(Struct):
    fenbu_history: int
    call: dict[str, Any]
    journal: list[dict[str, Any]]
    state: dict[str, Any] | None = None
    state_version: int | None = None
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)


def write(history: History) -> bytes:
    """The text of a file."""
    file: dict[str, Any] = {
        "fenbu_history": FORMAT,
        "call": _fields(history.loaded.invocation, "args", "result"),
        "journal": [_fields(each, "value") for each in history.loaded.entries],
    }
    if history.state is not None:
        file["state"] = _shown(history.state)
        file["state_version"] = history.state_version
    if history.fields:
        file["fields"] = {name: _shown(value) for name, value in history.fields.items()}
    return msgspec.json.format(msgspec.json.encode(file)) + b"\n"


def read(text: bytes) -> History:
    """The history in a file.

    Raises:
        UsageError: It is none, or one of a newer version of fenbu.
    """
    try:
        file = msgspec.json.decode(text, type=_File)
        if file.fenbu_history != FORMAT:
            raise UsageError(
                f"the history has format {file.fenbu_history}, and this version of fenbu reads {FORMAT}"
            )
        invocation = _struct(Invocation, file.call, "args", "result")
        entries = [_struct(Entry, each, "value") for each in file.journal]
        state = None if file.state is None else _payload(file.state)
        fields = {name: _payload(value) for name, value in file.fields.items()}
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"this is no history of a call ({error}); `fenbu export ID` writes one"
        ) from None
    return History(Loaded(invocation, entries), state, file.state_version, fields)


def _fields(struct: Invocation | Entry, *payloads: str) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(bytes,))
    for name in payloads:
        if fields[name] is not None:
            fields[name] = _shown(fields[name])
    fields["commands"] = journal.recorded(struct.commands)
    return {name: each for name, each in fields.items() if each not in (None, [], ())}


def _struct(type_: type[Any], fields: dict[str, Any], *payloads: str) -> Any:
    for name in payloads:
        if name in fields:
            fields[name] = _payload(fields[name])
    commands = fields.get("commands")
    fields["commands"] = msgspec.json.encode(commands).decode() if commands else None
    return msgspec.convert(fields, type_)


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


IMPORTED: Final = "an operator: it was imported, and `fenbu retry` lets it go on"
"""What an open call waits for that was imported without being told to go on."""


def restored(
    history: History, partition_count: int, *, id_: str | None = None, goes_on: bool = False
) -> Restore:
    """The message that brings a call into a database.

    Args:
        history: The call.
        partition_count: That of the database.
        id_: A new id, for a call that has ended or not begun.
        goes_on: An open call runs at once; else it is parked until an operator lets it.

    Raises:
        UsageError: The call cannot be brought in like that.
    """
    call = structs.replace(history.loaded.invocation, crashes=0, waiters=())
    is_open = call.status not in FINISHED
    if is_open and call.key is not None:
        raise UsageError(
            f"{call.handler} {call.id} is an operation that has not ended: it belongs to the state of its "
            "entity at that moment, and can be imported when it has"
        )
    if id_ is not None and id_ != call.id:
        if is_open and call.started_at is not None:
            raise UsageError(
                f"{call.handler} {call.id} has begun: its random numbers, the ids of its calls and its "
                "idempotency keys come from its id, so it goes on under that id alone"
            )
        call.id, call.parent = id_, None
    place = call.id if call.key is None else f"{call.entity}/{call.key}"
    call.partition = partition_of(place, partition_count)
    if is_open:
        begun = call.started_at is not None
        call.status = Status.RUNNING if begun else Status.PENDING
        call.waiting, call.failure = None, None if begun else call.failure
        if begun:
            call.wake_at = None  # Its timers are armed again from its journal.
        if not goes_on:
            call.status, call.waiting, call.wake_at = Status.QUARANTINED, IMPORTED, None
    return Restore(call, [structs.replace(each, id=call.id) for each in history.loaded.entries])
