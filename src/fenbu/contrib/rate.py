"""So many per second, over all processes."""

from __future__ import annotations

import asyncio

import fenbu
from fenbu import App, Entity, TerminalError
from fenbu.contrib import argument


class RateLimited(TerminalError):
    """It would have been longer until its turn than it was willing to wait."""


class RateLimiter:
    """Lets so many pass per second and key, and a burst of so many at once.

    The algorithm is the generic cell rate algorithm (ATM Forum, "Traffic Management Specification", 1996) in
    its form with reservations: whoever asks is told how long to wait, and his place is taken.

    Args:
        app: Whose database keeps it. Make the same limiter in each process that runs its nodes.
        name: Names it in the database.
        per_second: How many may pass each second, in the long run; 0.1 is one in ten seconds.
        burst: How many may pass at once after a pause.

    Example:
        ```python
        calls = RateLimiter(app, "bank", per_second=20, burst=5)

        @app.workflow
        async def pay(order: Order) -> str:
            await calls.turn("visa")
            return await step(charge, order)
        ```
    """

    def __init__(self, app: App, name: str = "rate", *, per_second: float, burst: int = 1) -> None:
        if not per_second > 0:
            raise fenbu.UsageError(f"RateLimiter(per_second={per_second!r}): must be above 0")
        argument.count("RateLimiter(burst", burst)
        interval = 1.0 / per_second

        @app.entity(name=name, retention=0)
        class Rate(Entity):
            full_at: float = 0.0
            """When, at this rate, all places that have been taken will have passed."""

            async def reserve(self, count: int, most: float | None) -> float | None:
                now = fenbu.now().timestamp()
                full_at = max(self.full_at, now) + count * interval
                wait = max(0.0, full_at - burst * interval - now)
                if most is not None and wait > most:
                    return None
                self.full_at = full_at
                return wait

        self._rate = Rate

    async def turn(
        self, key: str = "", *, count: int = 1, max_wait_seconds: float | None = None
    ) -> None:
        """Wait for one's turn; in a workflow this is a durable timer.

        Args:
            key: Each key has a rate of its own.
            count: How many places to take.
            max_wait_seconds: Rather fail than wait longer.

        Raises:
            RateLimited: It would take longer, and no place was taken.
            UsageError: A count that makes no sense.
        """
        argument.count("turn(count", count)
        wait = await self._rate(key or "-").reserve(count, max_wait_seconds)
        if wait is None:
            raise RateLimited(
                f"{key or 'its'} turn would come later than in {max_wait_seconds:g} s"
            )
        if wait > 0:
            await asyncio.sleep(wait)
