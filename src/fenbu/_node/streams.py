"""Streams as they grow: one look at the database for all who read in this process.

Each reader asks for what comes after its cursor, and is answered with a bounded page.
"""

from __future__ import annotations

from fenbu._core import limit
from fenbu._core.model import FINISHED
from fenbu._core.topic import is_log
from fenbu._node.watch import Watch
from fenbu._storage.stream import StreamCursor, StreamPage
from fenbu.errors import CallNotFound


class StreamWatch(Watch[StreamCursor, StreamPage]):
    """See the module."""

    async def read(self, id_: str, stream: str, after: int) -> StreamPage:
        """What comes after a chunk: at least one more, or none because the call has ended.

        Raises:
            CallNotFound: There is no such call.
            Unavailable: This process stops.
        """
        return await self.wait(StreamCursor(id_, stream, after))

    def name_of(self, cursor: StreamCursor) -> str:
        return cursor.id

    async def load(self, cursors: list[StreamCursor]) -> list[StreamPage]:
        return await self._storage.load_chunks(cursors, limit=limit.CHUNK_ROWS_MAX)

    def found(self, cursor: StreamCursor, found: StreamPage) -> None:
        if found.chunks or found.status in FINISHED:
            self.answer(cursor, found)
        elif found.status is None and not is_log(cursor.id):
            error = CallNotFound(f"no call has the id {cursor.id!r}, or its retention is over")
            self.fail(cursor, error)
        else:
            self.wait_on(cursor, found.partition)
