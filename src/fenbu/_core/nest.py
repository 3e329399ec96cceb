"""Reentrant operations: they run in the turn of an operation of the same entity that waits for them.

The operation in whose turn another runs, the outer one, stands still meanwhile: what comes for it waits. The
inner one has an instance of its own, made of the outer's state as it stands. That it begins is an entry in
the outer's journal, and so is its end, with the state that it leaves, in the batch that has its own outcome.
A replay of the outer one sets its fields there. So an inner operation is part of the outer one: its changes
count when that ends well, and are void if that fails. They are changes of one state: if others have changed
that meanwhile, because the outer one was quarantined, it fails when it comes back.
Guarantee: entity-linear.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fenbu._core.message import Reply, Subscribe
from fenbu._core.model import Address, EntryKind, Payload
from fenbu._core.resident import stop_before
from fenbu._core.wish import ATTRIBUTE, read_only_refusal
from fenbu.errors import DeadlockError, EncodingError, TerminalError, UsageError

if TYPE_CHECKING:
    from fenbu._core.mailbox import Mailbox
    from fenbu._core.resident import Resident

OUTER = 0
"""Stands for the end of the outer operation where a reply wants a command."""

MARK = "#"
"""Before an operation's id in a chain, behind the name of its entity: who may be called back."""


def outer_id(resident: Resident, entity: str) -> str | None:
    """The operation of the entity that waits for this call; None if none can be called back."""
    chain = resident.invocation.chain
    if not resident.spec.reentrant or entity not in chain:
        return None
    following = len(chain) - chain[::-1].index(entity)
    if following == len(chain) or not chain[following].startswith(MARK):
        return None
    return chain[following].removeprefix(MARK)


def ground_of(mailbox: Mailbox) -> Payload:
    """Tells the state that an entity has from those before and after it: when it was written."""
    return "0" if mailbox.state is None else repr(mailbox.changed_at)


def overtaken(resident: Resident) -> TerminalError:
    """Why an operation cannot go on whose journal has changes of another state than there is."""
    id_, key = resident.invocation.id, resident.invocation.key
    return TerminalError(
        f"{resident.spec.name} {id_} was quarantined after operations had run in its turn, and {key!r} has "
        "been changed since by others: what those did would be lost"
    )


class Nest:
    """See the module."""

    __slots__ = ("_asked", "_deferred", "_kept", "_mailbox", "running", "waiting")

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self.waiting: list[Resident] = []
        self.running: dict[Resident, tuple[Any, Payload]] = {}
        """Inner operations, each with its instance and the state that this was made of."""
        self._kept: dict[Resident, tuple[Payload | None, dict[str, Payload]]] = {}
        """What those that have ended well leave: a state, None being no change, and lazy fields."""
        self._asked: set[Resident] = set()
        """Those whose outer operation is in no memory: it was asked to say when it ends."""
        self._deferred: dict[Resident, deque[Callable[[float], None]]] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.waiting or self.running or self._deferred)

    def defer(self, outer: Resident, event: Callable[[float], None]) -> None:
        """Something has happened to an operation that stands still."""
        self._deferred.setdefault(outer, deque()).append(event)

    def hurry(self, outer: Resident, now: float) -> None:
        """An operation that stands still is to end: so is the one that it waits for."""
        top = self.top()
        if top is None or top is outer or top.activation is None:
            return
        if self._is_under(outer):  # And not one that waits for its turn, or has lost its own.
            top.cancel(f"{outer.spec.name} {outer.invocation.id} is cancelled", now)

    def outer(self, resident: Resident) -> Resident | None:
        """In whose turn an inner operation runs, or is to run."""
        id_ = outer_id(resident, self._mailbox.name)
        return None if id_ is None else self._mailbox.partition.residents.get(id_)

    def top(self) -> Resident | None:
        """The innermost operation that is in memory."""
        top = self._mailbox.current
        while top is not None and top.activation is not None:
            lent = top.activation.lent
            inner = None if lent is None else self._mailbox.partition.residents.get(lent)
            if inner is None or inner not in self.running:
                break
            top = inner
        return top

    def is_behind_another(self, resident: Resident) -> bool:
        """It waits for another inner operation, and not only to be loaded."""
        top = self.top()
        return top is not None and top is not self.outer(resident)

    # Turns.

    def step(self, now: float) -> bool:
        """Do the next thing that can be done; false if there is none."""
        top = self.top()
        if self._end_orphans(now):
            return True
        if top is None or top.activation is None:
            return False
        if top.activation.lent is not None:
            return self._go_on(top, top.activation.lent, now)
        if (events := self._deferred.get(top)) is not None:
            event = events.popleft()
            if not events:
                del self._deferred[top]
            event(now)
            return True
        if top.mail:
            if top.must_wait(top.mail[0][0]):
                stop_before(top, top.mail[0][0])
            else:
                self._mailbox.partition.receive(*_received(top, now))
            return True
        for each in self.waiting:
            if each.marked and self.outer(each) is top:
                if each.ground is not None:
                    each.fail(overtaken(each), now)  # The outer one has gone on without it.
                    return True
                ground = ground_of(self._mailbox)
                top.note(EntryKind.INNER_BEGAN, each.invocation.id, ground, now)
                self._begin(each, top, now)
                return True
        return False

    def _go_on(self, outer: Resident, id_: str, now: float) -> bool:
        """An operation stands still for one that does not run: it is loaded again, or is over."""
        for each in self.waiting:
            if each.invocation.id == id_:
                if not (each.marked and self._has_fields(each)):
                    return False
                if each.ground not in (None, ground_of(self._mailbox)):
                    each.fail(overtaken(each), now)
                else:
                    self._begin(each, outer, now)
                return True
        if id_ in self._mailbox.partition.residents or not self._mailbox.is_complete:
            return False
        outer.note(EntryKind.INNER_ENDED, id_, None, now)
        return True

    def _has_fields(self, resident: Resident) -> bool:
        """What it has seen of lazy fields is in memory."""
        fields = self._mailbox.fields
        return fields is None or fields.has(resident)

    def _begin(self, resident: Resident, outer: Resident, now: float) -> None:
        mailbox = self._mailbox
        self.waiting.remove(resident)
        instance = mailbox.instance_of(outer)
        wishes = instance.__dict__.pop(ATTRIBUTE, None)
        try:
            state = mailbox.entity.encode(instance)
            self.running[resident] = mailbox.entity.instance(mailbox.key, state), state
        except EncodingError as error:
            self.running[resident] = None, ""
            resident.fail(error, now)
            return
        finally:
            if wishes is not None:
                instance.__dict__[ATTRIBUTE] = wishes
        resident.start(now)

    def _end_orphans(self, now: float) -> bool:
        """Those whose outer operation has ended end, too."""
        mailbox, complete = self._mailbox, self._mailbox.is_complete
        for each in (*self.running, *self.waiting):
            outer = self.outer(each)
            if outer in mailbox.readers and each.marked:
                if not self._has_fields(each):
                    continue
                self._beside(each, now)
                return True
            if each in self.running:
                is_over = not self._is_under(each)
            else:
                is_over = outer is None and complete and self._has_ended(each)
            if is_over:
                reason = "the operation in whose turn it runs has ended"
                each.cancel(reason, now, at_once=True)
                return True
        for each in list(self._deferred):
            if each.activation is None:
                del self._deferred[each]
        return False

    def _has_ended(self, resident: Resident) -> bool:
        """Whether the outer operation of one has ended that is in no memory: it may be quarantined."""
        if any(isinstance(each, Reply) and each.to.command == OUTER for each, _ in resident.mail):
            return True
        id_ = outer_id(resident, self._mailbox.name)
        if id_ is not None and resident not in self._asked:
            self._asked.add(resident)
            number = self._mailbox.partition.number
            address = Address(number, resident.invocation.id, OUTER)
            self._mailbox.partition.engine.send(Subscribe(number, id_, address))
        return False

    def _is_under(self, resident: Resident) -> bool:
        """It is one of those that stand still, or the innermost one."""
        each = self._mailbox.current
        while each is not None:
            if each is resident:
                return True
            lent = None if each.activation is None else each.activation.lent
            each = None if lent is None else self._mailbox.partition.residents.get(lent)
        return False

    def _beside(self, resident: Resident, now: float) -> None:
        """The outer operation is read-only: another that reads can run beside it."""
        self.waiting.remove(resident)
        if resident.spec.read_only:
            self._mailbox.read_beside(resident)
            resident.start(now)
            return
        error = DeadlockError(
            f"{resident.spec.name} {resident.invocation.id} is called back by a read-only operation of "
            f"{self._mailbox.name}, and may change it: mark it read_only, or the caller not"
        )
        resident.fail(error, now)

    # Ends.

    def keep(self, resident: Resident) -> None:
        """An inner operation ended well.

        Raises:
            EncodingError: Its state does not fit the class.
            UsageError: It is read-only and changed it, or it did what only an outer one may.
        """
        instance, before = self.running[resident]
        if instance.__dict__.pop(ATTRIBUTE, None) is not None:
            raise UsageError(
                f"{resident.spec.name} runs in the turn of another operation of {self._mailbox.name}, and "
                "only that one may set alarms, cancel them, or delete the entity"
            )
        state = self._mailbox.entity.encode(instance)
        if state != before and resident.spec.read_only:
            raise read_only_refusal(resident.spec.name, self._mailbox.name, None)
        values = None if resident.activation is None else resident.activation.lazy
        changes = {} if values is None else values.changes
        self._kept[resident] = None if state == before else state, changes

    def remove(self, resident: Resident, now: float) -> bool:
        """An inner operation leaves; false if it is none."""
        if resident in self.waiting:
            self.waiting.remove(resident)
            self._asked.discard(resident)
        elif self.running.pop(resident, None) is None:
            return False
        outer = self.outer(resident)
        state, changes = self._kept.pop(resident, (None, {}))
        if outer is not None:
            for name, value in changes.items():
                outer.note(EntryKind.INNER_SET, name, value, now)
            outer.note(EntryKind.INNER_ENDED, resident.invocation.id, state, now)
        return True


def _received(resident: Resident, now: float) -> tuple[Any, float, int]:
    message, number = resident.mail.pop(0)
    return message, now, number
