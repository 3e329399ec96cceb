"""A partition: which of its calls are in memory, and what reaches them.

It accepts calls, holds a bounded window of those that can run, leaves the rest in the database as backlog
and loads them in order of acceptance, wakes suspended ones, and hands each message to its call.
Guarantee: accepted-never-lost. A call in no memory is a row that a cursor, an instant or a message leads to.
Guarantee: message-once-in-order. A message to a call in memory is applied in its sender's batch; any other
goes through the inbox, and so do all that follow it until the inbox has been read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fenbu._core import conflict, deadlock
from fenbu._core.absent import Absent
from fenbu._core.delivery import deliver
from fenbu._core.effect import LoadReady, Moved, ReadInbox, WakeAt
from fenbu._core.event import (
    CallsLoaded,
    DueLoaded,
    EntityLoaded,
    Event,
    FieldsLoaded,
    MarkDurable,
    OperationsLoaded,
    ReadyLoaded,
)
from fenbu._core.handler import HandlerSpec
from fenbu._core.load import last_sequence
from fenbu._core.mailbox import Mailbox
from fenbu._core.message import (
    Adopt,
    Call,
    Cancel,
    Deadlock,
    Message,
    Probe,
    Reply,
)
from fenbu._core.model import (
    FINISHED,
    OPERATION,
    PARKED,
    TASK,
    Entry,
    Invocation,
    Loaded,
    Status,
)
from fenbu._core.nest import outer_id
from fenbu._core.order import MessageOrder, Receiver
from fenbu._core.program import Program
from fenbu._core.resident import Resident, keep
from fenbu._core.task import Task
from fenbu.errors import UsageError

if TYPE_CHECKING:
    from fenbu._core.engine import Engine


class Partition:
    """See the module."""

    def __init__(
        self,
        engine: Engine,
        number: int,
        last_sequence: int,
        to_come: dict[Receiver, int] | None = None,
    ) -> None:
        self.engine = engine
        self.number = number
        self.residents: dict[str, Resident] = {}
        self.mailboxes: dict[tuple[str, str], Mailbox] = {}
        self.nested: set[Mailbox] = set()
        """Those with operations that run in the turn of others."""
        self._next_sequence = last_sequence + 1
        self.cursor = 0
        """The highest sequence that has been loaded or accepted into memory in order."""
        self._spilled_until = last_sequence
        """The highest sequence that waits in the database only."""
        self._refilling = False
        self._active = 0
        self.absent = Absent(self)
        self.order = MessageOrder(to_come)

    @property
    def spilled(self) -> bool:
        """Calls wait in the database that could run."""
        return self._spilled_until > self.cursor

    @property
    def backlog(self) -> int:
        """At most so many wait there."""
        return max(0, self._spilled_until - self.cursor)

    # Messages.

    def receive(self, message: Message, now: float, number: int) -> None:
        """Apply a message, from the inbox if `number` is not 0, else from this node's open batch."""
        if number == 0 and self.order.needs_inbox(message):
            self.queue(message)
            return
        if isinstance(message, Call):
            self._call(message, now, number)
            return
        if isinstance(message, Probe | Deadlock):
            self.consume(number)
            deadlock.search(self.engine, message, now)
            return
        id_ = message.to.id if isinstance(message, Reply) else message.id
        # In memory by now or not: it must not overtake those that wait for the row of their call.
        resident = None if id_ in self.absent.held else self.residents.get(id_)
        if number == 0 and (resident is None or resident.must_come_by_inbox(message)):
            self.queue(message)
        elif resident is None:
            self.absent.hold(id_, message, number)
        elif resident.must_wait(message):
            # It leaves the inbox with the batch that has it in the journal.
            keep(resident, message, number)
            if resident.mailbox is not None:
                resident.mailbox.mailed(resident, message, now)
        else:
            deliver(self, resident, message, now, number)

    def carry(self, message: Message, now: float) -> None:
        """Apply what a call of this node has sent, in the batch that it was sent with."""
        chosen = message.invocation.id if isinstance(message, Call) and not message.fresh else None
        if chosen is None or chosen in self.residents:
            self.receive(message, now, 0)
        else:
            # Until its row has been read it would be in memory only, and its sender's journal has it as sent.
            self.queue(message)

    def queue(self, message: Message) -> None:
        """Let it come through the inbox: others for the same receiver are on that way."""
        batch = self.engine.batch
        batch.rows.inbox.append(message)
        batch.effects.append(ReadInbox())
        self.order.sent(message, batch.number)

    def consume(self, number: int) -> None:
        """A message has been applied: with the open batch it leaves the inbox."""
        if number:
            self.engine.batch.rows.inbox_deleted.append(number)

    # Accepting calls.

    def _call(self, message: Call, now: float, number: int) -> None:
        invocation = message.invocation
        if message.fresh:
            if not (self.absent.held and self.absent.follow(message, number)):
                self.consume(number)
                self.accept(message, now, number)
            return
        if (resident := self.residents.get(invocation.id)) is None:
            self.absent.hold(invocation.id, message, number)
            return
        anew = conflict.begins_anew(message, resident.invocation)
        if anew and resident.must_wait(Cancel(self.number, invocation.id, "")):
            # Its children have to be ended with it: its code says which.
            resident.mail.append((message, number))
            return
        self.consume(number)
        if anew:
            resident.cancel("replaced", now, at_once=True)
            self.accept(message, now, 0, before=resident.invocation)
        conflict.tell(self.engine.batch, message, now, existed=not anew)
        if anew:
            return
        if (refusal := conflict.refusal(message)) is not None:
            self.engine.send(refusal)
        elif invocation.parent is not None:
            resident.subscribe(invocation.parent)

    def accept(
        self, message: Call, now: float, number: int, *, before: Invocation | None = None
    ) -> None:
        """A call that does not exist, or takes the place of one `before` it, which has ended."""
        invocation, waited, batch = message.invocation, message.waited, self.engine.batch
        self._to_the_end(invocation)
        if before is not None:
            conflict.succeed(invocation, before, self.engine.registry)
            self.engine.loads.changed(invocation.id, batch.number)
            batch.forget(invocation, chunks=True)
        else:
            batch.rows.inserted.append(invocation)
        if not invocation.version:
            self.engine.choose_version(invocation)
        spec = self._spec_of(invocation)
        if spec is None:
            return
        if self._misaddressed(invocation, spec, now, saved_in=batch.number):
            return
        if invocation.wake_at is not None:
            if invocation.deadline_at is not None:
                invocation.wake_at = min(invocation.wake_at, invocation.deadline_at)
            batch.effects.append(WakeAt(invocation.wake_at))
            return
        resident = self._make(invocation, spec, [])
        resident.saved_in = batch.number
        resident.accepted_in = batch.number if before is None else -1
        # Callers of this process, and other calls, hear of the outcome from the batch that holds it.
        resident.asked_for = number != 0 and (waited or spec.read_only)
        if spec.kind is OPERATION:
            self._accept_operation(resident, now, waited=waited)
        elif not waited and (self.spilled or self._active >= self.engine.window):
            self._spilled_until = invocation.sequence
        else:
            if not self.spilled:
                self._spilled_until = self.cursor = invocation.sequence
            self.residents[invocation.id] = resident
            self.set_active(resident, active=True)
            resident.start(now)

    def _spec_of(self, invocation: Invocation) -> HandlerSpec | None:
        """Its handler; without one here, the call waits for a node that has it."""
        registry = self.engine.registry
        spec = registry.get(invocation.handler, invocation.version)
        if spec is None:
            invocation.status = Status.UNHANDLED
            invocation.waiting = registry.missing(invocation.handler, invocation.version)
        return spec

    def _misaddressed(
        self, invocation: Invocation, spec: HandlerSpec, now: float, saved_in: int = -1
    ) -> bool:
        """An operation came without its entity's key, or another handler with one: then it has failed."""
        if (spec.kind is OPERATION) is (invocation.key is not None):
            return False
        needs = "needs the key of its" if spec.kind is OPERATION else "is a handler of no"
        resident = self._make(invocation, spec, [])
        resident.saved_in = saved_in
        resident.fail(UsageError(f"{spec.name} {needs} entity"), now)
        return True

    def _accept_operation(self, resident: Resident, now: float, *, waited: bool) -> None:
        invocation = resident.invocation
        mailbox = self._mailbox(resident)
        is_inner = mailbox.name in invocation.chain
        if is_inner and outer_id(resident, mailbox.name) is None:
            deadlock.refuse_chain(resident, mailbox.name, now)
        elif not is_inner and (
            self.spilled or self._active >= self.engine.window or mailbox.full()
        ):
            # Earlier operations on this key may wait in the database: it must not overtake them.
            if waited or not mailbox.idle:
                mailbox.spill(invocation.sequence)
            if not waited:
                self._spilled_until = invocation.sequence
        else:
            if not self.spilled:
                self._spilled_until = self.cursor = invocation.sequence
            self.residents[invocation.id] = resident
            mailbox.push(resident)
            if invocation.parent is not None and deadlock.holds_up(mailbox, resident):
                path = deadlock.find(self.engine, resident, mailbox)
                if path is not None:
                    deadlock.refuse(resident, path, now)
                    return
            mailbox.advance(now)

    def _mailbox(self, resident: Resident) -> Mailbox:
        entity, key = resident.spec.entity, resident.invocation.key
        if entity is None or key is None:
            raise AssertionError(resident.invocation)
        name = (entity.name, key)
        mailbox = self.mailboxes.get(name)
        if mailbox is None:
            mailbox = self.mailboxes[name] = Mailbox(self, entity, key)
        resident.mailbox = mailbox
        self.engine.entity_used(mailbox)
        return mailbox

    def _to_the_end(self, invocation: Invocation) -> None:
        """Its place is behind all others."""
        invocation.sequence = self._next_sequence
        self._next_sequence += 1

    # Which calls are in memory.

    def set_active(self, resident: Resident, *, active: bool) -> None:
        """Count the calls that have something to run; those that only wait are not of them."""
        if resident.active is not active:
            resident.active = active
            self._active += 1 if active else -1
            if active:
                self.engine.idle.remove(resident)
            elif self.spilled:
                self.refill()

    def survived(self, resident: Resident) -> None:
        """It got further, or ended, without taking the process down."""
        self.engine.suspects.survived(resident, self.engine.now)

    def forget(self, resident: Resident) -> None:
        """A call leaves memory."""
        self.engine.timers.left += 1
        self.engine.loads.changed(resident.invocation.id, self.engine.batch.number)
        self.residents.pop(resident.invocation.id, None)
        self.set_active(resident, active=False)
        self.engine.idle.remove(resident)
        if resident.mailbox is not None:
            resident.mailbox.remove(resident)
        self.absent.take_back(resident.invocation.id, resident.mail)
        if self.spilled:
            self.refill()

    def hand_back(self, now: float) -> None:
        """The partition goes to another owner: its calls leave memory."""
        for resident in list(self.residents.values()):
            # What came through the inbox is still there for the next owner.
            unread = [message for message, number in resident.mail if not number]
            self.engine.batch.rows.inbox.extend(unread)
            resident.mail.clear()
            resident.hand_back(now)
            self.engine.idle.remove(resident)
        left = list(self.residents.values())
        self.residents.clear()
        for resident in left:
            resident.drop()
            self.survived(resident)
        self.absent.hand_back()

    def give(self, resident: Resident, to: int, now: float) -> None:
        """Let a call go on in another partition, whose owner has time for it. None of its bodies runs.

        Its row has a sequence below all others from now on, so that nothing but the message brings it to
        memory there. Guarantee: accepted-never-lost. Both are written together.
        """
        invocation = resident.invocation
        resident.hand_back(now)
        if invocation.id in self.residents:
            resident.drop()
            self.forget(resident)
            self.survived(resident)
        self.send_away(invocation, to)

    def send_away(self, invocation: Invocation, to: int) -> None:
        """A call that is in no memory belongs to another partition from now on."""
        invocation.partition, invocation.sequence = to, 0
        self.update(invocation)
        self.engine.send(Adopt(to, invocation.id))
        self.engine.batch.effects.append(Moved(invocation.id))

    def adopt(self, loaded: Loaded) -> None:
        """A call has been given to this partition."""
        invocation = loaded.invocation
        if invocation.sequence or invocation.status not in (Status.PENDING, Status.RUNNING):
            return
        if self._active >= self.engine.window:
            self.requeue(invocation)
            return
        self._to_the_end(invocation)
        self.update(invocation)
        self.bring(loaded)

    def refill(self) -> None:
        """Ask for more of the backlog if there is room."""
        if self.spilled and not self._refilling and self._active <= self.engine.window // 2:
            self._refilling = True
            self.engine.batch.effects.append(
                LoadReady(
                    self.number,
                    self.engine.loads.begin(self.engine.batch.number),
                    self.cursor,
                    self._spilled_until,
                )
            )

    def _make(self, invocation: Invocation, spec: HandlerSpec, entries: list[Entry]) -> Resident:
        if spec.kind is TASK:
            return Task(self, invocation, spec)
        return Program(self, invocation, spec, entries)

    def bring(self, loaded: Loaded, *, in_order: bool = False) -> Resident | None:
        """Take a loaded call into memory; None if it is not one that could run.

        It is `in_order` if all before it on its key have been loaded.
        """
        invocation = loaded.invocation
        resident = self.residents.get(invocation.id)
        if resident is not None:
            return resident
        if invocation.status in FINISHED or invocation.status in PARKED:
            return None
        spec = self._spec_of(invocation)
        if spec is None:
            invocation.wake_at = None
            self.update(invocation)
            return None
        if self._misaddressed(invocation, spec, self.engine.now):
            return None
        resident = self._make(invocation, spec, loaded.entries)
        resident.mail.extend(self.absent.take_parked(invocation.id))
        self.residents[invocation.id] = resident
        self.set_active(resident, active=True)
        if spec.kind is OPERATION:
            mailbox = self._mailbox(resident)
            mailbox.push(resident, in_order=in_order)
            self.set_active(resident, active=False)
        self.engine.suspects.admit(resident, self.engine.now)
        return resident

    def _bring_operation(self, loaded: Loaded) -> None:
        """Like `bring`, unless earlier operations on its key wait in the database."""
        invocation = loaded.invocation
        if invocation.entity is not None and invocation.key is not None:
            mailbox = self.mailboxes.get((invocation.entity, invocation.key))
            is_inner = f"{invocation.entity}/{invocation.key}" in invocation.chain
            if mailbox is not None and mailbox.full() and not is_inner:
                mailbox.spill(invocation.sequence)
                return
        self.bring(loaded, in_order=True)

    def _wake(self, loaded: Loaded) -> None:
        """The time of a call has come: if it is an operation, that is its place among the others."""
        invocation = loaded.invocation
        if invocation.key is not None and invocation.id not in self.residents:
            self._to_the_end(invocation)
            if not self.spilled:
                self._spilled_until = self.cursor = invocation.sequence
        self.bring(loaded)

    # Events.

    def apply(self, event: Event, now: float) -> None:
        """Something happened."""
        match event:
            case MarkDurable():
                resident = self.residents.get(event.id)
                if resident is not None and not resident.marked:
                    resident.marked = True
                    if resident.mailbox is not None:
                        resident.mailbox.advance(now)
                    else:
                        resident.start(now)
            case EntityLoaded():
                mailbox = self.mailboxes.get((event.entity, event.key))
                if mailbox is not None:
                    mailbox.loaded_state(event.state, now)
            case FieldsLoaded():
                mailbox = self.mailboxes.get((event.entity, event.key))
                if mailbox is not None and mailbox.fields is not None:
                    mailbox.fields.loaded(event, now)
            case ReadyLoaded():
                self._ready_loaded(event)
            case OperationsLoaded():
                self._operations_loaded(event, now)
            case DueLoaded():
                for loaded in self.engine.loads.fresh(event.found, event.batch):
                    self._wake(loaded)
            case CallsLoaded():
                self.absent.loaded(event, now)

    def _ready_loaded(self, event: ReadyLoaded) -> None:
        self._refilling = False
        found = self.engine.loads.fresh(event.found, event.batch)
        for loaded in found:
            self._bring_operation(loaded)
        self.cursor = max(self.cursor, last_sequence(event, found))
        self.refill()
        if self.nested and not self.spilled:
            for mailbox in list(self.nested):
                mailbox.advance(self.engine.now)

    def _operations_loaded(self, event: OperationsLoaded, now: float) -> None:
        mailbox = self.mailboxes.get((event.entity, event.key))
        if mailbox is None:
            return
        found = self.engine.loads.fresh(event.found, event.batch)
        for loaded in found:
            self.bring(loaded, in_order=True)
        mailbox.operations_loaded(last_sequence(event, found))
        mailbox.advance(now)

    def update(self, invocation: Invocation) -> None:
        """Write the row of a call that is not in memory."""
        batch = self.engine.batch
        batch.rows.updated.append(invocation)
        self.engine.loads.changed(invocation.id, batch.number)

    def requeue(self, invocation: Invocation, *, is_new: bool = False) -> None:
        """A call that can run waits in the database, behind all others: the backlog brings it.

        If it is new, its row is in the open batch.
        """
        if not is_new:
            self.update(invocation)
        self._to_the_end(invocation)
        self._spilled_until = invocation.sequence
        self.refill()

    def evict_mailbox(self, mailbox: Mailbox) -> None:
        """Forget an entity that nobody uses."""
        self.mailboxes.pop((mailbox.entity.name, mailbox.key), None)
        if mailbox.fields is not None:
            mailbox.fields.evict()
