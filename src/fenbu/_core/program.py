"""A workflow or an operation in memory: code that is driven through its journal, event by event.

Guarantee: step-once. A step whose outcome is in the journal is never run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fenbu._core import advice, dispatch, fork, journal, limit, nest, tie
from fenbu._core.activation import Activation, answers_of
from fenbu._core.anew import ContinueAsNew, anew_of
from fenbu._core.branch import branch
from fenbu._core.command import (
    AbandonStep,
    AppendEvent,
    CloseStream,
    EndUpdate,
    MarkPatch,
    OpenCallback,
    ParentEnd,
    ReadField,
    RunStep,
    SeeField,
    SetAttributes,
    StartTimer,
    WriteChunk,
)
from fenbu._core.delivery import deliver
from fenbu._core.effect import StopBody, WakeAt, Warn
from fenbu._core.event import BodyEnded
from fenbu._core.handler import HandlerSpec
from fenbu._core.loop import EndlessLoopError
from fenbu._core.message import Cancel, Message, Reply, Signal
from fenbu._core.middleware import around_code
from fenbu._core.model import (
    COMPLETED,
    RUNNING,
    STEP_COMPLETED,
    Entry,
    EntryKind,
    Invocation,
    Outcome,
    Status,
)
from fenbu._core.operating import Operating
from fenbu._core.resident import DEADLINE, HISTORY, TIMEOUT, set_attributes, stop_before
from fenbu.errors import EncodingError, NonDeterminismError, PayloadUnreadable, UsageError

if TYPE_CHECKING:
    from fenbu._core.partition import Partition


class Program(Operating):
    """See the module."""

    __slots__ = ("_carried",)

    def __init__(
        self,
        partition: Partition,
        invocation: Invocation,
        spec: HandlerSpec,
        entries: list[Entry] | None = None,
    ) -> None:
        super().__init__(partition, invocation, spec)
        self._entries = entries or None
        """The journal as loaded, until it has been replayed."""
        self._position = len(entries) if entries else 0
        if spec.entity is not None and (entries or invocation.commands):
            self.fields_seen = journal.fields_seen(invocation, entries or ())
            self.ground = journal.ground(entries or ())
        self._carried: deque[Entry] | None = None
        """Signals that the run before has not read, on their way to this one."""
        self._tied = None

    # Running.

    def _run(self, now: float) -> None:
        invocation = self.invocation
        fresh = invocation.started_at is None
        if invocation.started_at is None:
            invocation.started_at = now
        invocation.status = RUNNING
        try:
            instance, lazy = None, None
            if self.mailbox is not None:
                instance = self.mailbox.instance_of(self)
                if self.mailbox.fields is not None:
                    lazy = self.mailbox.fields.values_of(self)
            coroutine = self._code(instance, is_replay=not fresh)
        except EncodingError as error:
            if fresh and not isinstance(error, PayloadUnreadable):
                self.fail(error, now)
            else:
                self.park(Status.STUCK, error)
            return
        engine = self.partition.engine
        activation = Activation(
            invocation, coroutine, invocation.started_at, engine.registry, engine.stage
        )
        self.activation, activation.lazy = activation, lazy
        entity = self.spec.entity
        if entity is not None and entity.reentrant:
            activation.chain = (*activation.chain, f"{nest.MARK}{invocation.id}")
            activation.restate = partial(entity.assign, instance)
        entries, self._entries = self._entries or [], None
        try:
            if fresh:
                activation.begin()
                invocation.commands = journal.record(activation.issued)
                self.progress()
                self.save()
                self._arm_deadline()
                self._carry_out(now)
            else:
                activation.replay(entries)
                if fork.is_fresh(entries):
                    branch(self.partition.engine, activation, entries, now)
                    self.saved_in = self.partition.engine.batch.number
                    self._carry_out(now)
                self._arm_deadline()
                self._resume(now)
        except NonDeterminismError as error:
            self._entries = entries
            self.park(Status.STUCK, error)
            return
        except EndlessLoopError as error:
            self.fail(error, now)
            return
        self._settle(now)
        if not fresh:
            # What has come meanwhile comes too late if its time is over, by a pause or a long standstill.
            self.timer_due(DEADLINE, now)
        self._read_mail(now)

    def _code(self, instance: Any, *, is_replay: bool) -> Coroutine[Any, Any, Any]:
        """Its code, with what middleware does around it.

        Raises:
            EncodingError: The arguments do not fit the function as it is now.
        """
        invocation, middleware = self.invocation, self.partition.engine.registry.middleware
        code = self.spec.coroutine(invocation.args, instance)
        if not middleware:
            return code
        return around_code(middleware, invocation, self.spec.kind, code, is_replay=is_replay)

    def _read_mail(self, now: float) -> None:
        """Deliver what came before the code could receive it; not while it stands still."""
        while self.mail and self.activation is not None and self.activation.lent is None:
            if self.must_wait(self.mail[0][0]):
                stop_before(self, self.mail[0][0])
                return
            message, number = self.mail.pop(0)
            deliver(self.partition, self, message, now, number)

    def _resume(self, now: float) -> None:
        """After a replay: what is still waited for is asked for again."""
        activation = self.activation
        if activation is None:
            return
        for number, (_, command) in list(activation.waiting.items()):
            if isinstance(command, ReadField):
                self._read_field(command)
            elif isinstance(command, RunStep):
                retry_at = activation.retries.get(number, 0.0)
                if retry_at > now:
                    self._arm(retry_at, number)
                else:
                    self._run_again(activation, number, command)
        for number, handle in activation.timers.items():
            self._arm(handle.when(), number)

    def _carry_out(self, now: float) -> None:
        """Turn what the code asked for into effects and messages."""
        activation = self.activation
        if activation is None:
            return
        issued, activation.issued = activation.issued, []
        for number, command in issued:
            if type(command) is RunStep:  # Most are, and `match` is slow.
                if number in activation.waiting:
                    self._run_body(dispatch.step_body(activation, number, command))
                continue
            match command:
                case StartTimer():
                    if number in activation.timers:
                        self._arm(command.when, number)
                case AbandonStep():
                    if self.invocation.heartbeats:
                        self._forget_heartbeat(command.command)
                    if self.bodies.pop(command.command, None) is not None:
                        stop = StopBody(self.invocation.id, command.command)
                        self.partition.engine.batch.effects.append(stop)
                case SetAttributes():
                    set_attributes(self, command)
                case ReadField():
                    self._read_field(command)
                case MarkPatch() | OpenCallback() | SeeField():
                    pass  # It is in the journal, and that is all.
                case WriteChunk() | CloseStream() | AppendEvent():
                    if self.mailbox is None:
                        self._code_writes(number, command, now)
                case EndUpdate():
                    _, id_ = journal.update_of(command.name)
                    self._end_update(activation.answers, id_, command.outcome, now)
                case _:
                    engine = self.partition.engine
                    engine.send(dispatch.message_of(engine, activation, number, command, now))

    def _run_again(self, activation: Activation, number: int, command: RunStep) -> None:
        activation.retries.pop(number, None)
        self._run_body(dispatch.step_body(activation, number, command))

    def _drop_code(self) -> None:
        self._stop_bodies()
        activation, self.activation = self.activation, None
        if activation is not None:
            if activation.answers is not None:
                self._fail_updates(activation.answers)
            activation.leave()
        elif self._entries:
            self._fail_updates(None)

    def _settle(self, now: float) -> None:
        """After a drain: ended, waiting, or beyond hope?"""
        activation = self.activation
        if activation is None:
            return
        if activation.main.done() and not (activation.bound and self._is_owed(activation)):
            self._end(activation, now)
        elif self.bodies or (activation.answers is not None and activation.answers.looking_up):
            return
        elif activation.hopeless:
            self.park(Status.STUCK, advice.hopeless(self.invocation))
        else:
            # Whatever it did to this process before, it waits now.
            self.progress()
            self.partition.set_active(self, active=False)
            self.partition.engine.idle.add(self, now)

    def _is_owed(self, activation: Activation) -> bool:
        """Its code has ended: are there calls that it has to wait for? If it was cancelled, so are they."""
        if not activation.owes:
            return False
        if activation.main.cancelled():
            engine = self.partition.engine
            tie.cancel_bound(engine, activation, ParentEnd.WAIT)
        return True

    def _end(self, activation: Activation, now: float) -> None:
        main = activation.main
        if main.cancelled():
            self._end_cancelled(now)
            return
        error = main.exception()
        if activation.anew is not None:
            if (begin := anew_of(error)) is not None:
                self._continue(begin, now)
                return
            error = error or advice.astray(self.invocation)
        if error is None:
            try:
                value = self.spec.signature.result.encode(main.result())
                if self.mailbox is not None:
                    self.mailbox.keep(self, now)
                    # An operation that fails changes nothing, so what it wrote comes with its end.
                    for number, command in activation.writing.held if activation.writing else ():
                        self._code_writes(number, command, now)
            except UsageError as refusal:
                error = advice.refused(self.invocation, refusal)
            else:
                self.finish(Outcome(COMPLETED, value), now)
                return
        error = advice.explained(self.invocation, error)
        if self.mailbox is not None:
            self.mailbox.discard(self)
        if self.invocation.cancel_reason == TIMEOUT and isinstance(error, TimeoutError):
            self._end_cancelled(now)
        else:
            self.fail(error, now)

    def _continue(self, begin: ContinueAsNew, now: float) -> None:
        """Run its code anew, as often as it asks for that without waiting for anything."""
        for _ in range(limit.RUNS_IN_A_ROW_MAX):
            if self.invocation.cancel_reason is not None:
                self._end_cancelled(now)
                return
            try:
                self._begin_anew(begin, now)
            except (EncodingError, EndlessLoopError) as error:
                self.fail(error, now)
                return
            activation = self.activation
            again = activation.main if activation is not None and activation.main.done() else None
            error = None if again is None or again.cancelled() else anew_of(again.exception())
            if error is None:
                self._settle(now)
                return
            begin = error
        self.fail(advice.endless(self.invocation), now)

    def _begin_anew(self, begin: ContinueAsNew, now: float) -> None:
        """The same call with other arguments and no history. Signals that were not read go with it."""
        invocation, before, engine = self.invocation, self.activation, self.partition.engine
        unread = [] if before is None else before.unread()
        if before is not None and before.bound:
            tie.cancel_bound(engine, before, ParentEnd.CANCEL)
        carried = deque([*unread, *(self._carried or ())])
        looking_up = False
        if before is not None and before.answers is not None:
            looking_up = before.answers.looking_up
            self._fail_open(before.answers, before.answers.running)
        self._drop_code()
        engine.batch.forget(invocation)
        self.saved_in = engine.batch.number
        invocation.args, invocation.version = begin.payload, begin.version
        invocation.attempt += 1
        invocation.started_at, invocation.commands = now, None
        invocation.heartbeats = ()
        self.spec = engine.registry.get(invocation.handler, begin.version) or self.spec
        self._position, self._carried = 0, carried
        coroutine = self._code(None, is_replay=False)
        activation = Activation(invocation, coroutine, now, engine.registry, engine.stage)
        self.activation = activation
        if looking_up:
            answers_of(activation).looking_up = True
        activation.begin()
        invocation.commands = journal.record(activation.issued)
        self._carry_out(now)
        while self._carried and not activation.main.done():
            signal = self._carried.popleft()
            entry = replace(signal, position=self._position + 1, at=now, commands=None)
            self._see(activation, entry, now)

    # What happens to it.

    def _event(self, entry: Entry, now: float) -> None:
        """Append an entry to the journal and let the code see it."""
        activation = self.activation
        if activation is None:
            return
        try:
            self._see(activation, entry, now)
        except EndlessLoopError as error:
            self.fail(error, now)
            return
        self._settle(now)
        if entry.position >= limit.JOURNAL_ENTRIES_WARN:
            self._guard(entry.position, now)

    def _see(self, activation: Activation, entry: Entry, now: float) -> None:
        self._position = entry.position
        self.partition.engine.batch.rows.entries.append(entry)
        if self.invocation.crashes:
            self.progress()
        activation.apply(entry)
        if activation.issued:
            entry.commands = journal.record(activation.issued)
            self._carry_out(now)

    def _guard(self, length: int, now: float) -> None:
        """The journal is long: say so, then ask the call to stop, then fail."""
        if self.activation is None or self._position < length:
            return
        if length == limit.JOURNAL_ENTRIES_WARN:
            text = advice.long_journal(self.invocation)
            self.partition.engine.batch.effects.append(Warn(text))
        elif length == limit.JOURNAL_ENTRIES_MAX:
            self.cancel(HISTORY, now)
        elif length >= limit.JOURNAL_ENTRIES_MAX + limit.JOURNAL_ENTRIES_CLEANUP:
            self.invocation.cancel_reason = HISTORY
            self._end_cancelled(now)

    def body_ended(self, event: BodyEnded, now: float) -> None:
        activation, number, outcome = self.activation, event.command, event.outcome
        if activation is None or event.run != activation.run:
            return
        if self.bodies.get(number) != event.attempt:
            return
        if activation.lent is not None:
            self._defer(partial(self.body_ended, event))
            return
        del self.bodies[number]
        waiting = activation.waiting.get(number)
        if waiting is None:
            return
        kind, retry_at, command = STEP_COMPLETED, None, waiting[1]
        work = command.work if type(command) is RunStep else None
        if outcome.status is COMPLETED:
            if work is not None and work.transaction is not None:
                settled = (event.id, activation.run, number)
                self.partition.engine.batch.rows.step_results_deleted.append(settled)
        else:
            kind = EntryKind.STEP_FAILED
            if work is not None:
                began = activation.began.get(number, now - event.seconds)
                retry_at = event.next_at(work.retry, began, now)
                if retry_at is None:
                    outcome = event.final(work.retry)
                else:
                    kind = EntryKind.STEP_RETRYING
        if self.invocation.heartbeats and retry_at is None:
            self._forget_heartbeat(number)
        entry = Entry(
            event.id, self._position + 1, kind, now, number, None, event.attempts_spent,
            event.seconds, outcome.status, outcome.value, outcome.failure, retry_at,
        )  # fmt: skip
        self._event(entry, now)
        if retry_at is not None:
            self._arm(retry_at, number)

    def _forget_heartbeat(self, command: int) -> None:
        """The step has its outcome, and no next attempt."""
        before = self.invocation.heartbeats
        self.invocation.heartbeats = tuple(each for each in before if each.command != command)
        if len(self.invocation.heartbeats) < len(before):
            self.save()

    def timer_due(self, command: int, now: float) -> None:
        activation = self.activation
        if activation is None:
            super().timer_due(command, now)
        elif activation.lent is not None:
            self._defer(partial(self.timer_due, command))
            if command == DEADLINE and self.mailbox is not None:
                self.mailbox.nested().hurry(self, now)
        elif command in activation.timers and activation.timers[command].when() <= now:
            self._event(self._entry(EntryKind.TIMER_FIRED, now, command=command), now)
        elif command in activation.waiting and activation.retries.get(command, now + 1) <= now:
            step = activation.waiting[command][1]
            if isinstance(step, RunStep) and command not in self.bodies:
                self._run_again(activation, command, step)
        else:
            super().timer_due(command, now)

    def reply(self, message: Reply, now: float) -> None:
        """A call that it waits for has ended."""
        activation = self.activation
        to = message.to
        if (
            activation is not None
            and to.command in activation.waiting
            and to.run == self.invocation.attempt
        ):
            outcome = message.outcome
            entry = self._entry(EntryKind.CALL_FINISHED, now, command=to.command)
            entry.status = outcome.status
            entry.value = outcome.value
            entry.failure = outcome.failure
            self._event(entry, now)

    def signal(self, message: Signal, now: float) -> None:
        """A named value has come."""
        if self.activation is not None:
            entry = self._entry(EntryKind.SIGNAL_RECEIVED, now, name=message.name)
            entry.value = message.value
            entry.failure = message.failure
            self._event(entry, now)

    def must_wait(self, message: Message) -> bool:
        if self.activation is not None and self.activation.lent is not None:
            if isinstance(message, Cancel):
                return not message.at_once
            return isinstance(message, Reply | Signal) or self._must_read(message)
        return super().must_wait(message)

    def _cancel(self, reason: str, now: float) -> None:
        self.invocation.cancel_reason = reason
        self.save()
        self._event(self._entry(EntryKind.CANCEL_REQUESTED, now, name=reason), now)

    def hand_back(self, now: float) -> None:
        if self.activation is not None and not self.bodies and self.mailbox is None:
            self.suspend(now)
        else:
            super().hand_back(now)

    def suspend(self, now: float) -> None:
        """Leave memory while waiting: from now on it costs a row and nothing else."""
        invocation, activation = self.invocation, self.activation
        if activation is None:
            return
        due = [each for each in (activation.next_due(), invocation.deadline_at) if each is not None]
        invocation.status = Status.SUSPENDED
        invocation.wake_at = min(due, default=None)
        invocation.waiting = advice.waits_for(activation)
        invocation.crashes = 0
        self.save()
        activation.leave()
        self.activation = None
        self.partition.forget(self)
        if invocation.wake_at is not None:
            self.partition.engine.batch.effects.append(WakeAt(max(invocation.wake_at, now)))
