"""Rewrites what is stored under another key than the first, or under none: bounded, beside running nodes.

Pages of calls with their journals, of entities, of lazy fields, of chunks. What a node writes meanwhile is
under the first key of that node's app already; a row that changes while it is looked at is looked at again in
the next run. Absent: what is in the inbox, which is gone as soon as it is applied.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from fenbu._core.codec import CodecHook
from fenbu._core.model import (
    Chunk,
    EntityField,
    EntityState,
    Entry,
    Failure,
    Invocation,
    Loaded,
    Stored,
    Unreadable,
    UnreadableFailure,
)
from fenbu._storage.observer import CallFilter
from fenbu._storage.open import Database
from fenbu._storage.seal import Seal, data_of

PAGE_ROWS: Final = 50
"""Calls or entities looked at together."""

PAGE_FIELDS: Final = 5
"""Lazy fields looked at together: they may be large."""

PAGE_CHUNKS: Final = 500
"""Chunks looked at together: they are small."""

R = TypeVar("R", Invocation, Entry, EntityState, Chunk)


class Rekeyed(Struct):
    """How far it has come."""

    calls: int = 0
    entities: int = 0
    fields: int = 0
    """Lazy fields of entities."""
    chunks: int = 0
    rewritten: int = 0
    """Rows: calls, entries of journals, entities, lazy fields, chunks of streams."""
    unreadable: int = 0
    """Rows under a key that the app does not have."""
    changed: int = 0
    """Rows that changed in the meantime."""
    waiting: int = 0
    """Messages in the inbox, which may be under another key."""


async def rekey(
    database: Database,
    hook: CodecHook,
    is_current: Callable[[bytes], bool],
    progress: Callable[[Rekeyed], None] = lambda _: None,
) -> Rekeyed:
    """Rewrite everything that is not current.

    Args:
        database: Without a hook.
        hook: It opens and seals.
        is_current: Whether stored bytes are as they should be.
        progress: Told after each page.
    """
    work, done = _Work(Seal(hook), is_current), Rekeyed()
    after: tuple[float, str] | None = None
    while calls := await database.list_calls(CallFilter(after=after, limit=PAGE_ROWS)):
        after = (calls[-1].created_at, calls[-1].id)
        for loaded in await database.load_calls([each.id for each in calls]):
            await _write(database, work.of_call(loaded), done)
        done.calls += len(calls)
        progress(done)
    last = ("", "")
    while states := await database.scan_entities(last, limit=PAGE_ROWS):
        last = (states[-1].entity, states[-1].key)
        await _write(database, [work.of(each) for each in states], done)
        done.entities += len(states)
        progress(done)
    place = ("", "", "")
    while fields := await database.scan_fields(place, limit=PAGE_FIELDS):
        place = (fields[-1].entity, fields[-1].key, fields[-1].name)
        await _write(database, [work.of(each) for each in fields], done)
        done.fields += len(fields)
        progress(done)
    number = 0
    while chunks := await database.scan_chunks(number, limit=PAGE_CHUNKS):
        number = chunks[-1].number
        await _write(database, [work.of(each) for each in chunks], done)
        done.chunks += len(chunks)
        progress(done)
    done.waiting = await database.inbox_count()
    return done


async def _write(
    database: Database, found: list[tuple[Stored, Stored | None]], done: Rekeyed
) -> None:
    done.unreadable += sum(after is None for _, after in found)
    changes = [(before, after) for before, after in found if after is not None and after != before]
    rewritten = await database.rewrite(changes)
    done.rewritten += rewritten
    done.changed += len(changes) - rewritten


class _Work:
    def __init__(self, seal: Seal, is_current: Callable[[bytes], bool]) -> None:
        self._seal = seal
        self._is_current = is_current

    def of_call(self, loaded: Loaded) -> list[tuple[Stored, Stored | None]]:
        return [self.of(loaded.invocation), *(self.of(each) for each in loaded.entries)]

    def of(self, row: Stored) -> tuple[Stored, Stored | None]:
        """The row as it is, and as it should be; None if it cannot be read."""
        if all(self._is_right(each) for each in _cells(row)):
            return row, row
        match row:
            case Invocation():
                opened = self._seal.open_invocation(copy(row))
                after: Stored = self._seal.invocation(opened)
                cells = _cells(opened)
            case Entry():
                (entry,) = self._seal.open_loaded(Loaded(copy(_NOBODY), [copy(row)])).entries
                after, cells = self._seal.entry(entry), _cells(entry)
            case EntityState():
                state = self._seal.open_state(row)
                after, cells = self._seal.state(state), _cells(state)
            case EntityField():
                field = replace(row, value=self._seal.open(row.value))
                after, cells = replace(row, value=self._seal.payload(field.value)), _cells(field)
            case Chunk():
                chunk = self._seal.open_chunk(row)
                after, cells = self._seal.chunk(chunk), _cells(chunk)
        readable = not any(isinstance(each, Unreadable | UnreadableFailure) for each in cells)
        return row, after if readable else None

    def _is_right(self, cell: str | bytes | Failure | None) -> bool:
        if cell is None or cell == "":
            return True
        data = data_of(cell)
        return data is not None and self._is_current(data)


_NOBODY: Final = Invocation(id="", partition=0, handler="")


def _cells(row: Stored) -> list[str | bytes | Failure | None]:
    match row:
        case Invocation():
            beats = (each.value for each in row.heartbeats)
            return [row.args, row.result, row.failure, *beats]
        case Entry():
            return [row.value, row.failure]
        case EntityState():
            return [row.state]
        case EntityField() | Chunk():
            return [row.value]
