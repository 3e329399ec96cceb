"""Turn-taking of one entity: its operations run one at a time, in order of acceptance.

It holds the entity's state, the operation that runs and those that wait. The state changes only when an
operation ends well, in the batch that also holds its result and messages. Read-only operations that wait
next to each other run at the same time: they begin behind every write that was accepted before them, and
the next write begins when they have ended, so each sees one state from its first line to its last.
Guarantee: entity-linear.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import TYPE_CHECKING, Any

from fenbu._core import limit
from fenbu._core.effect import LoadEntity, LoadOperations
from fenbu._core.field import Fields
from fenbu._core.handler import EntitySpec
from fenbu._core.message import Call, Cancel, Message
from fenbu._core.model import EntityState, Payload, Status
from fenbu._core.nest import Nest, ground_of, outer_id, overtaken
from fenbu._core.wish import (
    ATTRIBUTE,
    Wishes,
    alarm_call,
    read_alarms,
    read_only_refusal,
    write_alarms,
)
from fenbu.errors import EncodingError, UsageError

if TYPE_CHECKING:
    from fenbu._core.partition import Partition
    from fenbu._core.resident import Resident


class Mailbox:
    """See the module."""

    __slots__ = (
        "_advancing",
        "_fetching",
        "_loading",
        "alarms",
        "changed_at",
        "current",
        "cursor",
        "early",
        "entity",
        "expires_at",
        "fields",
        "instance",
        "key",
        "loaded",
        "nest",
        "partition",
        "queue",
        "readers",
        "spilled_until",
        "state",
        "version",
    )

    def __init__(self, partition: Partition, entity: EntitySpec, key: str) -> None:
        self.partition = partition
        self.entity = entity
        self.key = key
        self.state: Payload | None = None
        self.version = entity.version
        self.alarms: str | None = None
        """As in the row."""
        self.changed_at = 0.0
        self.expires_at: float | None = None
        """As in the row."""
        self.fields: Fields | None = None
        """If it has lazy fields, or rows of some."""
        self.loaded = False
        self.instance: Any = None
        """Built from `state` when first needed; dropped when an operation fails half-way."""
        self.current: Resident | None = None
        """The operation that runs, unless it is read-only."""
        self.readers: dict[Resident, Any] = {}
        """The read-only operations that run, each with the instance that it looks at."""
        self.nest: Nest | None = None
        """The reentrant operations that run, or are to run, in the turn of another."""
        self.queue: deque[Resident] = deque()
        self.early: list[Resident] = []
        """Those that something else than their turn has brought to memory, in order: others may wait in the
        database that come before them."""
        self.cursor = -1
        """The highest sequence that has been in the queue, and with it all before."""
        self.spilled_until = -1
        """The highest sequence that waits in the database only; up to `cursor`: none."""
        self._loading = False
        self._fetching = False
        self._advancing = False

    @property
    def name(self) -> str:
        return f"{self.entity.name}/{self.key}"

    @property
    def spilled(self) -> bool:
        """Operations wait in the database that are not in the queue."""
        return self.spilled_until > self.cursor

    @property
    def idle(self) -> bool:
        return not (
            self.current is not None
            or self.readers
            or self.queue
            or self.nest is not None
            or self.spilled
            or self._loading
            or (self.fields is not None and self.fields.is_loading)
        )

    @property
    def is_complete(self) -> bool:
        """No operation on it waits in the database that could run."""
        return not (self.spilled or self._fetching or self.partition.spilled)

    def nested(self) -> Nest:
        """Where reentrant operations are."""
        if self.nest is None:
            self.nest = Nest(self)
            self.partition.nested.add(self)
        return self.nest

    def full(self) -> bool:
        """A further operation has to wait in the database."""
        count = len(self.queue) + len(self.readers)
        return self.spilled or count >= limit.MAILBOX_OPERATIONS_MAX

    def running(self) -> list[Resident]:
        """The operations that run."""
        return list(self.readers) if self.current is None else [self.current]

    def runs(self, resident: Resident) -> bool:
        """It has its turn."""
        return (
            self.current is resident
            or resident in self.readers
            or (self.nest is not None and resident in self.nest.running)
        )

    def instance_of(self, resident: Resident) -> Any:
        """What the code of an operation that has its turn gets as `self`."""
        if self.current is resident:
            return self.instance
        if self.nest is not None and resident in self.nest.running:
            return self.nest.running[resident][0]
        return self.readers[resident]

    def spill(self, sequence: int) -> None:
        """An accepted operation stays in the database until its turn comes nearer."""
        self.spilled_until = max(self.spilled_until, sequence)
        if self.current is None and not self.queue:
            self._fetch()

    def push(self, resident: Resident, *, in_order: bool = True) -> None:
        """Queue an operation; `advance` starts it.

        It is not `in_order` if a message or an instant has brought it to memory: then it has to wait for
        those before it that are not there yet.
        """
        sequence = _sequence_of(resident)
        if resident.spec.reentrant and outer_id(resident, self.name) is not None:
            self.nested().waiting.append(resident)
        elif in_order or self._has_loaded(sequence):
            self._join(sequence)
            self.queue.append(resident)
            self.cursor = max(self.cursor, sequence)
        else:
            insort(self.early, resident, key=_sequence_of)
            self.spill(sequence)

    def _has_loaded(self, sequence: int) -> bool:
        """No operation up to this one waits in the database."""
        if sequence <= self.cursor:
            return True
        partition = self.partition
        return not self.spilled and (not partition.spilled or sequence <= partition.cursor)

    def _join(self, sequence: int) -> None:
        """All up to this one have come: so it is the turn of those that came early."""
        while self.early and _sequence_of(self.early[0]) <= sequence:
            self.queue.append(self.early.pop(0))

    def advance(self, now: float) -> None:
        """Start operations while it is the turn of one that waits."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while (self.nest is not None and self._inside(now)) or self._start_next(now):
                pass
        finally:
            self._advancing = False
        if self.spilled and self.current is None and not self.queue:
            self._fetch()

    def _start_next(self, now: float) -> bool:
        """Start the operation that is next; false if it cannot begin now."""
        if self.current is not None or not self.queue:
            return False
        if not self.loaded:
            self._load()
            return False
        resident = self.queue[0]
        if not resident.marked or (self.readers and not resident.spec.read_only):
            return False
        if self.fields is not None and not (self.fields.is_home() and self.fields.has(resident)):
            return False
        self.queue.popleft()
        if resident.ground is not None and resident.ground != ground_of(self):
            resident.fail(overtaken(resident), now)
            return True
        if not self._admit(resident):
            return False
        resident.start(now)
        return True

    def _inside(self, now: float) -> bool:
        """Let those go on that run in the turn of another."""
        nest = self.nest
        if nest is None:
            return False
        went = nest.step(now)
        if not went and nest.is_empty:
            self.nest = None
            self.partition.nested.discard(self)
        return went

    def mailed(self, resident: Resident, message: Message, now: float) -> None:
        """A message waits for an operation, which may stand still."""
        if self.nest is not None:
            if isinstance(message, Cancel):
                self.nest.hurry(resident, now)
            self.advance(now)

    def read_beside(self, resident: Resident) -> None:
        """A read-only operation begins beside the one that waits for it."""
        self.readers[resident] = self._instance()

    def _admit(self, resident: Resident) -> bool:
        """Give an operation its turn, and an instance; without one it is stuck."""
        is_reader = resident.spec.read_only
        if is_reader:
            self.readers[resident] = None
        else:
            self.current = resident
        try:
            if self.instance is None and resident.spec is not self.entity.forget:
                instance = self._instance()
                if self.fields is None and self.entity.lazy:
                    self.fields = Fields(self, None)
                if self.fields is not None:
                    self.fields.sort()
                self.instance = instance
            if is_reader:
                # What one of them does to the state, though it must not, no other one sees.
                alone = len(self.readers) == 1
                self.readers[resident] = self.instance if alone else self._instance()
        except (EncodingError, UsageError) as error:
            resident.park(Status.STUCK, error)
            return False
        return True

    def _instance(self) -> Any:
        return self.entity.instance(self.key, self.state, self.version)

    def remove(self, resident: Resident) -> None:
        """An operation leaves before its turn, or while it runs."""
        if self.nest is not None and self.nest.remove(resident, self.partition.engine.now):
            return
        if self.current is resident:
            self.current = None
        elif resident in self.readers:
            del self.readers[resident]
        elif resident in self.queue:
            self.queue.remove(resident)
        elif resident in self.early:
            self.early.remove(resident)

    def loaded_state(self, state: EntityState | None, now: float) -> None:
        """The state has come from the database."""
        self._loading = False
        if not self.loaded:
            self.loaded = True
            if state is not None:
                self.state, self.version, self.alarms = state.state, state.version, state.alarms
                self.changed_at, self.expires_at = state.changed_at, state.expires_at
                if state.fields is not None:
                    self.fields = Fields(self, state.fields)
        self.advance(now)

    def operations_loaded(self, last: int) -> None:
        """Spilled operations up to this sequence have been queued."""
        self._fetching = False
        self.cursor = max(self.cursor, last)
        self._join(self.cursor)

    def keep(self, resident: Resident, now: float) -> None:
        """The running operation ended well: its state counts from now on, and so does what it wished.

        Raises:
            EncodingError: The state does not fit the class.
            UsageError: A read-only operation changed it.
        """
        if self.nest is not None and resident in self.nest.running:
            self.nest.keep(resident)
            return
        if resident.spec is self.entity.forget:
            self._expire(now)
            return
        instance = self.instance_of(resident)
        wishes: Wishes | None = instance.__dict__.pop(ATTRIBUTE, None)
        deleted = wishes is not None and wishes.deleted
        state = None if deleted else self.entity.encode(instance)
        if deleted:
            self.instance = None
        changed = state != self.state and not (self.state is None and state == self.entity.initial)
        if resident.spec.read_only:
            # A state that an older class wrote comes out differently though nobody changed it.
            if wishes is not None or (changed and state != self.entity.encode(self._instance())):
                raise read_only_refusal(resident.spec.name, self.name, wishes)
            return
        if wishes is not None or self._may_be_alarm(resident):
            changed |= self._set_alarms(resident, wishes or Wishes(), now)
        fields = self.fields
        if fields is not None and not deleted and resident.activation is not None:
            changed |= fields.keep(resident.activation.lazy)
        if changed:
            self.state, self.version = state, self.entity.version
            if fields is not None and not deleted:
                fields.move()
            self._write(now)

    def _expire(self, now: float) -> None:
        """It is forgotten if nothing has changed it for as long as its class says, as that is today.

        If its row says something else it is put right first, and goes the next time: who looks for those that
        are to go leaves out the ones that something waits for.
        """
        ttl = self.entity.ttl_seconds
        if ttl is None or self.state is None or self.alarms is not None:
            return
        if self.changed_at + ttl != self.expires_at:
            self._write(self.changed_at)
        elif self.changed_at + ttl <= now:
            self.state = self.instance = None
            self._write(now)

    def _write(self, now: float) -> None:
        """What the entity is now goes into the open batch."""
        name, state, ttl = (self.entity.name, self.key), self.state, self.entity.ttl_seconds
        number, fields = self.partition.number, self.fields
        if fields is not None:
            fields.delete() if state is None else fields.leave()
        self.changed_at = now
        # While an alarm is set it is not forgotten; that of the last one writes it again.
        self.expires_at = None if ttl is None or self.alarms is not None else now + ttl
        self.partition.engine.batch.entities[name] = (
            None
            if state is None
            else EntityState(
                *name, number, state, self.version, now, self.alarms, self.expires_at,
                None if fields is None else fields.names(),
            )
        )  # fmt: skip

    def _set_alarms(self, resident: Resident, wishes: Wishes, now: float) -> bool:
        """Set and cancel alarms; whether that changes the row."""
        before = read_alarms(self.alarms)
        mine = resident.invocation.id
        alarms = {name: id_ for name, id_ in before.items() if id_ != mine}
        for name in before if wishes.deleted else wishes.alarms:
            if (old := alarms.pop(name, None)) is not None:
                self._forget_call(old)
        for name, alarm in () if wishes.deleted else wishes.alarms.items():
            if alarm is not None:
                call = alarm_call(alarm, name, resident.invocation, now)
                engine = self.partition.engine
                call.deadline_at = engine.deadline(alarm.handler, alarm.version, None, alarm.at)
                self.partition.accept(Call(call, fresh=True), now, 0)
                alarms[name] = call.id
        self.alarms = write_alarms(alarms)
        return alarms != before

    def _forget_call(self, id_: str) -> None:
        """An alarm is not to ring: its call waits in the database, or for its turn."""
        partition, engine = self.partition, self.partition.engine
        engine.batch.rows.deleted.append(id_)
        engine.loads.changed(id_, engine.batch.number)
        resident = partition.residents.get(id_)
        if resident is not None:
            resident.drop()
            partition.forget(resident)
            partition.survived(resident)

    def _may_be_alarm(self, resident: Resident) -> bool:
        return self.alarms is not None and resident.invocation.id in self.alarms

    def rung(self, resident: Resident, now: float) -> None:
        """An operation has ended, well or not: if it was an alarm, this is over."""
        if (
            self._may_be_alarm(resident)
            and resident.invocation.id in read_alarms(self.alarms).values()
        ):
            self._set_alarms(resident, Wishes(), now)
            self._write(now)

    def discard(self, resident: Resident) -> None:
        """An operation failed: if it had begun, what it did to the state is void."""
        if self.current is resident or self.readers.get(resident) is self.instance:
            self.instance = None

    def _load(self) -> None:
        if not self._loading:
            self._loading = True
            effect = LoadEntity(self.partition.number, self.entity.name, self.key)
            self.partition.engine.batch.effects.append(effect)

    def _fetch(self) -> None:
        if not self._fetching:
            self._fetching = True
            engine = self.partition.engine
            effect = LoadOperations(
                self.partition.number,
                engine.loads.begin(engine.batch.number),
                self.entity.name,
                self.key,
                self.cursor,
                self.spilled_until,
            )
            engine.batch.effects.append(effect)


def _sequence_of(resident: Resident) -> int:
    return resident.invocation.sequence
