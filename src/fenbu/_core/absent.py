"""Messages for calls that are not in memory: they wait until the rows of their calls have been read.

Guarantee: message-once-in-order. A message leaves the inbox in the batch that applies it, and those for one
call are applied in the order in which they came: also if the call comes to memory another way meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fenbu._core import conflict, journal, pause, tie, update
from fenbu._core.effect import Accepted, Ended, LoadCalls, WakeAt
from fenbu._core.event import CallsLoaded
from fenbu._core.failure import failure_of
from fenbu._core.message import (
    Adopt,
    Call,
    Cancel,
    Claim,
    Deadlock,
    IfExists,
    Making,
    Message,
    Pause,
    Probe,
    Reply,
    Restore,
    Retry,
    Signal,
    Subscribe,
    Update,
    Withheld,
    guarded,
    within,
)
from fenbu._core.model import (
    FINISHED,
    PARKED,
    TERMINATED,
    Address,
    Invocation,
    Kind,
    Loaded,
    Outcome,
    Status,
    outcome_of,
)
from fenbu._core.turn import Turns
from fenbu.errors import CallEnded, CallNotFound

if TYPE_CHECKING:
    from fenbu._core.partition import Partition
    from fenbu._core.resident import Resident

Numbered = tuple[Message, int]
"""A message with its number in the inbox; 0 if it came another way."""

Told = Callable[[Invocation | None, float], None]


class Absent:
    """See the module."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self.held: dict[str, list[Numbered]] = {}
        """Messages that wait until their call has been loaded; no other to it may overtake them."""
        self._parked: dict[str, list[Numbered]] = {}
        """Messages for calls whose code has not begun or cannot go on: theirs when they come to memory."""
        self._asking: dict[str, list[tuple[Resident, Told]]] = {}
        """Who wants to know whether there is an update of an id."""
        self._turns = Turns()
        """Operations among those that are held."""

    def hold(self, id_: str, message: Message, number: int) -> None:
        """Keep a message until it is known what became of its call."""
        held = self.held.get(id_)
        if held is None:
            self.held[id_] = [(message, number)]
            self._load(id_)
        else:
            held.append((message, number))
        if isinstance(message, Call):
            self._turns.join(message.invocation, new=False)

    def follow(self, message: Call, number: int) -> bool:
        """Keep an operation that cannot exist yet behind those of its entity that are looked up, if any."""
        invocation = message.invocation
        if not self._turns.must_follow(invocation):
            return False
        if number:
            self.held.setdefault(invocation.id, []).append((message, number))
            self._turns.join(invocation, new=True)
        else:
            # Its sender's journal has it as sent: it must not be in memory only.
            self._partition.queue(message)
        return True

    def take_back(self, id_: str, mail: list[Numbered]) -> None:
        """The call leaves memory and has not seen them: they came before all that wait here."""
        if mail:
            behind = self.held.pop(id_, ())
            self.held[id_] = [*mail, *behind]
            mail.clear()
            if not behind:
                self._load(id_)

    def look_up(self, id_: str, asking: Resident, told: Told) -> None:
        """Tell a call, if it is in memory by then, whether there is an update with this id."""
        self._asking.setdefault(id_, []).append((asking, told))
        self._load(id_)

    def take_parked(self, id_: str) -> list[Numbered]:
        """The call comes to memory: its messages are its own from now on."""
        return self._parked.pop(id_, [])

    def hand_back(self) -> None:
        """The partition goes to another owner. What came through the inbox is still there for him."""
        inbox = self._partition.engine.batch.rows.inbox
        for held in self.held.values():
            inbox.extend(message for message, number in held if not number)

    def _load(self, id_: str) -> None:
        engine = self._partition.engine
        load = LoadCalls(self._partition.number, engine.loads.begin(engine.batch.number), (id_,))
        engine.batch.effects.append(load)

    def loaded(self, event: CallsLoaded, now: float) -> None:
        """The rows have been read."""
        found = {each.invocation.id: each for each in event.found}
        for id_ in event.ids:
            if self._partition.engine.loads.is_stale(id_, event.batch):
                self._load(id_)
                continue
            for asking, told in self._asking.pop(id_, ()):
                if self._partition.residents.get(asking.invocation.id) is asking:
                    known = found.get(id_)
                    told(None if known is None else known.invocation, now)
            row = found.get(id_)
            if row is not None or id_ in self._partition.residents or self._turns.may_begin(id_):
                self._settle(id_, row, now)

    def _settle(self, id_: str, row: Loaded | None, now: float) -> None:
        """It is known what became of a call; then it is the turn of operations that wait behind it."""
        ready: deque[tuple[str, Loaded | None]] = deque([(id_, row)])
        while ready:
            id_, row = ready.popleft()
            held = self.held.pop(id_, [])
            left = self._deliver(id_, row, held, now)
            if (behind := self._turns.leave(id_)) is not None:
                ready.append((behind, None))
            for message, number in left:
                self.hold(id_, message, number)

    def _deliver(
        self, id_: str, loaded: Loaded | None, held: list[Numbered], now: float
    ) -> list[Numbered]:
        """Those that are left: the call was in memory, and one of them, or what it is, made it leave."""
        residents = self._partition.residents
        was_resident = id_ in residents
        for index, (message, number) in enumerate(held):
            if id_ in self.held or (was_resident and id_ not in residents):
                return held[index:]
            self._deliver_loaded(id_, loaded, message, number, now)
            if loaded is None and isinstance(message, Restore):
                # What follows it needs its journal, which is in the open batch: load it.
                return held[index + 1 :]
            if loaded is None and isinstance(message, Making) and message.invocation.id == id_:
                # Accepted just now: for what follows it exists, in memory or as a row.
                loaded = Loaded(message.invocation, [])
        return []

    def _deliver_loaded(
        self, id_: str, loaded: Loaded | None, message: Message, number: int, now: float
    ) -> None:
        """A message whose call was not in memory: now it is known what became of that call."""
        if id_ in self._partition.residents:
            self._partition.receive(message, now, number)
            return
        if isinstance(message, Update) and id_ == message.invocation.id:
            self._refuse_unless(loaded, message, number, now)
            return
        if loaded is None:
            self._to_nobody(id_, message, number, now)
            return
        invocation = loaded.invocation
        if invocation.partition != self._partition.number:
            self._forward(invocation, message, number)
            return
        if invocation.handler == update.HANDLER and not isinstance(message, Call | Subscribe):
            self._to_update(invocation, message, number, now)
            return
        asked = within(message)
        if isinstance(asked, Update) and self._kind_of(invocation) not in (Kind.WORKFLOW, None):
            self._not_for(invocation, asked, number, now)
            return
        if isinstance(message, Cancel) and not message.at_once:
            self._let_clean_up(invocation, now)
        match message:
            case Adopt():
                self._partition.consume(number)
                self._partition.adopt(loaded)
            case Pause():
                self._partition.consume(number)
                self._pause(loaded, message)
            case Claim():
                self._partition.consume(number)
                self._let_go(invocation, message.to)
            case Call() if conflict.begins_anew(message, invocation):
                self._replace(loaded, message, number, now)
            case Call():
                self._partition.consume(number)
                self._is_there(invocation, message, now)
            case Subscribe():
                self._partition.consume(number)
                self.subscribe(invocation, message.reply_to)
            case Restore():
                self._partition.consume(number)
            case Retry():
                self._partition.consume(number)
                if not (message.parked and invocation.status in FINISHED):
                    self.retry(loaded)
            case Cancel() if invocation.status in PARKED or (
                invocation.started_at is None and invocation.status is Status.PENDING
            ):
                self._partition.consume(number)
                self._cancel_row(loaded, message.reason, now, at_once=message.at_once)
            case Reply() | Signal() | Update() | Withheld() if (
                invocation.status is Status.PENDING or invocation.status in PARKED
            ):
                self._parked.setdefault(id_, []).append((message, number))
            case Reply() | Signal() | Update() | Withheld() | Cancel():
                if self._partition.bring(loaded) is not None:
                    self._partition.receive(message, now, number)
                elif invocation.status in FINISHED:
                    self._too_late(id_, message, number, now)
                else:  # Its handler is not here: it has just been parked.
                    self._deliver_loaded(id_, loaded, message, number, now)
            case Probe() | Deadlock():
                raise AssertionError(message)  # They do not wait for anybody.

    def _is_there(self, invocation: Invocation, message: Call, now: float) -> None:
        """The call means the one that exists: its sender is told, and hears of its outcome."""
        engine = self._partition.engine
        conflict.tell(engine.batch, message, now, existed=True)
        if (refusal := conflict.refusal(message)) is not None:
            engine.send(refusal)
        else:
            self.subscribe(invocation, message.invocation.parent)

    def _to_nobody(self, id_: str, message: Message, number: int, now: float) -> None:
        """There is no such call: unless the message makes one, whoever waits for something is told."""
        message = within(message)
        if isinstance(message, Update):
            error = CallNotFound(f"no call has the id {id_!r}, or its retention is over")
            self.refuse(message, number, error, now)
            return
        self._partition.consume(number)
        if isinstance(message, Call):
            self._partition.accept(message, now, number)
            conflict.tell(self._partition.engine.batch, message, now, existed=False)
        elif isinstance(message, Restore):
            self._restore(message, now)
        elif isinstance(message, Subscribe):
            failure = failure_of(CallNotFound(f"no call has the id {id_!r}"))
            self._partition.engine.send(
                Reply(message.reply_to, Outcome(Status.FAILED, failure=failure))
            )

    def _replace(self, loaded: Loaded, message: Call, number: int, now: float) -> None:
        """A call takes the place of one that is not in memory."""
        invocation, partition = loaded.invocation, self._partition
        if invocation.status not in FINISHED:
            has_begun = invocation.started_at is not None and invocation.status not in PARKED
            if has_begun and partition.bring(loaded) is not None:
                partition.receive(message, now, number)
                return
            self._cancel_row(loaded, "replaced", now, at_once=True)
        partition.consume(number)
        partition.accept(message, now, 0, before=invocation)
        conflict.tell(partition.engine.batch, message, now, existed=False)

    def subscribe(self, invocation: Invocation, address: Address | None) -> None:
        """One more command waits for the outcome of a call that is in no memory."""
        if address is None:
            return
        if invocation.partition != self._partition.number:
            self._partition.engine.send(Subscribe(invocation.partition, invocation.id, address))
        elif invocation.status in FINISHED:
            self._partition.engine.send(guarded(Reply(address, outcome_of(invocation))))
        elif address not in invocation.waiters:
            # Its row is enough: it need not come to memory to know who waits.
            invocation.waiters = (*invocation.waiters, address)
            self._partition.update(invocation)

    # Updates.

    def _kind_of(self, invocation: Invocation) -> Kind | None:
        spec = self._partition.engine.registry.get(invocation.handler, invocation.version)
        return None if spec is None else spec.kind

    def _not_for(self, invocation: Invocation, message: Update, number: int, now: float) -> None:
        kind = self._kind_of(invocation)
        if kind is not None:
            self.refuse(message, number, update.not_for(kind, message.id), now)

    def _too_late(self, id_: str, message: Message, number: int, now: float) -> None:
        """A message for a call that has ended: only an update is told."""
        message = within(message)
        if isinstance(message, Update):
            self.refuse(message, number, update.ended_first(id_), now)
        else:
            self._partition.consume(number)

    def refuse(
        self, message: Update, number: int, reason: BaseException | Outcome, now: float
    ) -> None:
        """There is nobody who could take an update: it fails, unless it exists already."""
        failure = reason.failure if isinstance(reason, Outcome) else failure_of(reason)
        refused = replace(message, failure=failure)
        if message.fresh:
            self._refuse_unless(None, refused, number, now)
        else:
            self.hold(message.invocation.id, refused, number)

    def _refuse_unless(
        self, known: Loaded | None, message: Update, number: int, now: float
    ) -> None:
        self._partition.consume(number)
        if known is not None:
            self.subscribe(known.invocation, message.invocation.parent)
            return
        engine = self._partition.engine
        update.insert(engine, message.invocation, self._partition.number)
        update.end(engine, message.invocation, Outcome(Status.FAILED, failure=message.failure), now)

    def _to_update(self, invocation: Invocation, message: Message, number: int, now: float) -> None:
        """Something has come for an update that its workflow has taken, and it need not read that."""
        message = within(message)
        if isinstance(message, Update):
            self.refuse(message, number, CallEnded(f"{message.id} is itself an update"), now)
            return
        self._partition.consume(number)
        # Nothing else means something to it: its workflow may be cancelled.
        if isinstance(message, Reply) and invocation.status not in FINISHED:
            update.end(self._partition.engine, invocation, message.outcome, now)
            self._partition.update(invocation)

    def _forward(self, invocation: Invocation, message: Message, number: int) -> None:
        """The call was given to another partition since the message was addressed."""
        self._partition.consume(number)
        engine, place = self._partition.engine, invocation.partition
        match message:
            case Call() if message.if_exists is not IfExists.REUSE:
                call = replace(message.invocation, partition=place)
                engine.send(replace(message, invocation=call))
                # It is on its way, and its ticket tells the rest.
                engine.batch.effects.append(Accepted(invocation.id, existed=False))
            case Call():
                engine.batch.effects.append(Accepted(invocation.id, existed=True))
                parent = message.invocation.parent
                if parent is not None:
                    engine.send(Subscribe(place, invocation.id, parent))
            case Reply():
                engine.send(replace(message, to=replace(message.to, partition=place)))
            case Adopt() | Claim() | Restore():
                pass  # It is there already.
            case _:
                engine.send(replace(message, partition=place))

    def _let_go(self, invocation: Invocation, to: int) -> None:
        """Somebody has the handler that this node does not have: the call goes on there."""
        partition, id_ = self._partition, invocation.id
        spec = partition.engine.registry.get(invocation.handler, invocation.version)
        if (
            invocation.status is not Status.UNHANDLED
            or invocation.key is not None
            or spec is not None
        ):
            return
        invocation.status = Status.PENDING if invocation.started_at is None else Status.RUNNING
        invocation.waiting = None
        partition.send_away(invocation, to)
        for message, number in self._parked.pop(id_, ()):
            self._forward(invocation, message, number)

    def _pause(self, loaded: Loaded, message: Pause) -> None:
        """A call that is in no memory stands still from now on, or goes on."""
        invocation = loaded.invocation
        if message.resumes and invocation.status is Status.PAUSED:
            self.retry(loaded)
        elif not message.resumes and pause.can_pause(invocation):
            pause.hold(invocation, message.reason)
            self._partition.update(invocation)

    def _let_clean_up(self, invocation: Invocation, now: float) -> None:
        """A workflow that has been paused goes on when it is cancelled: its code has a say."""
        begun = invocation.started_at is not None
        if (
            invocation.status is Status.PAUSED
            and begun
            and self._kind_of(invocation) is Kind.WORKFLOW
        ):
            pause.release(invocation, now)

    def _cancel_row(self, loaded: Loaded, reason: str, now: float, *, at_once: bool) -> None:
        """Cancel a call whose code has not begun, or cannot go on."""
        invocation, engine = loaded.invocation, self._partition.engine
        invocation.cancel_reason = f"{TERMINATED}{reason}" if at_once else reason
        invocation.status = Status.CANCELLED
        invocation.finished_at = now
        # Why it was parked is no error that it ended with.
        invocation.wake_at = invocation.waiting = invocation.failure = None
        self._partition.update(invocation)
        for message, number in self._parked.pop(invocation.id, ()):
            self._too_late(invocation.id, message, number, now)
        ended_first = update.ended_first(invocation.id)
        for id_ in journal.open_updates(loaded.entries):
            engine.send(Reply(Address(self._partition.number, id_, 0), ended_first))
        for message in tie.ends(tie.in_journal(engine, loaded), reason, at_once=at_once):
            engine.send(message)
        outcome = Outcome(Status.CANCELLED)
        engine.batch.effects.append(Ended(invocation.id, outcome))
        for address in (invocation.parent, *invocation.waiters):
            if address is not None:
                engine.send(Reply(address, outcome))

    def _restore(self, message: Restore, now: float) -> None:
        """A call with its journal comes from elsewhere; if it is open, it goes on from there."""
        invocation, engine = message.invocation, self._partition.engine
        batch = engine.batch
        batch.rows.entries.extend(message.entries)
        batch.rows.chunks.extend(message.chunks)
        if invocation.handler == update.HANDLER:
            update.restore(engine, invocation)
            return
        batch.rows.inserted.append(invocation)
        engine.loads.changed(invocation.id, batch.number)
        if not invocation.version:
            engine.choose_version(invocation)
        # It gets its place behind all others; the backlog brings it, if it can run.
        self._partition.requeue(invocation, is_new=True)
        if invocation.status is Status.PENDING and invocation.wake_at is not None:
            batch.effects.append(WakeAt(max(invocation.wake_at, now)))

    def retry(self, loaded: Loaded) -> None:
        """Start a finished call anew, or let a parked one go on where it stopped."""
        invocation = loaded.invocation
        batch = self._partition.engine.batch
        resident = self._partition.residents.get(invocation.id)
        if resident is not None:
            if resident.mailbox is not None:
                resident.mailbox.discard(resident)
            self._partition.forget(resident)
        if invocation.status in FINISHED:
            if invocation.status is Status.COMPLETED:
                return
            batch.rows.rewritten.append(invocation)
            loaded.entries.clear()
            spec = self._partition.engine.registry.get(invocation.handler, invocation.version)
            task = spec is not None and spec.kind is Kind.TASK
            # A workflow's steps and children get new ids: this is another run of its code.
            invocation.attempt = 0 if task else invocation.attempt + 1
            if not task:
                # Of steps of a run that is over; a task goes on from where it said it was.
                invocation.heartbeats = ()
            invocation.started_at = invocation.finished_at = invocation.commands = None
            invocation.cancel_reason = invocation.deadline_at = None
        elif invocation.status is Status.PAUSED:
            pause.release(invocation, self._partition.engine.now)
            if invocation.wake_at is not None:
                self._partition.update(invocation)
                batch.effects.append(WakeAt(invocation.wake_at))
                return
        elif invocation.status not in PARKED:
            return
        invocation.failure = invocation.result = invocation.waiting = invocation.wake_at = None
        invocation.crashes = 0
        invocation.status = Status.PENDING if invocation.started_at is None else Status.RUNNING
        self._partition.requeue(invocation)
