"""Rows → structs, the same for every database: a row has the struct's fields in their order.

What is no number, text or payload is JSON text in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fenbu._core.model import (
    Address,
    Chunk,
    Entry,
    EntryKind,
    Failure,
    Heartbeat,
    Invocation,
    Status,
)

Row = Sequence[Any]

_STATUS: Final = {each.value: each for each in Status}
_ENTRY_KIND: Final = {each.value: each for each in EntryKind}

_json = msgspec.json.Encoder()
_address = msgspec.json.Decoder(Address)
_addresses = msgspec.json.Decoder(tuple[Address, ...])
_chain = msgspec.json.Decoder(tuple[str, ...])
_failure = msgspec.json.Decoder(Failure)
_heartbeats = msgspec.json.Decoder(tuple[Heartbeat, ...])
_context = msgspec.json.Decoder(dict[str, str])


def text_of(value: object) -> str:
    """JSON text."""
    return _json.encode(value).decode()


def range_of_address(partition: int, id_: str) -> tuple[str, str]:
    """The range of texts in a `parent` column that begin so: the first, and the first that is too far."""
    address = text_of((partition, id_))[:-1]
    return f"{address},", f"{address}-"  # the character after the comma


def invocation_of(row: Row) -> Invocation:
    """The struct of a row of `columns`."""
    (
        id_, partition, handler, version, entity, key, args, created_at, sequence, parent, waiters, chain,
        deadline_at, status, attempt, crashes, started_at, finished_at, wake_at, waiting, cancel_reason,
        commands, result, failure, heartbeats, context, attributes,
    ) = row  # fmt: skip
    return Invocation(
        id=id_,
        partition=partition,
        handler=handler,
        version=version,
        entity=entity,
        key=key,
        args=args,
        created_at=created_at,
        sequence=sequence,
        parent=None if parent is None else _address.decode(parent),
        waiters=() if waiters is None else _addresses.decode(waiters),
        chain=() if chain is None else _chain.decode(chain),
        deadline_at=deadline_at,
        status=_STATUS[status],
        attempt=attempt,
        crashes=crashes,
        started_at=started_at,
        finished_at=finished_at,
        wake_at=wake_at,
        waiting=waiting,
        cancel_reason=cancel_reason,
        commands=commands,
        result=result,
        failure=failure_of(failure),
        heartbeats=() if heartbeats is None else _heartbeats.decode(heartbeats),
        context=None if context is None else _context.decode(context),
        attributes=attributes,
    )


def entry_of(row: Row) -> Entry:
    """The struct of a row of `columns`."""
    (
        id_,
        position,
        kind,
        at,
        command,
        name,
        attempt,
        seconds,
        status,
        value,
        failure,
        retry_at,
        commands,
    ) = row
    return Entry(
        id_,
        position,
        _ENTRY_KIND[kind],
        at,
        command,
        name,
        attempt,
        seconds,
        None if status is None else _STATUS[status],
        value,
        failure_of(failure),
        retry_at,
        commands,
    )


def chunk_of(row: Row) -> Chunk:
    """The struct of a row of `columns`."""
    id_, stream, run, command, position, at, value, ends, number = row
    return Chunk(id_, stream, run, command, position, at, value, bool(ends), number)


def failure_of(text: str | None) -> Failure | None:
    """The struct of a `failure` column."""
    return None if text is None else _failure.decode(text)


def status_of(text: str) -> Status:
    """The member of a `status` column."""
    return _STATUS[text]
