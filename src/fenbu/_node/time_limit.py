"""How long an attempt may take: a soft limit that it is told of, a hard one, and a limit of its silence.

An `async def` is told by `SoftTimeout`, raised where it waits, and ended by a cancellation. Plain functions
have an event to look at, and what they return after the hard limit nobody hears.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Self

from fenbu._core.effect import RunBody
from fenbu._core.need import Limits
from fenbu.errors import CallTimedOut, SoftTimeout

_NONE = Limits()


class Allowance:
    """What a body can know of its time, from any thread.

    Args:
        soft_seconds: From now on; then it is told.
        hard_seconds: From now on; then nobody waits for it any longer.
        time: A clock that only goes forward.
    """

    def __init__(
        self,
        soft_seconds: float | None,
        hard_seconds: float | None,
        time: Callable[[], float],
    ) -> None:
        self._soft_seconds = soft_seconds
        self._hard_seconds = hard_seconds
        self._time = time
        self._event: threading.Event | None = None
        self._measure()

    def _measure(self) -> None:
        """From now on."""
        now, soft, hard = self._time(), self._soft_seconds, self._hard_seconds
        self._soft_at = None if soft is None else now + soft
        self._hard_at = None if hard is None else now + hard

    def remaining_seconds(self) -> float | None:
        """Until the soft limit, and when that has passed until the hard one; None if there is neither."""
        now = self._time()
        ends = [each for each in (self._soft_at, self._hard_at) if each is not None]
        if not ends:
            return None
        return max(0.0, next((each for each in ends if each > now), now) - now)

    def event(self) -> threading.Event:
        """Set when the first of them has passed."""
        if self._event is None:
            self._event = threading.Event()
            end = self._hard_at if self._soft_at is None else self._soft_at
            if end is not None and end <= self._time():
                self._event.set()
        return self._event


class TimeLimit(Allowance):
    """Of one attempt, from now on. Used as `async with`, in the task that runs the body.

    That of a body which has to wait for a process begins with `begin`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, body: RunBody) -> None:
        limits = body.work.limits or _NONE
        self._loop = loop
        self._attempt = f"{body.name}: attempt {body.attempt}"
        self._silence_seconds = limits.heartbeat_seconds
        super().__init__(limits.soft_seconds, body.work.timeout_seconds, loop.time)
        self._waits = body.work.cpu
        self.heard_at = loop.time()
        """When the body was last heard of."""
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_softening = False
        self._is_soft_over = self._soft_at is None
        self._expired: str | None = None
        self.softly_now: Callable[[], None] = lambda: None
        """Told when the soft limit has passed, if the body is no coroutine."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        if not self._waits:
            self._look()
        return self

    def begin(self) -> None:
        """It runs, after it has waited."""
        if self._waits:
            self._waits = False
            self._measure()
            self.heard_at = self._loop.time()
            self._look()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waits = False
        if self._timer is not None:
            self._timer.cancel()
        if self._event is not None:
            self._event.set()
        if isinstance(error, SoftTimeout):
            raise CallTimedOut(str(error)) from error
        task = self._task
        if self._expired is None or task is None:
            return
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise CallTimedOut(self._expired) from None

    def _look(self) -> None:
        """Do what is due, and look again when the next thing is."""
        now = self._loop.time()
        self._timer = None
        silence = self._silence_seconds
        silent_at = None if silence is None else self.heard_at + silence
        if self._hard_at is not None and now >= self._hard_at:
            self._expire(f"took longer than its timeout of {self._hard_seconds:g} s")
            return
        if silent_at is not None and now >= silent_at:
            self._expire(f"gave no heartbeat for {silence:g} s, as it must")
            return
        if not self._is_soft_over and self._soft_at is not None and now >= self._soft_at:
            self._is_soft_over = True
            self._soften()
        soft_at = None if self._is_soft_over else self._soft_at
        due = [each for each in (soft_at, self._hard_at, silent_at) if each is not None]
        if due:
            self._timer = self._loop.call_at(min(due), self._look)

    def _expire(self, what: str) -> None:
        self._expired = f"{self._attempt} {what}"
        if self._event is not None:
            self._event.set()
        if self._task is not None:
            self._task.cancel()

    def _soften(self) -> None:
        if self._event is not None:
            self._event.set()
        self.softly_now()

    def softly(self, work: Coroutine[Any, Any, Any]) -> _Softly:
        """Run a coroutine that is to get a `SoftTimeout` where it waits."""
        self.softly_now = self._interrupt
        return _Softly(self, work)

    def _interrupt(self) -> None:
        """What it waits for is cancelled; the coroutine gets something else than it would by that."""
        self._is_softening = True
        if self._task is not None:
            self._task.cancel()

    def converted(self, error: BaseException | None) -> BaseException | None:
        """What the coroutine gets in place of this error, or of a value."""
        task = self._task
        if not self._is_softening or task is None:
            return error
        self._is_softening = False
        if task.uncancel() > self._cancelling or not isinstance(
            error, asyncio.CancelledError | None
        ):
            return (
                error  # Somebody else has cancelled it, too; or it has to hear of something else.
            )
        return SoftTimeout(
            f"{self._attempt} took longer than its soft timeout of {self._soft_seconds:g} s"
        )


class _Softly:
    """Hands on whatever a coroutine waits for, and chooses what is raised into it."""

    def __init__(self, limit: TimeLimit, work: Coroutine[Any, Any, Any]) -> None:
        self._limit = limit
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        work, error = self._work, None
        while True:
            try:
                waits_for = work.send(None) if error is None else work.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            try:
                yield waits_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as raised:  # noqa: BLE001 - it is handed on
                error = raised
            error = self._limit.converted(error)
