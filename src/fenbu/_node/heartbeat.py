"""Heartbeats of running bodies: the last one of each is kept, and given to the engine about once a second.

All that have said something since are reported together, and so are in one batch, whatever their number.
Never a commit for a heartbeat: it is a change of its call's row, which waits for the batch like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fenbu._core.effect import RunBody
from fenbu._core.event import BodyBeat
from fenbu._core.model import Heartbeat, Payload
from fenbu._node.clock import Clock

PAUSE_SECONDS = 1.0
"""Between two reports."""

Key = tuple[str, int]


class _Last:
    """The last one of a body."""

    __slots__ = ("at", "body", "is_new", "payload")

    def __init__(self, body: RunBody) -> None:
        self.body = body
        self.payload: Payload = ""
        self.at = 0.0
        self.is_new = False


class Heartbeats:
    """See the module. `report` takes those of one round."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        report: Callable[[list[BodyBeat]], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._report = report
        self.last: dict[Key, _Last] = {}
        """What each body that runs has said last, of those that have."""
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._is_over = False

    def put(self, body: RunBody, payload: Payload) -> None:
        """A body says how far it is. From any thread."""
        last = self.last.get((body.id, body.command))
        if last is None or last.body is not body:
            last = self.last[body.id, body.command] = _Last(body)
        last.payload, last.at = payload, self._clock.now()
        if not last.is_new:
            last.is_new = True
            if asyncio._get_running_loop() is self._loop:  # noqa: SLF001
                self._plan()
            else:
                self._loop.call_soon_threadsafe(self._plan)

    def _plan(self) -> None:
        if self._timer is None and not self._is_over:
            self._timer = self._loop.call_at(max(self._next_at, self._loop.time()), self._round)

    def _round(self) -> None:
        self._timer = None
        self._next_at = self._loop.time() + PAUSE_SECONDS
        new = [each for each in list(self.last.values()) if each.is_new]
        if new:
            self._report([_event(each) for each in new])

    def end(self, key: Key) -> BodyBeat | None:
        """The body has ended: what it said last, if that has not been reported."""
        last = self.last.pop(key, None)
        return None if last is None or not last.is_new else _event(last)

    def stop(self) -> list[BodyBeat]:
        """Nothing runs any longer: what has not been reported."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        last, self.last = self.last, {}
        return [_event(each) for each in last.values() if each.is_new]


def _event(last: _Last) -> BodyBeat:
    last.is_new = False
    body, payload = last.body, last.payload
    text, data = (payload, None) if isinstance(payload, str) else (None, payload)
    return BodyBeat(
        body.partition, body.id, body.attempt, Heartbeat(body.command, last.at, text, data)
    )
