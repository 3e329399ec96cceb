"""So many at a time, over all processes: a semaphore, and a mutex, which is one with one permit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import fenbu
from fenbu import App, CallCancelled, Entity, callback
from fenbu.contrib import argument


@dataclass
class Permit:
    """One that somebody has."""

    token: str
    """Of the callback by which he got it."""
    until: float | None
    """When it is taken from him, in seconds since 1970."""


def _entity(app: App, name: str, permits: int, lease_seconds: float | None) -> Callable[[str], Any]:
    """Who holds a key, and who waits for it."""

    @app.entity(name=name)
    class Permits(Entity):
        count: int = 0
        """Permits ever given: the last one's number."""
        held: dict[int, Permit] = {}
        queue: list[str] = []

        async def request(self, token: str) -> None:
            self.queue.append(token)
            await self._give()

        async def withdraw(self, token: str) -> None:
            """He waits no longer, or has got it just now and does not know."""
            self.queue = [each for each in self.queue if each != token]
            self.held = {n: each for n, each in self.held.items() if each.token != token}
            await self._give()

        async def release(self, number: int) -> bool:
            had = self.held.pop(number, None) is not None
            await self._give()
            return had

        async def renew(self, number: int) -> bool:
            permit = self.held.get(number)
            if permit is None:
                return False
            self._lease(number, permit)
            return True

        async def expire(self, number: int) -> None:
            permit = self.held.get(number)
            if permit is None or permit.until is None:
                return
            left = permit.until - fenbu.now().timestamp()
            if left > 0:
                self.send_later(left, self.expire, number)
            else:
                del self.held[number]
                await self._give()

        async def _give(self) -> None:
            while self.queue and len(self.held) < permits:
                self.count += 1
                token = self.queue.pop(0)
                permit = self.held[self.count] = Permit(token, None)
                if lease_seconds is not None:
                    self._lease(self.count, permit)
                    self.send_later(lease_seconds, self.expire, self.count)
                await app.complete(token, self.count)

        def _lease(self, number: int, permit: Permit) -> None:
            if lease_seconds is not None:
                permit.until = fenbu.now().timestamp() + lease_seconds
                self.held[number] = permit

    return Permits


class Semaphore:
    """At most so many holders of a key at a time; those who wait get their turn in order.

    Args:
        app: Whose database keeps it. Make the same semaphore in each process that runs its nodes.
        name: Names it in the database.
        permits: How many may hold a key at a time.
        lease_seconds: After so long a permit is taken from its holder, unless he renews it: for holders that
            may vanish, such as a client's process. None: he gives it back himself, as workflows do however
            they end, if they are not terminated.

    Raises:
        UsageError: A value that makes no sense.

    Example:
        ```python
        printers = Semaphore(app, "printers", permits=2, lease_seconds=300)

        @app.workflow
        async def print_labels(order: Order) -> None:
            async with printers.hold("berlin"):
                await step(send_to_printer, order)
        ```
    """

    def __init__(
        self, app: App, name: str = "semaphore", *, permits: int = 1, lease_seconds: float | None
    ) -> None:
        argument.count(f"{type(self).__name__}(permits", permits)
        if lease_seconds is not None:
            argument.seconds(f"{type(self).__name__}(lease_seconds", lease_seconds)

        permits_of = _entity(app, name, permits, lease_seconds)

        @app.workflow(name=f"{name}-acquire", retention=3600)
        async def acquire(key: str) -> int:
            turn = await callback(int)
            try:
                # Whoever is cancelled while he asks may be in the queue already.
                await permits_of(key).request(turn.token)
                return await turn.result()
            except asyncio.CancelledError:
                await permits_of(key).withdraw(turn.token)
                raise

        self._permits = permits_of
        self._acquire = acquire
        self.lease_seconds = lease_seconds

    async def acquire(self, key: str = "") -> int:
        """Wait for a permit.

        Returns:
            Its number, which grows from holder to holder: a fencing token, by which whatever is protected can
            refuse one who has lost his permit and does not know (M. Kleppmann, "How to do distributed
            locking", 2016).
        """
        starting = asyncio.ensure_future(self._acquire.start(key or "-"))
        try:
            handle = await asyncio.shield(starting)
            return await handle.result()
        except asyncio.CancelledError:
            handle = await starting
            await handle.cancel()
            # It may have got the permit before it heard of that.
            with suppress(CallCancelled):
                await self.release(await handle.result(), key)
            raise

    async def release(self, number: int, key: str = "") -> bool:
        """Give a permit back; False if it had been taken away."""
        return await self._permits(key or "-").release(number)

    async def renew(self, number: int, key: str = "") -> bool:
        """Keep a permit for another `lease_seconds`; False if it has been taken away."""
        return await self._permits(key or "-").renew(number)

    @asynccontextmanager
    async def hold(self, key: str = "") -> AsyncGenerator[int]:
        """Hold a permit of this key inside the block: in a workflow, a client or a step."""
        number = await self.acquire(key)
        try:
            yield number
        finally:
            await self.release(number, key)


class Mutex(Semaphore):
    """One holder of a key at a time. See `Semaphore`."""

    def __init__(self, app: App, name: str = "mutex", *, lease_seconds: float | None) -> None:
        super().__init__(app, name, permits=1, lease_seconds=lease_seconds)
