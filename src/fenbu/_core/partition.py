"""A partition: which of its calls are in memory, and what reaches them.

It accepts calls, holds a bounded window of those that can run, leaves the rest in the database as backlog
and loads them in order of acceptance, wakes suspended ones, and hands each message to its call.
Guarantee: accepted-never-lost. A call in no memory is a row that a cursor, an instant or a message leads to.
Guarantee: message-once-in-order. A message to a call in memory is applied in its sender's batch; any other
goes through the inbox, and so do all that follow it until the inbox has been read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fenbu._core.effect import Accepted, Ended, LoadCalls, LoadReady, ReadInbox, WakeAt
from fenbu._core.event import (
    CallsLoaded,
    DueLoaded,
    EntityLoaded,
    Event,
    MarkDurable,
    OperationsLoaded,
    ReadyLoaded,
)
from fenbu._core.failure import failure_of
from fenbu._core.handler import HandlerSpec
from fenbu._core.mailbox import Mailbox
from fenbu._core.message import Call, Cancel, Message, Reply, Retry, Signal, Subscribe
from fenbu._core.model import (
    FINISHED,
    PARKED,
    Entry,
    Invocation,
    Kind,
    Loaded,
    Outcome,
    Status,
    outcome_of,
)
from fenbu._core.program import Program
from fenbu._core.resident import Resident
from fenbu._core.task import Task
from fenbu.errors import CallNotFound, DeadlockError

if TYPE_CHECKING:
    from fenbu._core.engine import Engine


def _last(event: ReadyLoaded | OperationsLoaded, taken: list[Loaded]) -> int:
    """The highest sequence that has been dealt with."""
    if len(taken) == len(event.found) and event.complete:
        return event.until
    return taken[-1].invocation.sequence if taken else -1


class Partition:
    """See the module."""

    def __init__(self, engine: Engine, number: int, last_sequence: int) -> None:
        self.engine = engine
        self.number = number
        self.residents: dict[str, Resident] = {}
        self.mailboxes: dict[tuple[str, str], Mailbox] = {}
        self._next_sequence = last_sequence + 1
        self._cursor = 0
        """The highest sequence that has been loaded or accepted into memory in order."""
        self._spilled_until = last_sequence
        """The highest sequence that waits in the database only."""
        self._refilling = False
        self._active = 0
        self._held: dict[str, list[tuple[Message, int]]] = {}
        """Messages that wait until their call has been loaded."""
        self._parked: dict[str, list[tuple[Message, int]]] = {}
        """Messages for calls whose code has not begun or cannot go on: theirs when they come to memory."""
        self._via_inbox: dict[str, int] = {}
        """Calls with messages in the inbox that are not read yet, and the batch of the last of them."""

    @property
    def spilled(self) -> bool:
        """Calls wait in the database that could run."""
        return self._spilled_until > self._cursor

    # Messages.

    def receive(self, message: Message, now: float, number: int) -> None:
        """Apply a message, from the inbox if `number` is not 0, else from this node's open batch."""
        if isinstance(message, Call):
            self._call(message, now, number)
            return
        id_ = message.to.id if isinstance(message, Reply) else message.id
        resident = self.residents.get(id_)
        if number == 0 and (resident is None or self._must_queue(resident, message)):
            batch = self.engine.batch
            batch.rows.inbox.append(message)
            batch.effects.append(ReadInbox())
            self._via_inbox[id_] = batch.number
        elif resident is None:
            self._hold(id_, message, number)
        elif isinstance(message, Reply | Signal) and resident.activation is None:
            if resident.spec.kind is Kind.TASK:
                self._consume(number)
            else:
                resident.mail.append((message, number))
        else:
            self._consume(number)
            self._deliver(resident, message, now)

    def _must_queue(self, resident: Resident, message: Message) -> bool:
        if resident.invocation.id in self._via_inbox:
            return True
        return isinstance(message, Reply | Signal | Retry) and resident.activation is None

    def _deliver(self, resident: Resident, message: Message, now: float) -> None:
        match message:
            case Reply():
                resident.reply(message, now)
            case Signal():
                resident.signal(message, now)
            case Cancel():
                resident.cancel(message.reason, now)
            case Subscribe():
                resident.subscribe(message.reply_to)
            case Retry():
                if resident.invocation.status in PARKED:
                    self._retry(Loaded(resident.invocation, []))
            case Call():
                raise AssertionError(message)

    def _consume(self, number: int) -> None:
        if number:
            self.engine.batch.rows.inbox_deleted.append(number)

    def _hold(self, id_: str, message: Message, number: int) -> None:
        held = self._held.get(id_)
        if held is None:
            self._held[id_] = [(message, number)]
            self._load(id_)
        else:
            held.append((message, number))

    def _load(self, id_: str) -> None:
        load = LoadCalls(self.number, self.engine.loads.begin(self.engine.batch.number), (id_,))
        self.engine.batch.effects.append(load)

    def inbox_read(self, batch_number: int) -> None:
        """Everything that batches up to this one put into the inbox has been received."""
        for id_ in [each for each, last in self._via_inbox.items() if last <= batch_number]:
            del self._via_inbox[id_]

    # Accepting calls.

    def _call(self, message: Call, now: float, number: int) -> None:
        invocation = message.invocation
        if message.fresh:
            self._consume(number)
            self._accept(message, now, number)
            return
        resident = self.residents.get(invocation.id)
        if resident is None:
            self._hold(invocation.id, message, number)
            return
        self._consume(number)
        if invocation.parent is not None:
            resident.subscribe(invocation.parent)
        self.engine.batch.effects.append(Accepted(invocation.id, existed=True))

    def _accept(self, message: Call, now: float, number: int) -> None:
        invocation, waited, batch = message.invocation, message.waited, self.engine.batch
        invocation.sequence = self._next_sequence
        self._next_sequence += 1
        batch.rows.inserted.append(invocation)
        spec = self.engine.registry.get(invocation.handler, invocation.version)
        if spec is None:
            invocation.status = Status.UNHANDLED
            invocation.waiting = f"no node has registered {invocation.handler}"
            return
        if invocation.wake_at is not None:
            if invocation.deadline_at is not None:
                invocation.wake_at = min(invocation.wake_at, invocation.deadline_at)
            batch.effects.append(WakeAt(invocation.wake_at))
            return
        resident = self._make(invocation, spec, [])
        resident.saved_in = resident.accepted_in = batch.number
        # Callers of this process, and other calls, hear of the outcome from the batch that holds it.
        resident.asked_for = number != 0 and (waited or spec.read_only)
        if spec.kind is Kind.OPERATION:
            self._accept_operation(resident, now, waited=waited)
        elif not waited and (self.spilled or self._active >= self.engine.window):
            self._spilled_until = invocation.sequence
        else:
            if not self.spilled:
                self._spilled_until = self._cursor = invocation.sequence
            self.residents[invocation.id] = resident
            self.set_active(resident, active=True)
            resident.start(now)

    def _accept_operation(self, resident: Resident, now: float, *, waited: bool) -> None:
        invocation = resident.invocation
        mailbox = self._mailbox(resident)
        if mailbox.name in invocation.chain:
            path = " → ".join((*invocation.chain, mailbox.name))
            self._refuse_deadlock(resident, path, now)
        elif self.spilled or self._active >= self.engine.window or mailbox.full():
            # Earlier operations on this key may wait in the database: it must not overtake them.
            if waited or not mailbox.idle:
                mailbox.spill(invocation.sequence)
            if not waited:
                self._spilled_until = invocation.sequence
        else:
            self._spilled_until = self._cursor = invocation.sequence
            self.residents[invocation.id] = resident
            if mailbox.current is not None and invocation.parent is not None:
                path = self.engine.deadlock(resident, mailbox)
                if path is not None:
                    self._refuse_deadlock(resident, path, now)
                    return
            mailbox.push(resident)
            mailbox.advance(now)

    def _refuse_deadlock(self, resident: Resident, path: str, now: float) -> None:
        error = DeadlockError(
            f"{resident.spec.name} {resident.invocation.id} would wait for itself: {path}. An entity runs "
            "one operation at a time, so call back after the operation has ended, or use `.start()`"
        )
        resident.fail(error, now)

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

    # Which calls are in memory.

    def set_active(self, resident: Resident, *, active: bool) -> None:
        """Count the calls that have something to run; those that only wait are not of them."""
        if resident.active is not active:
            resident.active = active
            self._active += 1 if active else -1
            if active:
                self.engine.not_idle(resident)
            elif self.spilled:
                self.refill()

    def survived(self, resident: Resident) -> None:
        """It got further, or ended, without taking the process down."""
        self.engine.suspects.survived(resident, self.engine.now)

    def forget(self, resident: Resident) -> None:
        """A call leaves memory."""
        self._changed(resident.invocation.id)
        self.residents.pop(resident.invocation.id, None)
        self.set_active(resident, active=False)
        self.engine.not_idle(resident)
        if resident.mailbox is not None:
            resident.mailbox.remove(resident)
        for message, number in resident.mail:
            self._hold(resident.invocation.id, message, number)
        resident.mail.clear()
        if self.spilled:
            self.refill()

    def refill(self) -> None:
        """Ask for more of the backlog if there is room."""
        if self.spilled and not self._refilling and self._active <= self.engine.window // 2:
            self._refilling = True
            self.engine.batch.effects.append(
                LoadReady(
                    self.number,
                    self.engine.loads.begin(self.engine.batch.number),
                    self._cursor,
                    self._spilled_until,
                )
            )

    def _make(self, invocation: Invocation, spec: HandlerSpec, entries: list[Entry]) -> Resident:
        if spec.kind is Kind.TASK:
            return Task(self, invocation, spec)
        return Program(self, invocation, spec, entries)

    def _bring(self, loaded: Loaded) -> Resident | None:
        """Take a loaded call into memory; None if it is not one that could run."""
        invocation = loaded.invocation
        resident = self.residents.get(invocation.id)
        if resident is not None:
            return resident
        if invocation.status in FINISHED or invocation.status in PARKED:
            return None
        spec = self.engine.registry.get(invocation.handler, invocation.version)
        if spec is None:
            invocation.status = Status.UNHANDLED
            invocation.waiting = f"no node has registered {invocation.handler}"
            invocation.wake_at = None
            self._update(invocation)
            return None
        resident = self._make(invocation, spec, loaded.entries)
        resident.mail.extend(self._parked.pop(invocation.id, ()))
        self.residents[invocation.id] = resident
        self.set_active(resident, active=True)
        if spec.kind is Kind.OPERATION:
            mailbox = self._mailbox(resident)
            mailbox.push(resident)
            self.set_active(resident, active=False)
        self.engine.suspects.admit(resident, self.engine.now)
        return resident

    def _bring_operation(self, loaded: Loaded) -> None:
        """Like `_bring`, unless earlier operations on its key wait in the database."""
        invocation = loaded.invocation
        if invocation.entity is not None and invocation.key is not None:
            mailbox = self.mailboxes.get((invocation.entity, invocation.key))
            if mailbox is not None and mailbox.full():
                mailbox.spill(invocation.sequence)
                return
        self._bring(loaded)

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
            case ReadyLoaded():
                self._ready_loaded(event)
            case OperationsLoaded():
                self._operations_loaded(event, now)
            case DueLoaded():
                for loaded in self._fresh(event.found, event.batch):
                    self._bring(loaded)
            case CallsLoaded():
                self._calls_loaded(event, now)

    def _fresh(self, found: list[Loaded], batch: int) -> list[Loaded]:
        """What was loaded, up to the first call that has changed since: from there on, ask again."""
        for index, loaded in enumerate(found):
            if self.engine.loads.is_stale(loaded.invocation.id, batch):
                return found[:index]
        return found

    def _ready_loaded(self, event: ReadyLoaded) -> None:
        self._refilling = False
        found = self._fresh(event.found, event.batch)
        for loaded in found:
            self._bring_operation(loaded)
        self._cursor = max(self._cursor, _last(event, found))
        self.refill()

    def _operations_loaded(self, event: OperationsLoaded, now: float) -> None:
        mailbox = self.mailboxes.get((event.entity, event.key))
        if mailbox is None:
            return
        found = self._fresh(event.found, event.batch)
        for loaded in found:
            self._bring(loaded)
        mailbox.operations_loaded(_last(event, found))
        mailbox.advance(now)

    def _calls_loaded(self, event: CallsLoaded, now: float) -> None:
        found = {each.invocation.id: each for each in event.found}
        for id_ in event.ids:
            if self.engine.loads.is_stale(id_, event.batch):
                self._load(id_)
                continue
            loaded = found.get(id_)
            for message, number in self._held.pop(id_, ()):
                self._deliver_loaded(id_, loaded, message, number, now)
                if loaded is None and isinstance(message, Call):
                    # Accepted just now: for what follows it exists, in memory or as a row.
                    loaded = Loaded(message.invocation, [])

    def _deliver_loaded(
        self, id_: str, loaded: Loaded | None, message: Message, number: int, now: float
    ) -> None:
        """A message whose call was not in memory: now it is known what became of that call."""
        if id_ in self.residents:
            self.receive(message, now, number)
            return
        if loaded is None:
            self._consume(number)
            if isinstance(message, Call):
                self._accept(message, now, number)
                self.engine.batch.effects.append(Accepted(id_, existed=False))
            elif isinstance(message, Subscribe):
                error = failure_of(CallNotFound(f"no call has the id {id_!r}"))
                self.engine.send(Reply(message.reply_to, Outcome(Status.FAILED, failure=error)))
            return
        invocation = loaded.invocation
        match message:
            case Call() | Subscribe():
                self._consume(number)
                address = (
                    message.invocation.parent if isinstance(message, Call) else message.reply_to
                )
                if isinstance(message, Call):
                    self.engine.batch.effects.append(Accepted(id_, existed=True))
                if address is None:
                    return
                if invocation.status in FINISHED:
                    self.engine.send(Reply(address, outcome_of(invocation)))
                elif address not in invocation.waiters:
                    # Its row is enough: it need not come to memory to know who waits.
                    invocation.waiters = (*invocation.waiters, address)
                    self._update(invocation)
            case Retry():
                self._consume(number)
                self._retry(loaded)
            case Cancel() if invocation.status in PARKED or (
                invocation.started_at is None and invocation.status is Status.PENDING
            ):
                self._consume(number)
                self._cancel_row(invocation, message.reason, now)
            case Reply() | Signal() if (
                invocation.status is Status.PENDING or invocation.status in PARKED
            ):
                self._parked.setdefault(id_, []).append((message, number))
            case Reply() | Signal() | Cancel():
                resident = self._bring(loaded)
                if resident is None:
                    self._consume(number)
                else:
                    self.receive(message, now, number)

    def _changed(self, id_: str) -> None:
        self.engine.loads.changed(id_, self.engine.batch.number)

    def _update(self, invocation: Invocation) -> None:
        """Write the row of a call that is not in memory."""
        self.engine.batch.rows.updated.append(invocation)
        self._changed(invocation.id)

    def _cancel_row(self, invocation: Invocation, reason: str, now: float) -> None:
        """Cancel a call whose code has not begun, or cannot go on."""
        invocation.cancel_reason = reason
        invocation.status = Status.CANCELLED
        invocation.finished_at = now
        invocation.wake_at = invocation.waiting = None
        self._update(invocation)
        for _, number in self._parked.pop(invocation.id, ()):
            self._consume(number)
        outcome = Outcome(Status.CANCELLED)
        self.engine.batch.effects.append(Ended(invocation.id, outcome))
        for address in (invocation.parent, *invocation.waiters):
            if address is not None:
                self.engine.send(Reply(address, outcome))

    def _retry(self, loaded: Loaded) -> None:
        """Start a finished call anew, or let a parked one go on where it stopped."""
        invocation = loaded.invocation
        batch = self.engine.batch
        resident = self.residents.pop(invocation.id, None)
        if resident is not None and resident.mailbox is not None:
            resident.mailbox.remove(resident)
        if invocation.status in FINISHED:
            if invocation.status is Status.COMPLETED:
                return
            batch.rows.journals_cleared.append(invocation.id)
            loaded.entries.clear()
            spec = self.engine.registry.get(invocation.handler, invocation.version)
            task = spec is not None and spec.kind is Kind.TASK
            # A workflow's steps and children get new ids: this is another run of its code.
            invocation.attempt = 0 if task else invocation.attempt + 1
            invocation.started_at = invocation.finished_at = invocation.commands = None
            invocation.cancel_reason = invocation.deadline_at = None
        elif invocation.status not in PARKED:
            return
        invocation.sequence = self._next_sequence
        self._next_sequence += 1
        invocation.failure = invocation.result = invocation.waiting = invocation.wake_at = None
        invocation.crashes = 0
        invocation.status = Status.PENDING if invocation.started_at is None else Status.RUNNING
        self._update(invocation)
        # The ordinary path of a call that waits in the database takes it from here.
        self._spilled_until = invocation.sequence
        self.refill()

    def evict_mailbox(self, mailbox: Mailbox) -> None:
        """Forget an entity that nobody uses."""
        self.mailboxes.pop((mailbox.entity.name, mailbox.key), None)
