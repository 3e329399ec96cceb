"""How far the demo is, read from the database: what was fed, what of it is in flight, what is applied.

A call is in flight from its acceptance to its end: as a message in the inbox, then as an open call. What
was fed and is not in flight has been applied. A read and a feeding take turns, so that both numbers
belong to the same moment: a restart is timed by the first call that is applied after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fenbu import Status
from fenbu._cli.demo.app import close_day, close_year
from fenbu._storage.observer import Observer
from fenbu.errors import FenbuError

READ_SECONDS = 0.1

STALLED_SECONDS = 60.0
"""What has not moved for so long never will."""


class Stalled(FenbuError):
    """A call or a signal must have been lost: not all is done, and nothing moves."""


class Gauge:
    """See the module. `show` is called after each read.

    Attributes:
        turn: Hold it while calls are fed and added to the numbers.
        flights: Fed so far.
        calls: Fed so far.
        in_flight: Calls that were fed and not applied.
        applied: Calls that were fed and applied.
        days: Closed so far.
        years: Closed so far.
    """

    def __init__(self, observer: Observer, show: Callable[[Gauge], None]) -> None:
        self.turn = asyncio.Lock()
        self.flights = 0
        self.calls = 0
        self.in_flight = 0
        self.applied = 0
        self.days = 0
        self.years = 0
        self._observer = observer
        self._show = show
        self._moved_at: float | None = None
        """None before the first reading: by then the worker has begun, which takes its time."""
        self._read = asyncio.Condition()

    async def read(self) -> None:
        """Look again.

        Raises:
            Stalled: Nothing has moved for long.
        """
        before = (self.applied, self.days, self.years)
        async with self.turn:
            # In this order: what leaves the inbox in between and becomes an open call counts twice, and
            # so is not taken for applied.
            waiting = await self._observer.inbox_count()
            counts = await self._observer.count_calls()
            opened = sum(
                count
                for (handler, status), count in counts.items()
                if handler.endswith(".record") and status in (Status.PENDING, Status.RUNNING)
            )
            self.in_flight = waiting + opened
            self.applied = max(self.applied, self.calls - self.in_flight)
            self.days = counts.get((close_day.name, Status.COMPLETED), 0)
            self.years = counts.get((close_year.name, Status.COMPLETED), 0)
        if self._moved_at is None or before != (self.applied, self.days, self.years):
            self._moved_at = time.monotonic()
        elif time.monotonic() > self._moved_at + STALLED_SECONDS:
            raise Stalled(f"nothing has moved for {STALLED_SECONDS:.0f} s")
        self._show(self)
        async with self._read:
            self._read.notify_all()

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self.read()
            await asyncio.sleep(READ_SECONDS)

    async def until_busy(self, calls: int) -> None:
        """Wait until so many calls have been applied while others are in flight."""
        async with self._read:
            await self._read.wait_for(lambda: self.applied >= calls and self.in_flight > 0)

    async def until_applied(self, calls: int) -> None:
        """Wait until so many calls have been applied."""
        async with self._read:
            await self._read.wait_for(lambda: self.applied >= calls)

    async def until_done(self, calls: int, days: int, years: int) -> None:
        """Wait until so much has been applied and closed."""
        async with self._read:
            await self._read.wait_for(
                lambda: self.applied >= calls and self.days >= days and self.years >= years
            )
