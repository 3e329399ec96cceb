"""Which calls end with the one that has started them, for when its code is not there to say so.

The code of a call that is stuck or quarantined cannot be asked, so a cancellation ends it at once. The calls
that it waits for, and those that were started to end with it, are in its journal: see `StartCall.tie`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from fenbu._core import fork, journal
from fenbu._core.command import AWAITED, ParentEnd, StartCall
from fenbu._core.message import Cancel
from fenbu._core.model import PARENT_ENDED, Loaded

if TYPE_CHECKING:
    from fenbu._core.activation import Activation
    from fenbu._core.engine import Engine


class Tied(Struct, frozen=True):
    """A call that ends with the one that has started it."""

    partition: int
    id: str
    awaited: bool
    """Not by a policy, but because nobody would hear of its outcome."""


def in_code(engine: Engine, activation: Activation) -> list[Tied]:
    """Those of a call whose code is in memory."""
    awaited = ((number, command) for number, (_, command) in activation.waiting.items())
    return [
        _tied(engine, activation, number, command)
        for number, command in (*awaited, *activation.bound.items())
        if isinstance(command, StartCall)
    ]


def cancel_bound(engine: Engine, activation: Activation, policy: ParentEnd) -> None:
    """Ask those calls to stop whose parent ends, and which have this policy."""
    for number, command in activation.bound.items():
        if command.parent_end is policy:
            tied = _tied(engine, activation, number, command)
            engine.send(Cancel(tied.partition, tied.id, PARENT_ENDED))


def _tied(engine: Engine, activation: Activation, number: int, command: StartCall) -> Tied:
    id_ = command.id or fork.child_id(activation, number)
    return Tied(engine.place(command.entity, command.key, id_), id_, awaited=command.wait)


def in_journal(engine: Engine, loaded: Loaded) -> list[Tied]:
    """Those of a call whose code is not."""
    answered, children = journal.answered_calls(loaded), journal.children_of(loaded)
    found: list[Tied] = []
    for number, (how, *rest) in journal.ties_of(loaded).items():
        if number not in answered:
            id_, (entity, key) = children[number], rest[1:] or (None, None)
            found.append(Tied(engine.place(entity, key, id_), id_, awaited=how == AWAITED))
    return found


def ends(tied: Iterable[Tied], reason: str, *, at_once: bool) -> Iterator[Cancel]:
    """The messages that end them; `at_once` are those ended that are waited for."""
    for each in tied:
        why = reason if each.awaited else PARENT_ENDED
        yield Cancel(each.partition, each.id, why, at_once=at_once and each.awaited)
