"""Structs → JSON, which the server takes apart, and rows → structs. On the path of every commit.

One JSON document for all rows of a table is a sixth of the work here of an array for each column, and less
for the server too: see `commit.py`. What has its default is left out, because most of a row has: the
statements say what that is. The order of a row's columns is that of the fragment `columns` of each
noun. A payload has two columns: the one for bytes is the last, so that a row without it is that of every
other storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, structs

from fenbu._core.message import Making, Message, decode, encode
from fenbu._core.model import (
    Address,
    Chunk,
    EntityField,
    EntityState,
    Entry,
    Failure,
    Heartbeat,
    Invocation,
    Loaded,
    Payload,
)
from fenbu._storage.postgres.driver import Row
from fenbu._storage.rows import chunk_of, entry_of, invocation_of, text_of

INVOCATION_COLUMNS: Final = 29
_ARGS, _RESULT = 6, 22
_VALUE: Final = 9


class _Changes(Struct, omit_defaults=True, gc=False):
    """What of a call can change after it was accepted."""

    id: str
    partition: int
    sequence: int
    status: str
    attempt: int
    crashes: int
    waiters: tuple[Address, ...] = ()
    deadline_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    wake_at: float | None = None
    waiting: str | None = None
    cancel_reason: str | None = None
    commands: str | None = None
    result: Payload | None = None
    failure: Failure | None = None
    heartbeats: tuple[Heartbeat, ...] = ()
    attributes: str | None = None


def _document(rows: Sequence[Struct], *payloads: str) -> str:
    """JSON: an object for each row. Bytes, as base64, have another name than text."""
    if any(type(getattr(each, name)) is bytes for name in payloads for each in rows):
        return text_of([_with_bytes(each, payloads) for each in rows])
    return text_of(rows)


def _with_bytes(row: Struct, payloads: Sequence[str]) -> dict[str, Any]:
    fields = structs.asdict(row)
    for name in payloads:
        if type(fields[name]) is bytes:
            fields[f"{name}_bytes"] = fields.pop(name)
    return fields


def inserted(invocations: Sequence[Invocation]) -> str:
    """Whole calls."""
    return _document(invocations, "args", "result")


def updated(invocations: Sequence[Invocation]) -> str:
    """What can change of calls."""
    changes = [
        _Changes(
            each.id,
            each.partition,
            each.sequence,
            each.status,
            each.attempt,
            each.crashes,
            each.waiters,
            each.deadline_at,
            each.started_at,
            each.finished_at,
            each.wake_at,
            each.waiting,
            each.cancel_reason,
            each.commands,
            each.result,
            each.failure,
            each.heartbeats,
            each.attributes,
        )
        for each in invocations
    ]
    return _document(changes, "result")


def with_changes(invocation: Invocation, changed: Invocation) -> Invocation:
    """A call as it was inserted, with what can change of it as in an update."""
    whole = structs.replace(invocation)
    for name in _Changes.__struct_fields__:
        setattr(whole, name, getattr(changed, name))
    return whole


def entries(rows: Sequence[Entry]) -> str:
    """Whole entries."""
    return _document(rows, "value")


def entities(states: Sequence[EntityState]) -> str:
    """Whole states."""
    return _document(states, "state")


def fields(rows: Sequence[EntityField]) -> str:
    """Whole lazy fields."""
    return _document(rows, "value")


def chunks(rows: Sequence[Chunk]) -> str:
    """Whole chunks; the server numbers them."""
    return _document(rows, "value")


def inbox_columns(messages: Sequence[Message]) -> list[list[Any]]:
    """Arrays: partition, id of an accepted call, and the message, which is text or bytes."""
    encoded = [encode(each) for each in messages]
    return [
        [each.partition for each in messages],
        [each.invocation.id if isinstance(each, Making) else None for each in messages],
        [each if isinstance(each, str) else None for each in encoded],
        [each if isinstance(each, bytes) else None for each in encoded],
    ]


def invocation_row(row: Row) -> Invocation:
    """The struct of a row of `columns`."""
    args_bytes, result_bytes = row[27:29]
    if args_bytes is None and result_bytes is None:
        return invocation_of(row[:27])
    fields = list(row[:27])
    if args_bytes is not None:
        fields[_ARGS] = args_bytes
    if result_bytes is not None:
        fields[_RESULT] = result_bytes
    return invocation_of(fields)


def entry_row(row: Row) -> Entry:
    """The struct of a row of `columns`."""
    if row[13] is None:
        return entry_of(row[:13])
    fields = list(row[:13])
    fields[_VALUE] = row[13]
    return entry_of(fields)


def chunk_row(row: Row) -> Chunk:
    """The struct of a row of `columns`."""
    if row[9] is None:
        return chunk_of(row[:9])
    fields = list(row[:9])
    fields[6] = row[9]
    return chunk_of(fields)


def loaded_rows(rows: Sequence[Row]) -> list[Loaded]:
    """Calls with their journals: an entry's row has no call, and comes after that of its call."""
    found: dict[str, Loaded] = {}
    for row in rows:
        if row[0] is not None:
            found[row[0]] = Loaded(invocation_row(row[:INVOCATION_COLUMNS]), [])
        else:
            entry = entry_row(row[INVOCATION_COLUMNS:])
            found[entry.id].entries.append(entry)
    for each in found.values():
        each.entries.sort(key=_position)
    return list(found.values())


def _position(entry: Entry) -> int:
    return entry.position


def entity_row(row: Row) -> EntityState:
    """The struct of a row of `columns`."""
    (
        entity, key, partition, state, version, changed_at, alarms, state_bytes, expires_at, fields,
    ) = row  # fmt: skip
    payload = state if state_bytes is None else state_bytes
    return EntityState(
        entity, key, partition, payload, version, changed_at, alarms, expires_at, fields
    )


def field_row(row: Row) -> EntityField:
    """The struct of a row of `columns`."""
    entity, key, name, value, value_bytes = row
    return EntityField(entity, key, name, value if value_bytes is None else value_bytes)


def message_of(text: str | None, data: bytes | None) -> Message:
    """The message of an inbox row."""
    payload = data if text is None else text
    if payload is None:
        raise AssertionError("an inbox row holds no message")
    return decode(payload)
