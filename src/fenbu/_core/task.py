"""A task in memory: its whole body is the unit that runs, and runs again."""

from __future__ import annotations

from fenbu._core import dispatch
from fenbu._core.effect import StopBody, WakeAt
from fenbu._core.event import BodyEnded
from fenbu._core.model import Failure, Status
from fenbu._core.resident import TIMEOUT, Resident
from fenbu.errors import EncodingError, PayloadUnreadable


class Task(Resident):
    """See the module."""

    __slots__ = ()

    def _run(self, now: float) -> None:
        invocation, spec = self.invocation, self.spec
        if invocation.cancel_reason is not None:
            self._end_cancelled(now)
            return
        if invocation.deadline_at is not None and invocation.deadline_at <= now:
            invocation.cancel_reason = TIMEOUT
            self._end_cancelled(now)
            return
        invocation.status = Status.RUNNING
        if invocation.started_at is None:
            invocation.started_at = now
        self.save()
        try:
            body = dispatch.task_body(spec, invocation)
        except PayloadUnreadable as error:
            self.park(Status.STUCK, error)
            return
        except EncodingError as error:
            self.fail(error, now)
            return
        self._arm_deadline()
        self._run_body(body)

    def _drop_code(self) -> None:
        self._stop_bodies()

    def _cancel(self, reason: str, now: float) -> None:
        self.invocation.cancel_reason = reason
        if self.bodies:
            self.save()
            self.partition.engine.batch.effects.append(StopBody(self.invocation.id, 0))
        else:
            self._end_cancelled(now)

    def body_ended(self, event: BodyEnded, now: float) -> None:
        if self.bodies.pop(event.command, None) is None:
            return
        invocation, outcome = self.invocation, event.outcome
        invocation.attempt = event.attempts_spent
        began = now if invocation.started_at is None else invocation.started_at
        if invocation.cancel_reason is not None and outcome.status is not Status.COMPLETED:
            self._end_cancelled(now)
        elif (wake_at := event.next_at(self.spec.retry, began, now)) is not None:
            self._wait_until(wake_at, outcome.failure)
        else:
            self.finish(event.final(self.spec.retry), now)

    def _wait_until(self, wake_at: float, failure: Failure | None) -> None:
        """Wait for the next attempt as a row, not in memory."""
        invocation = self.invocation
        if invocation.deadline_at is not None:
            wake_at = min(wake_at, invocation.deadline_at)
        invocation.failure = failure
        invocation.status = Status.PENDING
        invocation.crashes = 0
        invocation.wake_at = wake_at
        self.save()
        self.partition.forget(self)
        self.partition.survived(self)
        self.partition.engine.batch.effects.append(WakeAt(wake_at))
