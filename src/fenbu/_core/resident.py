"""One call in memory, from its start to its outcome: the part that all kinds of calls share.

`task.py` and `program.py` hold what a task does, and what a workflow or operation does. Everything goes
into the batch that is open in the engine; nothing here ever acts.
Guarantee: one-outcome. `finish` runs once for a call, and its outcome is final when its batch is durable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from fenbu._core import advice, attribute, pause, tie, topic
from fenbu._core.command import AppendEvent, CloseStream, ParentEnd, SetAttributes, WriteChunk
from fenbu._core.effect import Begin, Ended, RunBody, StopBody, Written
from fenbu._core.event import BodyBeat, BodyEnded
from fenbu._core.failure import failure_of
from fenbu._core.handler import HandlerSpec
from fenbu._core.message import Cancel, Message, Reply, Retry, Signal, Update, Withheld, within
from fenbu._core.model import (
    PARKED,
    TERMINATED,
    Address,
    Chunk,
    EntryKind,
    Invocation,
    Kind,
    Outcome,
    Payload,
    Status,
)
from fenbu.errors import CallTimedOut, PayloadUnreadable

if TYPE_CHECKING:
    from fenbu._core.activation import Activation
    from fenbu._core.mailbox import Mailbox
    from fenbu._core.partition import Partition

TIMEOUT = "timeout"
"""The reason of a cancellation by the call's own timeout."""

HISTORY = "its journal is too long"
"""The reason of a cancellation because of that."""

DEADLINE = 0
"""Stands for the call's deadline where the timer queue wants a command number."""


class Resident(ABC):
    """See the module."""

    __slots__ = (
        "accepted_in",
        "activation",
        "active",
        "asked_for",
        "bodies",
        "fields_seen",
        "ground",
        "invocation",
        "mail",
        "mailbox",
        "marked",
        "partition",
        "saved_in",
        "spec",
    )

    def __init__(
        self,
        partition: Partition,
        invocation: Invocation,
        spec: HandlerSpec,
    ) -> None:
        self.partition = partition
        self.invocation = invocation
        self.spec = spec
        self.activation: Activation | None = None
        self.mailbox: Mailbox | None = None
        self.bodies: dict[int, int] = {}
        """Attempt by command of each body that the node was asked to run."""
        self.fields_seen: tuple[str, ...] = ()
        """The lazy fields of its entity that its code has seen, according to the journal as it was loaded."""
        self.ground: Payload | None = None
        """Of which state that journal has changes by others in its turn (`nest.py`); None if it has none."""
        self.mail: list[tuple[Message, int]] = []
        """Inbox messages that came before the code could receive them."""
        self.active = False
        self.asked_for = True
        """Somebody outside this process may ask the database for its outcome, so it is kept for a
        while even if its handler keeps nothing."""
        self.marked = True
        """It may begin: if it was loaded, the mark that it has begun is on disk."""
        self.accepted_in = -1
        """The batch that inserts its row."""
        self.saved_in = -1
        """The batch that writes its row."""

    # Its row and its place in memory.

    def save(self) -> None:
        """Write the row with the open batch."""
        batch = self.partition.engine.batch
        if self.saved_in != batch.number:
            self.saved_in = batch.number
            batch.rows.updated.append(self.invocation)

    def progress(self) -> None:
        """It got further: crashes before no longer count against it."""
        if self.invocation.crashes:
            self.invocation.crashes = 0
            self.save()
            self.partition.survived(self)

    def park(self, status: Status, error: BaseException) -> None:
        """Stop here, lose nothing: a fixed deploy or an operator lets it go on."""
        invocation = self.invocation
        invocation.status = status
        invocation.failure = failure_of(error)
        invocation.wake_at = None
        invocation.waiting = str(error)
        self.save()
        self._drop_code()
        if self.mailbox is None:
            self.partition.forget(self)
        # An operation keeps its entity's turn: those behind it were promised to come after it.
        self.partition.survived(self)

    def pause(self, reason: str) -> None:
        """Stand still until it is resumed: what runs is cut, and runs again then."""
        if pause.can_pause(self.invocation):
            pause.hold(self.invocation, reason)
            self.save()
            self._drop_code()
            self.partition.forget(self)
            self.partition.survived(self)

    def hand_back(self, now: float) -> None:
        """The node stops in good order: what runs is to run again, and it is no crash."""
        del now
        if self.invocation.status is Status.RUNNING and self.marked:
            self.invocation.crashes = -1
            self.save()

    def drop(self) -> None:
        """Leave memory at once, where it stands."""
        self._drop_code()

    def finish(self, outcome: Outcome, now: float) -> None:
        """Record the outcome and tell everyone who waits."""
        invocation = self.invocation
        invocation.status = outcome.status
        invocation.finished_at = now
        if invocation.started_at is None:
            invocation.started_at = now
        invocation.result = outcome.value
        invocation.failure = outcome.failure
        invocation.wake_at = None
        invocation.waiting = None
        invocation.crashes = 0
        engine = self.partition.engine
        batch = engine.batch
        if self.spec.retention_seconds <= 0 and not self.asked_for:
            if self.accepted_in == batch.number:
                batch.dropped.add(invocation.id)
            else:
                batch.rows.deleted.append(invocation.id)
        else:
            self.save()
        if self.activation is not None and self.activation.bound:
            tie.cancel_bound(engine, self.activation, ParentEnd.CANCEL)
        self._drop_code()
        if self.mailbox is not None and self.mailbox.alarms is not None:
            self.mailbox.rung(self, now)
        self.partition.forget(self)
        self.partition.survived(self)
        batch.effects.append(Ended(invocation.id, outcome))
        if invocation.parent is not None:
            engine.send(Reply(invocation.parent, outcome))
        for waiter in invocation.waiters:
            engine.send(Reply(waiter, outcome))
        if self.mailbox is not None:
            self.mailbox.advance(now)

    def fail(self, error: BaseException, now: float, status: Status = Status.FAILED) -> None:
        self.finish(Outcome(status, failure=failure_of(error)), now)

    # Running.

    def start(self, now: float) -> None:
        """Run its code: from the beginning, or through its journal to where it was."""
        invocation = self.invocation
        if invocation.cancel_reason is not None and invocation.started_at is None:
            self._end_cancelled(now)
        elif (
            invocation.deadline_at is not None
            and invocation.deadline_at <= now
            and invocation.started_at is None
        ):
            invocation.cancel_reason = TIMEOUT
            self._end_cancelled(now)
        else:
            self._run(now)

    @abstractmethod
    def _run(self, now: float) -> None:
        """Run its code."""

    @abstractmethod
    def _drop_code(self) -> None:
        """Its code runs no longer."""

    def _arm_deadline(self) -> None:
        if self.invocation.deadline_at is not None:
            self._arm(self.invocation.deadline_at, DEADLINE)

    def _arm(self, when: float, command: int) -> None:
        self.partition.engine.arm(when, self.partition.number, self.invocation.id, command)

    def _run_body(self, effect: RunBody) -> None:
        self.bodies[effect.command] = effect.attempt
        if not self.active:
            self.partition.set_active(self, active=True)
        engine = self.partition.engine
        if engine.early == effect.id and effect.work.transaction is None:
            engine.early_bodies.append(effect)
        else:
            engine.batch.effects.append(effect)

    def _stop_bodies(self) -> None:
        for command in self.bodies:
            self.partition.engine.batch.effects.append(StopBody(self.invocation.id, command))
        self.bodies.clear()

    def _end_cancelled(self, now: float) -> None:
        if self.mailbox is not None:
            self.mailbox.discard(self)
        if self.invocation.cancel_reason == TIMEOUT:
            error = CallTimedOut(
                f"{self.spec.name} {self.invocation.id} did not end within its timeout"
            )
            self.fail(error, now, Status.TIMED_OUT)
        elif self.invocation.cancel_reason == HISTORY:
            self.fail(advice.too_long_journal(self.invocation), now)
        else:
            self.finish(Outcome(Status.CANCELLED), now)

    def write(
        self,
        stream: str,
        command: int,
        position: int,
        value: Payload | None,
        now: float,
        *,
        ends: bool,
    ) -> None:
        """Append a chunk to a stream: with the open batch it can be read.

        Guarantee: stream-once. What a body writes again at the same position, in another attempt or after a
        crash, is the same row.
        """
        invocation, batch = self.invocation, self.partition.engine.batch
        # A task that is retried goes on with the same idempotency key, and so with the same chunks.
        run = 0 if self.spec.kind is Kind.TASK else invocation.attempt
        batch.rows.chunks.append(
            Chunk(invocation.id, stream, run, command, position, now, value, ends)
        )
        batch.effects.append(Written(invocation.id))
        # Somebody may be about to read it when the call has ended.
        self.asked_for = True

    def _code_writes(
        self, number: int, command: WriteChunk | CloseStream | AppendEvent, now: float
    ) -> None:
        """Its code appends to a stream of the call, ends one, or appends to a topic's log."""
        match command:
            case WriteChunk():
                self.write(command.name, number, 0, command.value, now, ends=False)
            case CloseStream():
                self.write(command.name, number, 0, None, now, ends=True)
            case AppendEvent():
                batch = self.partition.engine.batch
                row = topic.chunk_of(command.name, command.number, command.value, now)
                batch.rows.chunks.append(row)
                batch.effects.append(Written(command.name))

    # What happens to it.

    @abstractmethod
    def body_ended(self, event: BodyEnded, now: float) -> None:
        """A body that it asked for reports its outcome."""

    def timer_due(self, command: int, now: float) -> None:
        """An instant that it armed has come."""
        due = self.invocation.deadline_at
        if command == DEADLINE and self.invocation.cancel_reason is None and due and due <= now:
            self.cancel(TIMEOUT, now)

    def reply(self, message: Reply, now: float) -> None:  # noqa: B027 - tasks wait for nothing
        """A call that it waits for has ended."""

    def signal(self, message: Signal, now: float) -> None:  # noqa: B027
        """A named value has come."""

    def cancel(self, reason: str, now: float, *, at_once: bool = False) -> None:
        """Ask it to stop: at once if its code does not run, else as its kind does."""
        invocation = self.invocation
        if at_once:
            invocation.cancel_reason = f"{TERMINATED}{reason}"
            self._end_children(reason, at_once=True)
            self._end_cancelled(now)
            return
        if invocation.cancel_reason is not None:
            return
        if self._is_started:
            self._cancel(reason, now)
        else:
            invocation.cancel_reason = reason
            self._end_children(reason, at_once=False)
            self._end_cancelled(now)

    def note(self, kind: EntryKind, name: str, value: Payload | None, now: float) -> None:
        """Write into its journal that it gives its turn away, or has it back if it had given it."""
        raise AssertionError((self.invocation, kind, name, value, now))

    def must_come_by_inbox(self, message: Message) -> bool:
        """What a client of this node sends has to lie there until the code can see it."""
        if isinstance(message, Retry | Update):
            if isinstance(message, Retry):
                return self.activation is None
            if not message.fresh:
                return True  # The database has to say whether it exists.
        return self.must_wait(message)

    def must_wait(self, message: Message) -> bool:
        """Its code has to see the message, and is not there yet."""
        if message.__class__ is Withheld:
            return self._must_read(message)
        if self.activation is not None:
            answers = self.activation.answers
            return answers is not None and answers.looking_up
        if self.spec.kind is Kind.TASK:
            return False
        if isinstance(message, Cancel):
            # A call that has not begun, or cannot go on, has nothing to say to it.
            return self._is_started
        if isinstance(message, Update):
            return self.spec.kind is Kind.WORKFLOW
        return isinstance(message, Reply | Signal)

    def _must_read(self, message: Message) -> bool:
        """Its code has to see what cannot be read here, so it waits for somebody who can."""
        if not isinstance(message, Withheld):
            return False
        if isinstance(within(message), Update):
            return self.spec.kind is Kind.WORKFLOW
        return self.spec.kind is not Kind.TASK

    @property
    def _is_started(self) -> bool:
        """Its code has begun, and can go on."""
        return self.invocation.started_at is not None and self.invocation.status not in PARKED

    def _end_children(self, reason: str, *, at_once: bool) -> None:  # noqa: B027 - tasks have none
        """It is ended without asking its code, and with it those that it waits for."""

    @abstractmethod
    def _cancel(self, reason: str, now: float) -> None:
        """Its code has begun: cancel it."""

    def subscribe(self, address: Address) -> None:
        """One more command waits for its outcome."""
        if address != self.invocation.parent and address not in self.invocation.waiters:
            self.invocation.waiters = (*self.invocation.waiters, address)
            self.save()

    def mark(self) -> None:
        """Loaded: before its code runs, write that it does, so that a crash counts."""
        self.marked = False
        self.invocation.status = Status.RUNNING
        self.invocation.wake_at = None
        self.invocation.waiting = None
        self.save()
        self.partition.engine.batch.effects.append(Begin(self.partition.number, self.invocation.id))


def keep(resident: Resident, message: Message, number: int) -> None:
    """Hold a message that must wait."""
    resident.mail.append((message, number))
    stop_before(resident, message)


def stop_before(resident: Resident, message: Message) -> None:
    """If its code would see what cannot be read here, it and what comes after wait until somebody can."""
    activation = resident.activation
    if not isinstance(message, Withheld) or activation is None or activation.lent is not None:
        return
    if activation.answers is None or not activation.answers.looking_up:
        resident.park(Status.STUCK, PayloadUnreadable(message.reason))


def set_attributes(resident: Resident, command: SetAttributes) -> None:
    """Its code has changed its search attributes."""
    invocation = resident.invocation
    invocation.attributes = attribute.merged(invocation.attributes, command.changes)
    resident.save()


def body_beat(resident: Resident, event: BodyBeat) -> None:
    """A body that it asked for says how far it is: kept for its next attempt, and for people."""
    heartbeat, invocation = event.heartbeat, resident.invocation
    if resident.bodies.get(heartbeat.command) == event.attempt:
        others = (each for each in invocation.heartbeats if each.command != heartbeat.command)
        invocation.heartbeats = (*others, heartbeat)
        resident.save()
