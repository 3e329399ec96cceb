"""States of entities as they change: one look at the database for all who watch them in this process.

A watcher is answered when the state is another than the last one it has seen. All that it sees comes from
looks that follow one another, so it never sees an older state after a newer one; what changes between two of
its questions it sees as one change. The last state it sees always: it asks again, and is told.
"""

from __future__ import annotations

from msgspec import Struct

from fenbu._core.batch import CommitBatch
from fenbu._core.model import EntityState, Payload
from fenbu._node.watch import Watch


class EntityCursor(Struct, frozen=True, eq=False):
    """What one watcher waits for: another state than it has seen. Each is itself only."""

    entity: str
    key: str
    partition: int
    seen: EntityState | None
    is_first: bool = False
    """It has seen nothing yet: any state is news, and that there is none."""


class EntityWatch(Watch[EntityCursor, EntityState | None]):
    """See the module."""

    def name_of(self, cursor: EntityCursor) -> tuple[str, str]:
        return cursor.entity, cursor.key

    async def load(self, cursors: list[EntityCursor]) -> list[EntityState | None]:
        names = list(dict.fromkeys(map(self.name_of, cursors)))
        states = {
            (each.entity, each.key): each for each in await self._storage.load_entities(names)
        }
        return [states.get(self.name_of(each)) for each in cursors]

    def found(self, cursor: EntityCursor, found: EntityState | None) -> None:
        if cursor.is_first or _content(found) != _content(cursor.seen):
            self.answer(cursor, found)
        else:
            self.wait_on(cursor, cursor.partition)

    def committed(self, rows: CommitBatch) -> None:
        """These rows have been made durable here."""
        if self.waiting:
            for each in rows.entities:
                self.news((each.entity, each.key))
            for name in rows.entities_deleted:
                self.news(name)


def _content(state: EntityState | None) -> tuple[Payload, int] | None:
    """What is news about it: not when it was written, or until when it holds."""
    return None if state is None else (state.state, state.version)
