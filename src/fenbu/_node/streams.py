"""Streams as they grow: one look at the database for all who read in this process.

Readers pull: each asks for what comes after its cursor, is answered with a bounded page, and costs nothing
until it asks again. Those who wait are looked after when there are news of their call, after a hint, and, if
the call runs elsewhere, from time to time: soon after something has come, and then less and less often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from fenbu._core import limit
from fenbu._core.model import FINISHED
from fenbu._core.topic import is_log
from fenbu._storage.protocol import Storage
from fenbu._storage.stream import StreamCursor, StreamPage
from fenbu.errors import CallNotFound, FenbuError, Unavailable

LOOK_SECONDS_MIN = 0.02

Cursors = dict[StreamCursor, None]
"""A set that keeps its order."""


class StreamWatch:
    """See the module.

    `told` says whether somebody else tells of what happens to calls in a partition: then one look is enough.
    `listen` is called when somebody waits, and `pause_seconds` is the longest time between two looks.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        pause_seconds: float,
        told: Callable[[int], bool] = lambda _: False,
        listen: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._told = told
        self._listen = listen
        self._pause_max = pause_seconds
        self._pause = LOOK_SECONDS_MIN
        self.waiting: dict[StreamCursor, list[asyncio.Future[StreamPage]]] = {}
        """Who waits. Looked at for each call that ends, so it is no method."""
        self._by_id: dict[str, Cursors] = {}
        self._news: Cursors = {}
        """To be looked after at once."""
        self._elsewhere: Cursors = {}
        """Nobody tells of these."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def read(self, id_: str, stream: str, after: int) -> StreamPage:
        """What comes after a chunk: at least one more, or none because the call has ended.

        Raises:
            CallNotFound: There is no such call.
            Unavailable: This process stops.
        """
        cursor = StreamCursor(id_, stream, after)
        future: asyncio.Future[StreamPage] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(cursor, []).append(future)
        self._by_id.setdefault(id_, {})[cursor] = None
        self._news[cursor] = None
        self._pause = LOOK_SECONDS_MIN
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._listen()
        try:
            return await future
        finally:
            futures = self.waiting.get(cursor)
            if futures is not None and future in futures:
                futures.remove(future)
                if not futures:
                    self._forget(cursor)

    def news(self, id_: str) -> None:
        """Something has happened to a call here."""
        cursors = self._by_id.get(id_)
        if cursors is not None:
            self._news.update(cursors)
            self._wake.set()

    def look(self) -> None:
        """There may be news of any."""
        if self.waiting:
            self._news.update(dict.fromkeys(self.waiting))
            self._wake.set()

    async def stop(self, error: BaseException) -> None:
        """Nobody is to wait for ever."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for cursor in list(self.waiting):
            self._fail(cursor, error)

    async def _run(self) -> None:
        try:
            while self.waiting:
                self._wake.clear()
                if not await self._look():
                    await asyncio.sleep(self._pause)
                    continue
                try:
                    async with asyncio.timeout(self._pause if self._elsewhere else None):
                        await self._wake.wait()
                except TimeoutError:
                    self._pause = min(2 * self._pause, self._pause_max)
                    self._news.update(self._elsewhere)
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _look(self) -> bool:
        """Look after all of whom there may be news; false if the database did not answer."""
        while self._news:
            cursors = list(islice(self._news, limit.STREAM_CURSORS_MAX))
            for each in cursors:
                del self._news[each]
            try:
                pages = await self._storage.load_chunks(cursors, limit=limit.CHUNK_ROWS_MAX)
            except Unavailable:
                # The database is away: those who wait do so until it is back.
                self._news.update((each, None) for each in cursors if each in self.waiting)
                self._pause = min(2 * self._pause, self._pause_max)
                return False
            except FenbuError as error:
                for each in cursors:
                    self._fail(each, error)
                continue
            for cursor, page in zip(cursors, pages, strict=True):
                self._found(cursor, page)
        return True

    def _found(self, cursor: StreamCursor, page: StreamPage) -> None:
        if cursor not in self.waiting:
            return
        if page.chunks or page.status in FINISHED:
            futures = self.waiting[cursor]
            self._forget(cursor)
            for future in futures:
                if not future.done():
                    future.set_result(page)
        elif page.status is None and not is_log(cursor.id):
            error = CallNotFound(f"no call has the id {cursor.id!r}, or its retention is over")
            self._fail(cursor, error)
        elif self._told(page.partition):
            self._elsewhere.pop(cursor, None)
        else:
            self._elsewhere[cursor] = None

    def _fail(self, cursor: StreamCursor, error: BaseException) -> None:
        futures = self.waiting.get(cursor, [])
        self._forget(cursor)
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def _forget(self, cursor: StreamCursor) -> None:
        self.waiting.pop(cursor, None)
        self._news.pop(cursor, None)
        self._elsewhere.pop(cursor, None)
        cursors = self._by_id.get(cursor.id)
        if cursors is not None:
            cursors.pop(cursor, None)
            if not cursors:
                del self._by_id[cursor.id]
        if not self.waiting:
            # Unless somebody comes at once, as a reader with the next page does, the looking ends.
            self._wake.set()
