"""Which calls belong together: a call, those that it has started, those that it waits for, and theirs.

`walk` says what to look up next and hears what was found. A storage drives it within one transaction, so that
rows, journals and messages fit each other: what one call has sent is with its receiver, or on its way.

How calls are found: the ids of those that a call started come from its own, unless its code chose them;
whoever waits stands in the row of the call that it waits for; and the journal names a call that was there
before. Absent: calls whose ids the code has chosen and that go on without it. Nothing leads to them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

from msgspec import Struct, field

from fenbu._core import ids, update
from fenbu._core.command import AwaitCall, SendUpdate, StartCall
from fenbu._core.field import read_names
from fenbu._core.history import Histories, History, Outside
from fenbu._core.journal import answered_calls, children_of, commands_of, fields_seen, update_of
from fenbu._core.message import (
    Adopt,
    Call,
    Claim,
    Deadlock,
    Message,
    Probe,
    Reply,
    Restore,
    Subscribe,
    Update,
    Withheld,
)
from fenbu._core.model import FINISHED, Chunk, EntityField, EntityState, EntryKind, Loaded
from fenbu.errors import UsageError


class Look(Struct, frozen=True):
    """What is to be looked up."""

    ids: list[str]
    """Calls with their journals and chunks."""
    parents: list[tuple[int, str]] = field(default_factory=list)
    """The ids of calls whose `parent` is one of these, by partition and id."""
    entities: list[tuple[str, str]] = field(default_factory=list)
    """States."""
    fields: list[tuple[str, str, str]] = field(default_factory=list)
    """Lazy fields, by entity, key and name."""
    messages: bool = False
    """All that is in the inbox."""


class Seen(Struct):
    """What was found."""

    calls: list[Loaded]
    chunks: list[Chunk] = field(default_factory=list)
    """In order of their numbers."""
    children: list[str] = field(default_factory=list)
    states: list[EntityState] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    """In the order in which they came."""
    fields: list[EntityField] = field(default_factory=list)


T = TypeVar("T")

Walk: TypeAlias = Generator[Look, Seen, T]


def drive(walk: Walk[T], look_up: Callable[[Look], Seen]) -> T:
    """Answer what a walk asks, for a storage that does not wait."""
    try:
        look = next(walk)
        while True:
            look = walk.send(look_up(look))
    except StopIteration as end:
        return end.value


def opened(walk: Walk[T], open_: Callable[[Seen], Seen]) -> Walk[T]:
    """The walk, for a storage whose rows have to be made readable."""
    try:
        look = next(walk)
        while True:
            look = walk.send(open_((yield look)))
    except StopIteration as end:
        return end.value


_WAITS: Final = frozenset({StartCall.kind, AwaitCall.kind, SendUpdate.kind})
"""The kinds of commands that lead to other calls."""

_ENGINES: Final = (Adopt, Claim, Probe, Deadlock)
"""What partitions of one database say to each other."""


def walk(root: str, partition_count: int, *, alone: bool = False) -> Walk[Histories | None]:
    """The call with this id and its tree; None if there is no such call.

    Args:
        root: The call.
        partition_count: That of the database.
        alone: Leave out all but the call itself.

    Raises:
        UsageError: A message to one of them cannot be read here.
    """
    seen = yield Look([root], messages=True)
    tree = _Tree(seen.messages, partition_count)
    asked: dict[str, str | None] = {root: None}
    while True:
        new = tree.add(asked, seen)
        parents = [] if alone else tree.addresses(new)
        keys, fields = needed_states(new)
        asked = {} if alone else tree.next(new)
        if not (parents or keys or asked):
            break
        seen = yield Look(list(asked), parents, keys, fields)
        take_states(tree.found, seen.states, seen.fields)
        # Which call has started them, their rows say.
        children = {each: None for each in seen.children if each not in asked | tree.asked}
        if children:
            more = yield Look(list(children))
            seen = Seen([*seen.calls, *more.calls], [*seen.chunks, *more.chunks])
            asked |= children
    return tree.done()


def needed_states(
    histories: Iterable[History],
) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """The states and lazy fields that it takes to replay those that are open operations.

    Returns:
        The entities and keys; the entities, keys and names of the fields that their code has seen.
    """
    keys: dict[tuple[str, str], None] = {}
    fields: dict[tuple[str, str, str], None] = {}
    for each in histories:
        if (place := _open_on(each)) is not None:
            keys[place] = None
            seen = fields_seen(each.loaded.invocation, each.loaded.entries)
            fields.update(((*place, name), None) for name in seen)
    return list(keys), list(fields)


def take_states(
    histories: Iterable[History], states: Iterable[EntityState], fields: Iterable[EntityField]
) -> None:
    """Put what `needed_states` has named, as far as it was found, where it belongs."""
    by_place = {(each.entity, each.key): each for each in states}
    values = {(each.entity, each.key, each.name): each.value for each in fields}
    for each in histories:
        place = _open_on(each)
        state = None if place is None else by_place.get(place)
        if place is None or state is None:
            continue
        each.state, each.state_version = state.state, state.version
        each.fields = {
            name: values[*place, name]
            for name in read_names(state.fields)
            if (*place, name) in values
        }


def _open_on(history: History) -> tuple[str, str] | None:
    """The entity and key of an operation that is open."""
    call = history.loaded.invocation
    if call.entity is None or call.status in FINISHED:
        return None
    return call.entity, call.key or ""


class _Tree:
    def __init__(self, messages: Sequence[Message], partition_count: int) -> None:
        self._partition_count = partition_count
        self._messages: list[Message] = [
            each for each in messages if not isinstance(each, _ENGINES)
        ]
        self._coming: dict[str, Loaded] = {}
        """Calls that are accepted and have no row yet."""
        self._came_as: dict[str, Message] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._found: dict[str, History] = {}
        self.asked: dict[str, None] = {}
        """All ids that were looked up."""
        self._sent: dict[str, list[str]] = {}
        """The calls that calls have sent for, without a row so far."""
        for each in self._messages:
            if isinstance(each, Call | Restore):
                self._comes(each)
            if isinstance(each, Call | Restore | Update) and each.invocation.parent is not None:
                goes_to = each.id if isinstance(each, Update) else each.invocation.id
                self._sent.setdefault(each.invocation.parent.id, []).append(goes_to)

    def _comes(self, message: Call | Restore) -> None:
        """Of several for one id the first counts."""
        id_ = message.invocation.id
        if id_ not in self._coming:
            restored = isinstance(message, Restore)
            self._coming[id_] = Loaded(message.invocation, message.entries if restored else [])
            self._came_as[id_] = message
            self._chunks[id_] = list(message.chunks) if restored else []

    def add(self, asked: dict[str, str | None], seen: Seen) -> list[History]:
        """Those that are new."""
        self.asked |= dict.fromkeys(asked)
        rows = {each.invocation.id: each for each in seen.calls}
        for each in seen.chunks:
            if each.id not in self._found:
                self._chunks.setdefault(each.id, []).append(each)
        new: list[History] = []
        for id_, found_by in asked.items():
            row = rows.get(id_)
            if row is not None:
                self._came_as.pop(id_, None)
            else:
                row = self._coming.get(id_)
            if row is None or id_ in self._found:
                continue
            parent = row.invocation.parent if self._found else None
            history = History(
                row,
                chunks=self._chunks.get(id_, []),
                found_by=found_by or (None if parent is None else parent.id),
            )
            self._found[id_] = history
            new.append(history)
        return new

    def addresses(self, new: Iterable[History]) -> list[tuple[int, str]]:
        """What may stand as `parent` in the rows of calls that these wait for."""
        found: dict[tuple[int, str], None] = {}
        for each in new:
            call = each.loaded.invocation
            # A call that was given to another partition may have started some before.
            home = ids.partition_of(call.id, self._partition_count)
            found[call.partition, call.id] = found[home, call.id] = None
        return list(found)

    def next(self, new: Iterable[History]) -> dict[str, str | None]:
        """The calls that these lead to, and which of them does."""
        found: dict[str, str | None] = {}
        for each in new:
            for id_ in self._leads_to(each.loaded):
                if id_ not in self.asked:
                    found.setdefault(id_, each.loaded.invocation.id)
        return found

    def _leads_to(self, loaded: Loaded) -> Iterator[str]:
        call = loaded.invocation
        is_open = call.status not in FINISHED
        if call.handler == update.HANDLER:
            if is_open:
                yield ids.workflow_of(call.id)
            return
        answered, children = answered_calls(loaded), children_of(loaded)
        for number, (kind, name, _) in commands_of(loaded).items():
            if kind == StartCall.kind:
                yield children[number]
            elif kind == AwaitCall.kind and is_open and number not in answered:
                yield name
        for entry in loaded.entries:
            if entry.kind is EntryKind.UPDATE_RECEIVED:
                yield update_of(entry.name)[1]
        yield from self._sent.get(call.id, ())

    @property
    def found(self) -> Iterable[History]:
        """All so far."""
        return self._found.values()

    def done(self) -> Histories | None:
        """All of them, but updates whose workflow is not there: they have ended, or will never."""
        calls = [each for each in self._found.values() if self._is_complete(each)]
        if not calls:
            return None
        found = {each.loaded.invocation.id for each in calls}
        messages = [each for each in self._messages if self._is_for(each, found)]
        return Histories(calls, messages, list(self._outside(calls, found)))

    def _is_complete(self, history: History) -> bool:
        call = history.loaded.invocation
        return call.handler != update.HANDLER or ids.workflow_of(call.id) in self._found

    def _is_for(self, message: Message, found: set[str]) -> bool:
        match message:
            case Call():
                id_ = message.invocation.id
                return id_ in found and self._came_as.get(id_) is not message
            case Restore():
                return False
            case Subscribe():
                return message.id in found and message.reply_to.id in found
            case Withheld():
                if message.id in found:
                    raise UsageError(
                        f"a message to {message.id} cannot be read here: {message.reason}"
                    )
                return False
            case Reply():
                return message.to.id in found
            case _:
                return message.id in found

    def _outside(self, calls: Iterable[History], found: set[str]) -> Iterator[Outside]:
        waited_for = {
            (address.id, address.command)
            for each in calls
            for call in (each.loaded.invocation,)
            for address in (call.parent, *call.waiters)
            if address is not None
        }
        waited_for |= {
            (parent.id, parent.command)
            for each in self._messages
            if isinstance(each, Update) and each.id in found
            for parent in (each.invocation.parent,)
            if parent is not None
        }
        for each in calls:
            call = each.loaded.invocation
            if call.status in FINISHED or call.handler == update.HANDLER:
                continue
            answered, children = answered_calls(each.loaded), children_of(each.loaded)
            for number, (kind, name, location) in commands_of(each.loaded).items():
                if kind not in _WAITS or number in answered or (call.id, number) in waited_for:
                    continue
                if name in found or children[number] in found:
                    continue
                yield Outside(call.id, number, kind, name, location)
