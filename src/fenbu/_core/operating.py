"""An operation in memory, as far as it is one: it gives its turn away, and reads lazy fields of its entity.

While a reentrant operation runs in its turn it stands still, and what happens to it is deferred (`nest.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fenbu._core.command import ReadField
from fenbu._core.model import Entry, EntryKind, Payload, Status, Unreadable
from fenbu._core.parent import Parent
from fenbu.errors import PayloadUnreadable


class Operating(Parent):
    """See the module."""

    __slots__ = ("_position",)

    _position: int
    """Of the last entry of the journal."""

    def _entry(
        self, kind: EntryKind, now: float, *, command: int = 0, name: str | None = None
    ) -> Entry:
        return Entry(self.invocation.id, self._position + 1, kind, now, command, name)

    def _defer(self, event: Callable[[float], None]) -> None:
        """It stands still: let this happen to it when it goes on."""
        if self.mailbox is not None:
            self.mailbox.nested().defer(self, event)

    def note(self, kind: EntryKind, name: str, value: Payload | None, now: float) -> None:
        if kind is EntryKind.INNER_ENDED and self._lent() != name:
            return
        if kind is EntryKind.INNER_SET and self._lent() is None:
            return
        entry = self._entry(kind, now, name=name)
        entry.value = value
        self._position = entry.position
        self.partition.engine.batch.rows.entries.append(entry)
        if self.activation is not None:
            self.activation.apply(entry)
        elif self._entries is not None:
            self._entries.append(entry)

    def _lent(self) -> str | None:
        """To whom its turn is given, also before its code has been replayed."""
        if self.activation is not None:
            return self.activation.lent
        kinds = (EntryKind.INNER_BEGAN, EntryKind.INNER_ENDED)
        turns = [each for each in self._entries or () if each.kind in kinds]
        return turns[-1].name if turns and turns[-1].kind is EntryKind.INNER_BEGAN else None

    def _read_field(self, command: ReadField) -> None:
        """Its code waits for the value of a lazy field."""
        if self.mailbox is not None and self.mailbox.fields is not None:
            self.mailbox.fields.ask(command.name, then=partial(self._field_read, command.name))

    def _field_read(self, name: str, value: Payload, now: float) -> None:
        while (activation := self.activation) is not None and activation.lazy is not None:
            number = next(
                (
                    number
                    for number, (_, command) in activation.waiting.items()
                    if isinstance(command, ReadField) and command.name == name
                ),
                None,
            )
            if number is None:
                return
            if activation.lent is not None:
                self._defer(partial(self._field_read, name, value))
                return
            if isinstance(value, Unreadable):
                self.park(Status.STUCK, PayloadUnreadable(f"lazy field {name}: {value.reason}"))
                return
            activation.lazy.learn(name, value)
            self._event(self._entry(EntryKind.FIELD_READ, now, command=number, name=name), now)
