"""The lazy fields of one entity in memory: which of them have rows, which values are here, what is written.

Values that were read or written are kept for the next operations, within a bound for the whole node
(`FieldCache`), as long as the entity's state is. A field of a class that was an ordinary one until now moves
from the state's row to a row of its own with the next change of the entity, and back the same way.
Guarantee: entity-linear. A value that was asked for before a change, and comes after it, is not taken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from fenbu._core import journal, limit
from fenbu._core.activation import Activation
from fenbu._core.command import ReadField, SeeField
from fenbu._core.effect import LoadFields
from fenbu._core.event import FieldsLoaded
from fenbu._core.lazy import LazyValues
from fenbu._core.location import caller
from fenbu._core.model import Payload, Unreadable
from fenbu.errors import EncodingError, PayloadUnreadable, UsageError

if TYPE_CHECKING:
    from fenbu._core.mailbox import Mailbox
    from fenbu._core.resident import Resident

_decoder = msgspec.json.Decoder(list[str])


def read_names(text: str | None) -> list[str]:
    """The lazy fields that have a row, as the entity's row names them."""
    return [] if text is None else _decoder.decode(text)


class FieldCache:
    """The values of all entities of a node that are in memory, the least recently used first."""

    __slots__ = ("_size", "_size_max", "_values")

    def __init__(self, size_max: int = limit.FIELD_CACHE_BYTES) -> None:
        self._values: OrderedDict[tuple[Fields, str], Payload] = OrderedDict()
        self._size = 0
        self._size_max = size_max

    @property
    def is_full(self) -> bool:
        """There is more in memory than there should be."""
        return self._size > self._size_max

    def get(self, owner: Fields, name: str) -> Payload | None:
        """A value that is in memory."""
        found = self._values.get((owner, name))
        if found is not None:
            self._values.move_to_end((owner, name))
        return found

    def put(self, owner: Fields, name: str, value: Payload | None) -> None:
        """From now on this is the value; None is not in memory."""
        old = self._values.pop((owner, name), None)
        if old is not None:
            self._size -= len(old)
        if value is not None:
            self._values[owner, name] = value
            self._size += len(value)

    def trim(self) -> None:
        """Forget what is too much.

        Not in the middle of an event: what an operation needs together is there together.
        """
        while self.is_full:
            _, value = self._values.popitem(last=False)
            self._size -= len(value)


class Fields:
    """See the module."""

    __slots__ = (
        "_home",
        "_is_sorted",
        "_loading",
        "_mailbox",
        "_moved",
        "_stored",
        "_unreadable",
        "_waiting",
    )

    def __init__(self, mailbox: Mailbox, names: str | None) -> None:
        self._mailbox = mailbox
        self._stored = set(read_names(names))
        """Those that have a row."""
        self._moved: dict[str, Payload] = {}
        """Those that stand in the state's row still."""
        self._home: dict[str, Payload | None] = {}
        """Those with a row that the class declares as ordinary fields, with what was in the row."""
        self._is_sorted = False
        """It is known which these are."""
        self._loading: dict[str, int] = {}
        """Those that were asked for, with the batch of the request."""
        self._waiting: dict[str, list[Callable[[Payload, float], None]]] = {}
        """Whom to tell a value when it has come."""
        self._unreadable: dict[str, str] = {}
        """Why this process cannot read them."""

    @property
    def is_loading(self) -> bool:
        return bool(self._loading)

    @property
    def _cache(self) -> FieldCache:
        return self._mailbox.partition.engine.fields

    def names(self) -> str | None:
        """As `read_names` reads them."""
        return msgspec.json.encode(sorted(self._stored)).decode() if self._stored else None

    def find(self, name: str) -> Payload | None:
        """The value that counts now; None if it has to be read."""
        if name in self._moved:
            return self._moved[name]
        if name in self._stored:
            return self._cache.get(self, name)
        declared = self._mailbox.entity.lazy.get(name)
        return "" if declared is None else declared.initial

    # Reading.

    def ask(self, *names: str, then: Callable[[Payload, float], None] | None = None) -> None:
        """Have values read, and be told each of them. What is on its way is not asked for again."""
        mailbox = self._mailbox
        if then is not None:
            for name in names:
                self._waiting.setdefault(name, []).append(then)
        names = tuple(each for each in names if each not in self._loading)
        if names:
            batch = mailbox.partition.engine.batch
            self._loading.update((each, batch.number) for each in names)
            number, entity, key = mailbox.partition.number, mailbox.entity.name, mailbox.key
            batch.effects.append(LoadFields(number, batch.number, entity, key, names))

    def loaded(self, event: FieldsLoaded, now: float) -> None:
        """Values have come: the operations that wait for them go on."""
        mailbox = self._mailbox
        for name in event.names:
            if self._loading.get(name) != event.batch:
                continue
            del self._loading[name]
            value = event.found.get(name)
            if name in self._home:
                self._come_home(name, value)
                continue
            if value is None:
                self._stored.discard(name)
                value = self.find(name) or ""
            elif isinstance(value, Unreadable):
                self._unreadable[name] = value.reason
            else:
                self._cache.put(self, name, value)
            for each in self._waiting.pop(name, ()):
                each(value, now)
        mailbox.advance(now)

    def values_of(self, resident: Resident) -> LazyValues:
        """What an operation that begins, or is about to be replayed, will know.

        Raises:
            PayloadUnreadable: It has seen a value that this process cannot read.
        """
        find = self._find_of(resident)
        for name in resident.fields_seen:
            if name in self._unreadable and find(name) is None:
                raise self._refusal(name)
        name, key = self._mailbox.entity.name, self._mailbox.key
        return LazyValues(name, key, find, read_only=resident.spec.read_only)

    def has(self, resident: Resident) -> bool:
        """All is in memory that an operation has seen; else it is asked for."""
        find = self._find_of(resident)
        missing = [
            name
            for name in resident.fields_seen
            if name not in self._unreadable and find(name) is None
        ]
        self.ask(*missing)
        return not missing

    def _find_of(self, resident: Resident) -> Callable[[str], Payload | None]:
        nest = self._mailbox.nest
        outer = None if nest is None or resident in self._mailbox.readers else nest.outer(resident)
        values = None if outer is None or outer.activation is None else outer.activation.lazy
        return self.find if values is None else values.find

    def _refusal(self, name: str) -> PayloadUnreadable:
        entity, key = self._mailbox.entity.name, self._mailbox.key
        reason = self._unreadable[name]
        return PayloadUnreadable(f"lazy field {name} of {entity}({key!r}): {reason}")

    # Moving between the state's row and rows of their own.

    def is_home(self) -> bool:
        """Values are here that the class declares as ordinary fields; else they are asked for."""
        if self._stored and not self._home:
            try:
                ordinary = self._mailbox.entity.ordinary()
            except (EncodingError, UsageError):
                return True  # Whoever makes an instance hears of it.
            self._home = dict.fromkeys(self._stored & ordinary)
            self.ask(*sorted(self._home))
        return self._home.keys().isdisjoint(self._loading)

    def _come_home(self, name: str, value: Payload | None) -> None:
        if isinstance(value, Unreadable):
            self._unreadable[name] = value.reason
        elif value is not None:
            mailbox = self._mailbox
            self._home[name] = value
            if mailbox.state is not None:
                mailbox.state = mailbox.entity.with_field(mailbox.state, name, value)

    def sort(self) -> None:
        """Find what stands in the state's row and is lazy now.

        Raises:
            PayloadUnreadable: What is to be an ordinary field again cannot be read here.
        """
        for name in self._home:
            if name in self._unreadable:
                raise self._refusal(name)
        if not self._is_sorted:
            self._is_sorted = True
            mailbox = self._mailbox
            if mailbox.state is not None:
                self._moved = mailbox.entity.leftovers(mailbox.key, mailbox.state, mailbox.version)

    # Writing.

    def keep(self, values: LazyValues | None) -> bool:
        """An operation has ended well: what it has set counts now. Whether anything has changed."""
        changed = False
        for name, value in () if values is None else values.changes.items():
            if value != self.find(name):
                self._put(name, value)
                changed = True
        return changed

    def move(self) -> None:
        """The state is written without the values that stood there."""
        for name, value in list(self._moved.items()):
            self._put(name, value)

    def leave(self) -> None:
        """The state is written with the values that are ordinary fields again."""
        for name in self._home:
            self._delete(name)
        self._home.clear()

    def delete(self) -> None:
        """The entity is forgotten."""
        for name in sorted(self._stored):
            self._delete(name)
        self._moved.clear()
        self._home.clear()

    def evict(self) -> None:
        """The entity leaves memory."""
        for name in self._stored:
            self._cache.put(self, name, None)

    def _put(self, name: str, value: Payload) -> None:
        self._forget(name)
        self._stored.add(name)
        self._cache.put(self, name, value)
        self._row(name, value)

    def _delete(self, name: str) -> None:
        self._forget(name)
        self._stored.discard(name)
        self._cache.put(self, name, None)
        self._row(name, None)

    def _forget(self, name: str) -> None:
        """What was known of it, or is on its way, is old."""
        self._moved.pop(name, None)
        self._loading.pop(name, None)
        self._waiting.pop(name, None)
        self._unreadable.pop(name, None)

    def _row(self, name: str, value: Payload | None) -> None:
        mailbox = self._mailbox
        batch = mailbox.partition.engine.batch
        batch.fields[mailbox.entity.name, mailbox.key, name] = value


async def read(activation: Activation, values: LazyValues, name: str) -> Payload:
    """The value of a lazy field, for the code of an operation.

    What is in memory is seen at once, and that is recorded. A replay goes by the record: it has it in memory
    either way, and must see it where it did before.
    """
    found = values.own(name)
    if found is not None:
        return found
    recorded = activation.recorded()
    is_first_time = recorded is None
    if values.find(name) is not None if is_first_time else journal.sees_field(recorded, name):
        activation.issue(SeeField(name, caller()))
    else:
        _, future = activation.ask(ReadField(name, caller()))
        await future
    return values.learn(name)
