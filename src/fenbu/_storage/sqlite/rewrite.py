"""Rows with other payloads that mean the same, each only if it is as it was read."""

from __future__ import annotations

from typing import Any, Final

from fenbu._core.model import Chunk, EntityState, Entry, Invocation, Stored
from fenbu._storage.rows import text_of
from fenbu._storage.sqlite.rows import (
    CHUNK_SQL,
    ENTITY_SQL,
    ENTRY_SQL,
    INSERT_LARGE_ARGS,
    INVOCATION_SQL,
    Parameters,
    invocation_parameters,
)
from fenbu._storage.sqlite.session import Session

CELLS: Final[dict[type[Stored], tuple[str, ...]]] = {
    Invocation: ("args", "result", "failure", "waiting", "cancel_reason", "heartbeats"),
    Entry: ("name", "value", "failure"),
    EntityState: ("state",),
    Chunk: ("value",),
}


def rewrite(session: Session, changes: list[tuple[Stored, Stored]]) -> int:
    """See `Storage.rewrite`."""
    count = 0
    for before, after in changes:
        apart: Parameters = []
        parameters: dict[str, Any] = _key(before)
        for name in CELLS[type(before)]:
            parameters[name] = _cell(after, name)
            parameters[f"old_{name}"] = _cell(before, name)
        if isinstance(after, Invocation):
            _, apart = invocation_parameters([after])
            if apart:
                parameters["args"] = len(after.args)
        session.begin()
        done = session.execute(_statement(before), parameters).rowcount
        if done and apart:
            # What stood apart before is gone: by a trigger, as `args` was set.
            for each in INSERT_LARGE_ARGS.statements(apart):
                session.execute(*each)
        session.commit()
        count += done
    return count


def _key(row: Stored) -> dict[str, Any]:
    match row:
        case Invocation():
            return {"id": row.id}
        case Entry():
            return {"id": row.id, "position": row.position}
        case EntityState():
            return {"entity": row.entity, "key": row.key}
        case Chunk():
            return {"number": row.number}


def _statement(row: Stored) -> str:
    match row:
        case Invocation():
            return INVOCATION_SQL["rewrite"]
        case Entry():
            return ENTRY_SQL["rewrite"]
        case EntityState():
            return ENTITY_SQL["rewrite"]
        case Chunk():
            return CHUNK_SQL["rewrite"]


def _cell(row: Stored, name: str) -> Any:
    value = getattr(row, name)
    if name == "heartbeats":
        return text_of(value) if value else None
    return text_of(value) if name == "failure" and value is not None else value
