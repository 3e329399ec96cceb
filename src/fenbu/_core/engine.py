"""All partitions of one node as one state machine: (state, event, now) → the open batch.

It carries messages between its partitions within a batch, and keeps the timers and the lists of what may
leave memory. The node empties `batch` when it commits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from fenbu._core import ids, limit
from fenbu._core.batch import Batch
from fenbu._core.effect import RunBody
from fenbu._core.event import (
    BodyBeat,
    BodyEnded,
    CallsLoaded,
    DueLoaded,
    Event,
    OperationsLoaded,
    ReadyLoaded,
)
from fenbu._core.field import FieldCache
from fenbu._core.handler import Registry
from fenbu._core.idle import IdleCalls
from fenbu._core.load import Loads
from fenbu._core.loop import Stage
from fenbu._core.mailbox import Mailbox
from fenbu._core.message import Call, Message
from fenbu._core.model import Invocation
from fenbu._core.order import Receiver, receiver_of
from fenbu._core.partition import Partition
from fenbu._core.resident import body_beat
from fenbu._core.suspect import Suspects
from fenbu._core.timer import TimerQueue


class Engine:
    """See the module."""

    def __init__(
        self,
        registry: Registry,
        *,
        active_calls_max: int = limit.ACTIVE_CALLS_MAX,
        idle_calls_max: int = limit.IDLE_CALLS_MAX,
        idle_seconds: float = limit.IDLE_SECONDS,
        entities_max: int = limit.ENTITIES_MAX,
        field_cache_bytes: int = limit.FIELD_CACHE_BYTES,
    ) -> None:
        self.registry = registry
        self.stage = Stage()
        """Code that it drives runs on this; to be entered around many events."""
        self.partitions: dict[int, Partition] = {}
        self.batch = Batch(1)
        self.timers = TimerQueue()
        self._active_calls_max = active_calls_max
        self._entities_max = entities_max
        self.idle = IdleCalls(idle_calls_max, idle_seconds)
        self._entities: OrderedDict[Mailbox, Partition] = OrderedDict()
        self.fields = FieldCache(field_cache_bytes)
        """Lazy fields of entities."""
        self.window = active_calls_max
        """Calls of one partition in memory that have something to run."""
        self.loads = Loads()
        self.suspects = Suspects(idle_seconds)
        self._to_come: dict[int, dict[Receiver, int]] = {}
        """Of partitions that are about to be taken: to whom messages are on their way, and the last batch
        with one."""
        self.now = 0.0
        """When the engine was last driven."""
        self.early = ""
        """The call that is being accepted, if it is durable as a message and nobody has begun with it."""
        self.early_bodies: list[RunBody] = []
        """Bodies that need not wait for the open batch: their calls are durable as messages. For the node,
        which takes them."""

    def will_take(self, numbers: Iterable[int]) -> None:
        """From now on remember which messages go to these partitions through the inbox."""
        self._to_come = {number: {} for number in numbers}

    def take(self, numbers: Iterable[int], last_sequences: dict[int, int]) -> None:
        """Become the owner of these partitions; what they hold is loaded as their backlog.

        Until `caught_up` says that their inbox has been read, all that this node sends there goes behind
        what is in it. After that only what follows a message that is not read yet, of those that were sent
        since `will_take`. Guarantee: message-once-in-order.
        """
        to_come, self._to_come = self._to_come, {}
        taken = [
            Partition(self, number, last_sequences.get(number, 0), to_come.get(number))
            for number in numbers
        ]
        self.partitions.update((each.number, each) for each in taken)
        self._share_window()
        for partition in taken:
            partition.refill()

    def caught_up(self, numbers: Iterable[int]) -> None:
        """What was in the inbox of these partitions when they were taken has been received."""
        for number in numbers:
            partition = self.partitions.get(number)
            if partition is not None:
                partition.order.is_behind = False

    def release(self, numbers: Iterable[int], now: float) -> None:
        """Give partitions up in good order: what is in them goes on with their next owner.

        Nothing that runs or waits there counts as crashed. With the open batch it is all written.
        """
        self.now = now
        for number in numbers:
            partition = self.partitions.pop(number, None)
            if partition is not None:
                partition.hand_back(now)
                for mailbox in list(partition.mailboxes.values()):
                    self._entities.pop(mailbox, None)
                    partition.evict_mailbox(mailbox)
        self._share_window()

    def abandon(self) -> None:
        """Others may own the partitions now: drop all code where it stands, and write nothing."""
        partitions, self.partitions = self.partitions, {}
        for partition in partitions.values():
            for resident in partition.residents.values():
                if resident.activation is not None:
                    resident.activation.leave()

    def _share_window(self) -> None:
        self.window = max(16, self._active_calls_max // max(1, len(self.partitions)))

    def next_batch(self) -> Batch:
        """Hand over the open batch and open the next."""
        batch = self.batch
        self.batch = Batch(batch.number + 1)
        return batch

    # Input.

    def apply(self, event: Event | BodyBeat, now: float) -> None:
        """Something happened."""
        self.now = now
        partition = self.partitions.get(event.partition)
        if isinstance(event, BodyBeat):
            resident = partition.residents.get(event.id) if partition is not None else None
            if resident is not None:
                body_beat(resident, event)
            return
        if partition is not None:
            partition.apply(event, now)
        if isinstance(event, CallsLoaded | ReadyLoaded | OperationsLoaded | DueLoaded):
            self.loads.end(event.batch)
        if self.batch.messages:
            self._carry(now)

    def body_ended(self, event: BodyEnded, now: float) -> None:
        """A body has ended: like `apply`, for what happens most often."""
        self.now = now
        partition = self.partitions.get(event.partition)
        resident = partition.residents.get(event.id) if partition is not None else None
        if resident is not None:
            resident.body_ended(event, now)
            if self.batch.messages:
                self._carry(now)

    def receive(
        self, message: Message, now: float, number: int = 0, *, early: bool = False
    ) -> None:
        """A message has come: from the inbox if `number` is not 0, else from a client of this node.

        If `early`, it was put into the inbox after this node took the partition. Then nobody can have run
        what it starts, and the bodies may run before there is a row that says so. Otherwise a call that
        takes its process down would never be counted.
        """
        self.now = now
        partition = self.partitions.get(message.partition)
        if partition is not None:
            if early and isinstance(message, Call) and message.fresh:
                self.early = message.invocation.id
            partition.receive(message, now, number)
            self.early = ""
            if self.batch.messages:
                self._carry(now)

    def post(self, message: Message, now: float) -> None:
        """A client of this process sends a message: with the open batch it is accepted, wherever it goes."""
        if message.partition in self.partitions:
            self.receive(message, now)
        else:
            self._send_elsewhere(message)

    def _send_elsewhere(self, message: Message) -> None:
        self.batch.rows.inbox.append(message)
        if self._to_come:
            to_come = self._to_come.get(message.partition)
            if to_come is not None:
                to_come[receiver_of(message)] = self.batch.number

    def tick(self, now: float) -> None:
        """Time has passed: fire what is due and let go of what has been idle for long."""
        self.now = now
        while (due := self.timers.pop_due(now)) is not None:
            number, id_, command = due
            partition = self.partitions.get(number)
            resident = partition.residents.get(id_) if partition is not None else None
            if resident is not None:
                resident.timer_due(command, now)
                self._carry(now)
        self.idle.suspend(now)
        self.timers.compact(self._is_resident)
        while len(self._entities) > self._entities_max:
            mailbox, partition = self._entities.popitem(last=False)
            if mailbox.idle:
                partition.evict_mailbox(mailbox)
            else:
                self._entities[mailbox] = partition
                break
        self.fields.trim()
        self.suspects.tick(now)

    def _carry(self, now: float) -> None:
        messages = self.batch.messages
        while messages:
            message = messages.popleft()
            self.partitions[message.partition].carry(message, now)

    def inbox_read(self, batch_number: int) -> None:
        """The inbox has been read to its end after this batch was durable."""
        for partition in self.partitions.values():
            partition.order.read(batch_number)

    def give(self, partition: int, id_: str, commands: set[int], to: int, now: float) -> bool:
        """Let a call go on in another partition, if these are all of its bodies that were asked for.

        The caller sees to it that none of them runs, now or later. It is given only from where it was
        accepted. Messages find it by way of there: if it went on to a third partition, those that are still
        on their way to the second would be overtaken. Guarantee: message-once-in-order.
        """
        self.now = now
        owner = self.partitions.get(partition)
        resident = owner.residents.get(id_) if owner is not None else None
        if owner is None or resident is None or resident.bodies.keys() != commands:
            return False
        is_bound = resident.mailbox is not None or not resident.marked or resident.mail
        is_home = partition == self.place(None, None, id_)
        if is_bound or owner.order.expects(id_) or not is_home:
            return False
        owner.give(resident, to, now)
        if self.batch.messages:
            self._carry(now)
        return True

    # Used by partitions and residents.

    def send(self, message: Message) -> None:
        """To a partition of this node within the batch, to any other through its inbox."""
        if message.partition in self.partitions:
            self.batch.messages.append(message)
        else:
            self._send_elsewhere(message)

    def place(self, entity: str | None, key: str | None, id_: str) -> int:
        """The partition of a call."""
        return ids.home_of(id_, entity, key, self.registry.partition_count)

    def choose_version(self, call: Invocation) -> None:
        """That of a new call whose sender, such as SQL, does not know the handler."""
        spec = self.registry.latest(call.handler)
        call.version = spec.version if spec is not None else 1
        if call.deadline_at is None:
            call.deadline_at = self.deadline(call.handler, call.version, None, call.created_at)

    def deadline(
        self, handler: str, version: int, timeout_seconds: float | None, now: float
    ) -> float | None:
        """When a new call must have ended."""
        if timeout_seconds is None:
            spec = self.registry.get(handler, version)
            timeout_seconds = spec.timeout_seconds if spec is not None else None
        return None if timeout_seconds is None else now + timeout_seconds

    def arm(self, when: float, partition: int, id_: str, command: int) -> None:
        """Call back at an instant, if the call is in memory then."""
        self.timers.push(when, partition, id_, command)
        self.timers.compact(self._is_resident)

    def _is_resident(self, partition: int, id_: str) -> bool:
        owner = self.partitions.get(partition)
        return owner is not None and id_ in owner.residents

    def entity_used(self, mailbox: Mailbox) -> None:
        partition = mailbox.partition
        self._entities[mailbox] = partition
        self._entities.move_to_end(mailbox)

    def next_tick(self) -> float | None:
        """When `tick` has something to do again."""
        instants = (
            self.timers.next(),
            self.idle.next_due(self.now),
            self.suspects.next_due(),
            self.now if self.fields.is_full else None,
        )
        return min((each for each in instants if each is not None), default=None)
