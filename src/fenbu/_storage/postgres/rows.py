"""Structs → arrays, one for each column, and rows → structs. On the path of every commit: no reflection.

The order of columns is that of `sql/commit.sql`, and of the fragment `columns` of each noun. A payload has
two columns: the one for bytes is the last, so that a row without it is that of every other storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fenbu._core.message import Call, Message, decode, encode
from fenbu._core.model import EntityState, Entry, Invocation, Loaded, Payload
from fenbu._storage.postgres.driver import Row
from fenbu._storage.rows import entry_of, invocation_of, text_of

Column = list[Any]

INVOCATION_COLUMNS: Final = 26
_ARGS, _RESULT = 6, 22
_VALUE: Final = 9


def _text(payload: Payload | None) -> str | None:
    return None if type(payload) is bytes else payload  # pyright: ignore[reportReturnType]


def _bytes(payload: Payload | None) -> bytes | None:
    return payload if type(payload) is bytes else None


def _json(value: object) -> str | None:
    return text_of(value) if value else None


def _changing(invocations: Sequence[Invocation]) -> list[Column]:
    return [
        [each.deadline_at for each in invocations],
        [each.status for each in invocations],
        [each.attempt for each in invocations],
        [each.crashes for each in invocations],
        [each.started_at for each in invocations],
        [each.finished_at for each in invocations],
        [each.wake_at for each in invocations],
        [each.waiting for each in invocations],
        [each.cancel_reason for each in invocations],
        [each.commands for each in invocations],
        [_text(each.result) for each in invocations],
        [None if each.failure is None else text_of(each.failure) for each in invocations],
    ]


def inserted_columns(fixed: Sequence[Invocation], changing: Sequence[Invocation]) -> list[Column]:
    """Every column: what never changes of the first, what can change of the second."""
    return [
        [each.id for each in fixed],
        [each.partition for each in fixed],
        [each.handler for each in fixed],
        [each.version for each in fixed],
        [each.entity for each in fixed],
        [each.key for each in fixed],
        [_text(each.args) for each in fixed],
        [each.created_at for each in fixed],
        [each.sequence for each in changing],
        [None if each.parent is None else text_of(each.parent) for each in fixed],
        [_json(each.waiters) for each in changing],
        [_json(each.chain) for each in fixed],
        *_changing(changing),
        [_bytes(each.args) for each in fixed],
        [_bytes(each.result) for each in changing],
    ]


def updated_columns(invocations: Sequence[Invocation]) -> list[Column]:
    """The id, and the columns that can change after the call was accepted."""
    return [
        [each.id for each in invocations],
        [each.sequence for each in invocations],
        [_json(each.waiters) for each in invocations],
        *_changing(invocations),
        [_bytes(each.result) for each in invocations],
    ]


def entry_columns(entries: Sequence[Entry]) -> list[Column]:
    """Every column."""
    return [
        [each.id for each in entries],
        [each.position for each in entries],
        [each.kind for each in entries],
        [each.at for each in entries],
        [each.command for each in entries],
        [each.name for each in entries],
        [each.attempt for each in entries],
        [each.seconds for each in entries],
        [None if each.status is None else each.status for each in entries],
        [_text(each.value) for each in entries],
        [None if each.failure is None else text_of(each.failure) for each in entries],
        [each.retry_at for each in entries],
        [each.commands for each in entries],
        [_bytes(each.value) for each in entries],
    ]


def entity_columns(entities: Sequence[EntityState]) -> list[Column]:
    """Every column."""
    return [
        [each.entity for each in entities],
        [each.key for each in entities],
        [each.partition for each in entities],
        [_text(each.state) for each in entities],
        [each.version for each in entities],
        [each.changed_at for each in entities],
        [_bytes(each.state) for each in entities],
    ]


def inbox_columns(messages: Sequence[Message]) -> list[Column]:
    """Partition, id of an accepted call, and the message."""
    encoded = [encode(each) for each in messages]
    return [
        [each.partition for each in messages],
        [each.invocation.id if isinstance(each, Call) else None for each in messages],
        [_text(each) for each in encoded],
        [_bytes(each) for each in encoded],
    ]


def invocation_row(row: Row) -> Invocation:
    """The struct of a row of `columns`."""
    args_bytes, result_bytes = row[24:26]
    if args_bytes is None and result_bytes is None:
        return invocation_of(row[:24])
    fields = list(row[:24])
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
    entity, key, partition, state, version, changed_at, state_bytes = row
    return EntityState(
        entity, key, partition, state if state_bytes is None else state_bytes, version, changed_at
    )


def message_of(text: str | None, data: bytes | None) -> Message:
    """The message of an inbox row."""
    payload = data if text is None else text
    if payload is None:
        raise AssertionError("an inbox row holds no message")
    return decode(payload)
