"""Notice that another process has written, without asking the database while it is quiet.

A commit of anybody changes the time or size of the write-ahead log, so a look at those two files every
`POLL_SECONDS` is enough while nothing happens. When they have changed, a client takes that for news. The
owner asks the inbox for its last number, because its own commits change the files too, and messages are all
that others write. As a file's time is coarse, both also ask the database once in `ASK_SECONDS`.

A database that does not answer gives no hint, and no error either.
It remembers what it has seen between two waits, so that nothing falls in between; one task at a time waits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from fenbu._storage.sqlite.rows import INBOX_SQL
from fenbu._storage.sqlite.session import Session
from fenbu.errors import Unavailable

POLL_SECONDS: Final = 0.02
"""Two calls of `stat` take 5 µs, fifty times a second."""

ASK_SECONDS: Final = 1.5

SETTLE_SECONDS: Final = 0.1
"""For so long after a change the database is asked at each look: two commits within one tick of the file
system's clock, some milliseconds, can leave the same time and size."""

Signature = tuple[tuple[int, int] | None, ...]
Version = tuple[int, int]
"""The last number of the inbox, and one that changes with every commit of another connection."""


class ChangeWatch:
    """See the module. `ask` reads the version from a connection that never writes."""

    def __init__(self, path: str, ask: Callable[[], Awaitable[Version]]) -> None:
        self._paths = (f"{path}-wal", path)
        self._ask = ask
        self._signature: Signature = ()
        self._version: Version = (0, 0)
        self._asked_at = 0.0
        self._moved_at = 0.0

    async def begin(self) -> None:
        """Whatever changes from here on is news."""
        self._signature = self._look()
        self._version = await self._ask()
        self._asked_at = self._moved_at = asyncio.get_running_loop().time()

    async def wait(self, seconds: float, *, owner: bool) -> bool:
        """True when something has changed since the last time, false after `seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            now = loop.time()
            # The look comes before the question, so a change between them is seen again, not lost.
            signature = self._look()
            moved = signature != self._signature
            if moved:
                self._moved_at = now
            if moved and not owner:
                self._signature = signature
                return True
            if (
                moved
                or now < self._moved_at + SETTLE_SECONDS
                or now >= self._asked_at + ASK_SECONDS
            ):
                try:
                    version = await self._ask()
                except Unavailable:
                    # A hint less. Whoever then reads or writes in earnest will hear of it.
                    version = self._version
                news = version[0] != self._version[0] if owner else version != self._version
                self._signature, self._version, self._asked_at = signature, version, now
                if news:
                    return True
            if now >= end:
                return False
            await asyncio.sleep(min(POLL_SECONDS, end - now))

    def _look(self) -> Signature:
        return tuple(map(_stat, self._paths))


def _stat(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (a third of the time of a Path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def version(session: Session) -> Version:
    """See `Version`."""
    return session.execute(INBOX_SQL["version"]).fetchone()
