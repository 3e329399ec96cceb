"""A thread with one connection: statements run there, and the event loop is told when they are done.

A storage has two: the writer, so that commits follow one another, and the reader, so that reads do not
wait behind them. Work is a function of the session; a transaction that it leaves open by an error is rolled
back, so the session is usable again after whatever happened. A writer that has been busy for long without a
pause steps aside for a moment, so that other processes get their turn.
`run_here` does without the thread when that has nothing to do: it saves two switches between threads, which
take as long as writing to a good disk.
Absent: a pool, and a retry of anything.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from fenbu._storage.sqlite.error import classify
from fenbu._storage.sqlite.session import Session
from fenbu.errors import Unavailable, UsageError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]]

BUSY_SECONDS_MAX: Final = 0.1
"""A writer works for so long without a pause, and then …"""

ASIDE_SECONDS: Final = 0.002
"""… leaves one of two looks of those that wait, see `session.py`: a fiftieth of its time at most."""


class Connection:
    """See the module. Opened and closed from the event loop; never shared with a forked child."""

    def __init__(self, path: str, name: str, *, steps_aside: bool = False) -> None:
        self._path = path
        self._steps_aside = steps_aside
        self._process = os.getpid()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._session: Session | None = None
        self._todo = 0
        """Jobs that the thread has not done yet."""
        self._thread = threading.Thread(target=self._serve, name=f"fenbu-{name}", daemon=True)
        self._thread.start()
        self._open = True

    async def run(
        self,
        work: Callable[Concatenate[Session, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Let the thread do it. A caller that is cancelled does not stop it."""

        def job() -> _T:
            if self._session is None:
                raise Unavailable(f"{self._path} is not open")
            return work(self._session, *args, **kwargs)

        return await self._submit(job)

    def run_here(
        self,
        work: Callable[Concatenate[Session, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T | None:
        """Do it at once in the caller's thread; None if the connection's own thread is busy.

        It does not wait for another process's lock.

        Raises:
            sqlite3.Error: As it comes.
        """
        session = self._session
        if session is None or self._todo or self._process != os.getpid():
            return None
        waits, session.busy_seconds = session.busy_seconds, 0.0
        try:
            return work(session, *args, **kwargs)
        except BaseException:
            # Also a KeyboardInterrupt, which no other thread gets.
            session.roll_back()
            raise
        finally:
            session.busy_seconds = waits

    async def open(self, connect: Callable[[], Session]) -> None:
        """Connect, in the thread."""

        def opened() -> None:
            self._session = connect()

        await self._submit(opened)

    async def close(self) -> None:
        """Finish what was asked for, then disconnect."""
        if not self._open:
            return

        def closed() -> None:
            session, self._session = self._session, None
            if session is not None:
                session.close()

        try:
            await self._submit(closed)
        finally:
            self._open = False
            self._jobs.put(None)

    async def _submit(self, job: Callable[[], _T]) -> _T:
        if self._process != os.getpid():
            raise UsageError(
                f"{self._path} was opened in process {self._process}, and this is a fork of it: open "
                "it anew here, or start the process with `spawn`"
            )
        if not self._open:
            raise Unavailable(f"{self._path} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._todo += 1
        self._jobs.put((job, loop, future))
        return await future

    def _serve(self) -> None:
        paused_at = monotonic()
        while True:
            began = monotonic()
            each = self._jobs.get()
            if each is None:
                return
            now = monotonic()
            if now - began >= ASIDE_SECONDS:
                paused_at = now
            elif self._steps_aside and now - paused_at >= BUSY_SECONDS_MAX:
                sleep(ASIDE_SECONDS)
                paused_at = monotonic()
            job, loop, future = each
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001  (it is raised where the caller waits)
                if self._session is not None:
                    self._session.roll_back()
                self._send(loop, future, None, self._classified(error))
            else:
                self._send(loop, future, result, None)
            # While it waits for the next job, this thread keeps nothing alive.
            result = None
            del each, job, loop, future

    def _classified(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        found = classify(error, self._path)
        found.__cause__ = error
        return found

    def _send(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
        result: object,
        error: BaseException | None,
    ) -> None:
        try:
            loop.call_soon_threadsafe(self._resolve, future, result, error)
        except RuntimeError:
            # The loop was closed in the meantime: nobody waits any more.
            return

    def _resolve(
        self, future: asyncio.Future[Any], result: object, error: BaseException | None
    ) -> None:
        self._todo -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
