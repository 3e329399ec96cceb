"""Structs → rows. On the path of every commit: direct attribute access into one flat list, no reflection.

The order of columns is that of the fragment `columns` of each noun's `.sql` file.
An enum member is written as plain text by `str`, because sqlite3 looks for an adapter of any other type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fenbu._core.message import Making, Message, encode
from fenbu._core.model import Chunk, EntityField, EntityState, Entry, Invocation
from fenbu._storage.query import load_queries
from fenbu._storage.rows import text_of

Parameters = list[Any]

INVOCATION_SQL: Final = load_queries("fenbu._storage.sqlite", "invocation")
ENTRY_SQL: Final = load_queries("fenbu._storage.sqlite", "entry")
ENTITY_SQL: Final = load_queries("fenbu._storage.sqlite", "entity")
FIELD_SQL: Final = load_queries("fenbu._storage.sqlite", "field")
CHUNK_SQL: Final = load_queries("fenbu._storage.sqlite", "chunk")
INBOX_SQL: Final = load_queries("fenbu._storage.sqlite", "inbox")

ROWS_MAX: Final = 1_024
"""Rows of one statement: 27 columns × 1,024 stay below the 32,766 parameters that SQLite allows."""


class Statement(NamedTuple):
    """Ready to execute."""

    sql: str
    parameters: Sequence[Any]


def invocation_parameters(invocations: Iterable[Invocation]) -> Parameters:
    """All columns of each, one after the other."""
    flat: Parameters = []
    for each in invocations:
        flat += (
            each.id,
            each.partition,
            each.handler,
            each.version,
            each.entity,
            each.key,
            each.args,
            each.created_at,
            each.sequence,
            None if each.parent is None else text_of(each.parent),
            text_of(each.waiters) if each.waiters else None,
            text_of(each.chain) if each.chain else None,
            each.deadline_at,
            str(each.status),
            each.attempt,
            each.crashes,
            each.started_at,
            each.finished_at,
            each.wake_at,
            each.waiting,
            each.cancel_reason,
            each.commands,
            each.result,
            None if each.failure is None else text_of(each.failure),
            text_of(each.heartbeats) if each.heartbeats else None,
            None if each.context is None else text_of(each.context),
            each.attributes,
        )
    return flat


def update_parameters(invocations: Iterable[Invocation]) -> Parameters:
    """The id, and the columns that can change after the call was accepted."""
    flat: Parameters = []
    for each in invocations:
        flat += (
            each.id,
            each.sequence,
            text_of(each.waiters) if each.waiters else None,
            each.deadline_at,
            str(each.status),
            each.attempt,
            each.crashes,
            each.started_at,
            each.finished_at,
            each.wake_at,
            each.waiting,
            each.cancel_reason,
            each.commands,
            each.result,
            None if each.failure is None else text_of(each.failure),
            each.partition,
            text_of(each.heartbeats) if each.heartbeats else None,
            each.attributes,
        )
    return flat


def entry_parameters(entries: Iterable[Entry]) -> Parameters:
    """All columns of each, one after the other."""
    flat: Parameters = []
    for each in entries:
        flat += (
            each.id,
            each.position,
            str(each.kind),
            each.at,
            each.command,
            each.name,
            each.attempt,
            each.seconds,
            None if each.status is None else str(each.status),
            each.value,
            None if each.failure is None else text_of(each.failure),
            each.retry_at,
            each.commands,
        )
    return flat


def entity_parameters(entities: Iterable[EntityState]) -> Parameters:
    """All columns of each, one after the other."""
    flat: Parameters = []
    for each in entities:
        flat += (
            each.entity,
            each.key,
            each.partition,
            each.state,
            each.version,
            each.changed_at,
            each.alarms,
            each.expires_at,
            each.fields,
        )
    return flat


def field_parameters(fields: Iterable[EntityField]) -> Parameters:
    """All columns of each, one after the other."""
    flat: Parameters = []
    for each in fields:
        flat += (each.entity, each.key, each.name, each.value)
    return flat


def chunk_parameters(chunks: Iterable[Chunk]) -> Parameters:
    """All columns of each but the number, one after the other."""
    flat: Parameters = []
    for each in chunks:
        flat += (
            each.id,
            each.stream,
            each.run,
            each.command,
            each.position,
            each.at,
            each.value,
            int(each.ends),
        )
    return flat


def inbox_parameters(messages: Iterable[Message]) -> Parameters:
    """Partition, id of an accepted call, and the message."""
    flat: Parameters = []
    for each in messages:
        flat += (
            each.partition,
            each.invocation.id if isinstance(each, Making) else None,
            encode(each),
        )
    return flat


def statements(query: str, columns: int, flat: Parameters) -> list[Statement]:
    """One statement for all rows, or a few if there are more than ROWS_MAX.

    A statement is prepared for a few sizes only, a half step apart (1, 2, 3, 4, 6, 8, 12, …), and padded
    with NULL: compiling one for 300 rows takes about as long as running it.
    """
    found: list[Statement] = []
    for start in range(0, len(flat), ROWS_MAX * columns):
        part = flat[start : start + ROWS_MAX * columns]
        count = len(part) // columns
        size = _size(count)
        if size > count:
            part += (None,) * ((size - count) * columns)
        found.append(Statement(_sized(query, columns, size), part))
    return found


@lru_cache(maxsize=ROWS_MAX)
def _size(count: int) -> int:
    size = 1
    while size < count:
        if size > 1 and size * 3 // 2 >= count:
            return size * 3 // 2
        size *= 2
    return size


@lru_cache(maxsize=256)
def _sized(query: str, columns: int, size: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return query.format(rows=", ".join([row] * size))
