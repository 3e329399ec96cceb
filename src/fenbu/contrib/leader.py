"""One process of many does something, and another one when that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fenbu import App, StorageError
from fenbu.contrib import argument
from fenbu.contrib.semaphore import Mutex


class Leader:
    """Elects one of the processes that ask; for work that is no durable call, such as holding a socket open.

    The leader renews a lease. When it cannot, it stops the work before the lease is over, so that no two lead
    at a time, as far as their event loops run: a process that stands still cannot notice. What the work
    writes elsewhere should carry its number, see `Semaphore.acquire`.

    Args:
        app: Open in this process, as a node or as a client.
        name: Names the election in the database.
        lease_seconds: How long after the end of a leader's process another one leads, at most; above 0.

    Raises:
        UsageError: A value that makes no sense.

    Example:
        ```python
        leader = Leader(app, "feed", lease_seconds=15)

        async def read_feed(number: int) -> None: ...

        await leader.run(read_feed)                 # in each process: waits, leads, until read_feed ends
        ```
    """

    def __init__(self, app: App, name: str = "leader", *, lease_seconds: float = 15.0) -> None:
        argument.seconds("Leader(lease_seconds", lease_seconds)
        self._mutex = Mutex(app, name, lease_seconds=lease_seconds)
        self._lease_seconds = lease_seconds

    async def run(self, work: Callable[[int], Awaitable[None]], key: str = "") -> None:
        """Wait to be the leader, and work as that, again and again until the work ends by itself.

        Args:
            work: Gets the number of this leadership, and is cancelled when it ends.
            key: Each key has a leader of its own.

        Raises:
            Exception: What the work raises.
        """
        while True:
            number = await self._mutex.acquire(key)
            working = asyncio.ensure_future(work(number))
            try:
                if await self._lead(working, number, key):
                    working.result()
                    return
            finally:
                working.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await working
                with suppress(StorageError):
                    await self._mutex.release(number, key)

    async def _lead(self, working: asyncio.Future[None], number: int, key: str) -> bool:
        """Until the work ends, which is True, or the lease does."""
        loop = asyncio.get_running_loop()
        third = self._lease_seconds / 3
        good_until = loop.time() + 2 * third
        while True:
            await asyncio.wait((working,), timeout=third)
            if working.done():
                return True
            began = loop.time()
            try:
                async with asyncio.timeout(good_until - began):
                    if not await self._mutex.renew(number, key):
                        return False
            except StorageError:
                if loop.time() >= good_until:
                    return False
            except TimeoutError:
                return False
            else:
                good_until = began + 2 * third
