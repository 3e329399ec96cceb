"""Structs → rows. On the path of every commit: direct attribute access into one flat list, no reflection.

The order of columns is that of the fragment `columns` of each noun's `.sql` file.
An enum member is written as plain text by `str`, because sqlite3 looks for an adapter of any other type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fenbu._core.message import Making, Message, encode
from fenbu._core.model import Chunk, EntityState, Entry, Invocation, Payload
from fenbu._storage.query import load_queries
from fenbu._storage.rows import text_of
from fenbu._storage.sqlite.shape import Shape

Parameters = list[Any]

INVOCATION_SQL: Final = load_queries("fenbu._storage.sqlite", "invocation")
ENTRY_SQL: Final = load_queries("fenbu._storage.sqlite", "entry")
ENTITY_SQL: Final = load_queries("fenbu._storage.sqlite", "entity")
CHUNK_SQL: Final = load_queries("fenbu._storage.sqlite", "chunk")
INBOX_SQL: Final = load_queries("fenbu._storage.sqlite", "inbox")

INSERT_INVOCATIONS: Final = Shape(INVOCATION_SQL["insert"], 27)
INSERT_LARGE_ARGS: Final = Shape(INVOCATION_SQL["insert_large_args"], 2)
UPDATE_INVOCATIONS: Final = Shape(INVOCATION_SQL["update"], 18)
INSERT_ENTRIES: Final = Shape(ENTRY_SQL["insert"], 13)
UPSERT_ENTITIES: Final = Shape(ENTITY_SQL["upsert"], 8)
INSERT_CHUNKS: Final = Shape(CHUNK_SQL["insert"], 8)
INSERT_MESSAGES: Final = Shape(INBOX_SQL["insert"], 3)

ARGS_IN_ROW_MAX: Final = 8 * 1024
"""Characters or bytes of arguments that stand in the row of an open call; larger ones stand apart.

The row is rewritten, with all its pages, whenever something in it changes, and arguments never do. What it
saves, for three-step workflows of 50 clients: at 4,000 bytes a fifth of the bytes written and no time, at
8,000 and 16,000 a third and about a tenth of the processor time, at 60,000 two fifths and a fifth
(`benchmarks/payloads.py` has the rest). A call that is written finished is written once.
"""


def invocation_parameters(invocations: Iterable[Invocation]) -> tuple[Parameters, Parameters]:
    """All columns of each, one after the other; and the id and arguments of those that have these apart.

    They have the length of their arguments in the row, which is all that tells them from the others there.
    """
    flat: Parameters = []
    apart: Parameters = []
    for each in invocations:
        args: Payload | int = each.args
        if len(each.args) > ARGS_IN_ROW_MAX and each.finished_at is None:
            apart += (each.id, args)
            args = len(each.args)
        flat += (
            each.id,
            each.partition,
            each.handler,
            each.version,
            each.entity,
            each.key,
            args,
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
    return flat, apart


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
        )
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
