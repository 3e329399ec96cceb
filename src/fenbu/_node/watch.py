"""Looking at the database for all in this process who wait until something there is other than they know it.

Readers pull: each asks for what comes after what it has seen, is answered once, and costs nothing until it
asks again. Those who wait are looked after when there are news of what they wait for, after a hint, and, if
nobody here would tell, from time to time: soon after something has come, and then less and less often.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable
from itertools import islice
from typing import Generic, TypeVar

from fenbu._core import limit
from fenbu._storage.protocol import Storage
from fenbu.errors import FenbuError, Unavailable

LOOK_SECONDS_MIN = 0.02

C = TypeVar("C", bound=Hashable)
F = TypeVar("F")


class Watch(ABC, Generic[C, F]):
    """See the module: a cursor `C` says what one reader has seen, and an `F` is its answer.

    `owned` are the partitions of which somebody else tells what happens there: then one look is enough.
    `listen` is called when somebody waits, and `pause_seconds` is the longest time between two looks.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        pause_seconds: float,
        owned: Callable[[], Collection[int]] = tuple,
        listen: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._owned = owned
        self._owned_when_asked: Collection[int] = ()
        """Of those that are taken while the answer is on its way it may show what was before."""
        self._listen = listen
        self._pause_max = pause_seconds
        self._pause = LOOK_SECONDS_MIN
        self.waiting: dict[C, list[asyncio.Future[F]]] = {}
        """Who waits. Looked at for each call that ends, so it is no method."""
        self._by_name: dict[Hashable, dict[C, None]] = {}
        self._news: dict[C, None] = {}
        """To be looked after at once. A set that keeps its order."""
        self._elsewhere: dict[C, None] = {}
        """Nobody tells of these."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    def name_of(self, cursor: C) -> Hashable:
        """Under which `news` tells of it."""

    @abstractmethod
    async def load(self, cursors: list[C]) -> list[F]:
        """What the database has for each."""

    @abstractmethod
    def found(self, cursor: C, found: F) -> None:
        """It has this for one who waits: `answer`, `fail`, or `wait_on`."""

    async def wait(self, cursor: C) -> F:
        """The answer for a cursor, as soon as there is one.

        Raises:
            Unavailable: This process stops.
        """
        future: asyncio.Future[F] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(cursor, []).append(future)
        self._by_name.setdefault(self.name_of(cursor), {})[cursor] = None
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

    def news(self, name: Hashable) -> None:
        """Something has happened here to what bears this name."""
        cursors = self._by_name.get(name)
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
            self.fail(cursor, error)

    # What has been found.

    def answer(self, cursor: C, found: F) -> None:
        """This is what it has waited for."""
        futures = self.waiting[cursor]
        self._forget(cursor)
        for future in futures:
            if not future.done():
                future.set_result(found)

    def fail(self, cursor: C, error: BaseException) -> None:
        """There will be no answer."""
        futures = self.waiting.get(cursor, [])
        self._forget(cursor)
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def wait_on(self, cursor: C, partition: int) -> None:
        """Nothing new; what it waits for would happen in this partition."""
        if partition in self._owned_when_asked:
            self._elsewhere.pop(cursor, None)
        else:
            self._elsewhere[cursor] = None

    # Looking.

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
            self._owned_when_asked = frozenset(self._owned())
            try:
                answers = await self.load(cursors)
            except Unavailable:
                # The database is away: those who wait do so until it is back.
                self._news.update((each, None) for each in cursors if each in self.waiting)
                self._pause = min(2 * self._pause, self._pause_max)
                return False
            except FenbuError as error:
                for each in cursors:
                    self.fail(each, error)
                continue
            for cursor, found in zip(cursors, answers, strict=True):
                if cursor in self.waiting:
                    self.found(cursor, found)
        return True

    def _forget(self, cursor: C) -> None:
        self.waiting.pop(cursor, None)
        self._news.pop(cursor, None)
        self._elsewhere.pop(cursor, None)
        name = self.name_of(cursor)
        cursors = self._by_name.get(name)
        if cursors is not None:
            cursors.pop(cursor, None)
            if not cursors:
                del self._by_name[name]
        if not self.waiting:
            # Unless somebody comes at once, as a reader with the next page does, the looking ends.
            self._wake.set()
