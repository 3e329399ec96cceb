"""Turns the clock into ticks of the engine, and wakes calls that sleep in the database when they are due.

One timer of the event loop, armed for the earliest of: a timer in memory, a call to be let go, the first
due call on disk. No polling: an idle node sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fenbu._core.engine import Engine
from fenbu._node.clock import Clock

SLEEP_SECONDS_MAX = 5.0
"""Look at the clock at least so often: it may have been set."""


class Alarm:
    """See the module. `due` loads what is due on disk and tells when the next is."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        tick: Callable[[], None],
        due: Callable[[], Awaitable[float | None]],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._tick = tick
        self._due = due
        self._wake_at: float | None = None
        """When the first call on disk is due, as far as known."""
        self._armed_for = 0.0
        self._changed = asyncio.Event()
        self._handle: asyncio.TimerHandle | None = None

    def wake_at(self, instant: float) -> None:
        """A call on disk will be due."""
        if self._wake_at is None or instant < self._wake_at:
            self._wake_at = instant
            self.arm()

    def arm(self) -> None:
        """Something changed: sleep no longer than until the next instant that matters."""
        due = self.next_due()
        if due is None or (self._handle is not None and self._armed_for <= due):
            return
        self._set(due)

    def next_due(self) -> float | None:
        """The earliest instant that matters."""
        instants = (self._engine.next_tick(), self._wake_at)
        return min((each for each in instants if each is not None), default=None)

    def _set(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = due
        delay = min(max(0.0, due - self._clock.now()), SLEEP_SECONDS_MAX)
        self._handle = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._handle = None
        self._changed.set()

    async def run(self) -> None:
        """Ring for as long as the node lives."""
        while True:
            self.arm()
            await self._changed.wait()
            self._changed.clear()
            self._tick()
            if self._wake_at is not None and self._wake_at <= self._clock.now():
                self._wake_at = None
                next_due = await self._due()
                if next_due is not None:
                    self.wake_at(next_due)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
