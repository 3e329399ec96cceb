"""The journal's view of commands: how they are recorded, and whether code still asks for the same.

The only place that decides on `NonDeterminismError`.
Guarantee: replay-same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NoReturn

import msgspec
from msgspec import Struct

from fenbu._core.command import (
    UNNUMBERED,
    Command,
    EndUpdate,
    MarkPatch,
    OpenCallback,
    SeeField,
    StartCall,
)
from fenbu._core.ids import CALLBACK, callback_name, child_id, run_id
from fenbu._core.model import (
    FINISHED,
    Entry,
    EntryKind,
    Invocation,
    Loaded,
    Payload,
    Unreadable,
)
from fenbu.errors import NonDeterminismError

ANSWERS: Final = frozenset(
    {
        EntryKind.STEP_COMPLETED,
        EntryKind.STEP_FAILED,
        EntryKind.CALL_FINISHED,
        EntryKind.FIELD_READ,
    }
)
"""What a command waits for."""

_decoder = msgspec.json.Decoder(list[tuple[str, ...]])
_encode = msgspec.json.encode

_texts: dict[tuple[str, ...], str] = {}
"""What was recorded lately: a program asks for the same things again and again."""

_TEXTS_MAX = 4096


def record(issued: Sequence[tuple[int, Command]]) -> str | None:
    """The commands as one JSON text: a list of [kind, name, location, …]; None when there are none."""
    if not issued:
        return None
    if len(issued) == 1:
        return f"[{_text(issued[0][1])}]"
    return f"[{','.join(_text(command) for _, command in issued)}]"


def _text(command: Command) -> str:
    words: tuple[str, ...] = (command.kind, command.name, command.location)
    if isinstance(command, StartCall) and (tie := command.tie):
        words += tie
        if len(tie) > 1:
            return _encode(words).decode()  # Hardly ever twice the same.
    text = _texts.get(words)
    if text is None:
        if len(_texts) >= _TEXTS_MAX:
            _texts.clear()
        text = _texts[words] = _encode(words).decode()
    return text


def recorded(text: str | None) -> list[tuple[str, str, str]]:
    """The (kind, name, location) of each command in a record."""
    return [(each[0], each[1], each[2]) for each in whole(text)]


def whole(text: str | None) -> list[tuple[str, ...]]:
    """The same, with all that is recorded of them."""
    return _decoder.decode(text) if text else []


def commands_of(loaded: Loaded) -> dict[int, tuple[str, str, str]]:
    """(kind, name, location) of everything that a call's code has asked for, by number."""
    return {number: (each[0], each[1], each[2]) for number, each in _numbered(loaded)}


def ties_of(loaded: Loaded) -> dict[int, tuple[str, ...]]:
    """See `StartCall.tie`, by number: of the calls that are to end with this one."""
    return {number: each[3:] for number, each in _numbered(loaded) if len(each) > 3}


def children_of(loaded: Loaded) -> dict[int, str]:
    """The id of the call that each command has started, if it has, by number.

    It is the one that the code has chosen, where that is recorded, else one that comes from the call's own.
    """
    call, forks = loaded.invocation, forks_of(loaded.entries)
    own = run_id(call.id, call.attempt)
    return {
        number: (each[4] if len(each) > 4 else "") or child_id(run_of(forks, number, own), number)
        for number, each in _numbered(loaded)
    }


def answered_calls(loaded: Loaded) -> set[int]:
    """The commands that have heard of the outcome of a call."""
    return {each.command for each in loaded.entries if each.kind is EntryKind.CALL_FINISHED}


def _numbered(loaded: Loaded) -> Iterator[tuple[int, tuple[str, ...]]]:
    texts = [loaded.invocation.commands, *(each.commands for each in loaded.entries)]
    asked = (each for text in texts for each in whole(text))
    return enumerate((each for each in asked if each[0] not in UNNUMBERED), start=1)


def callbacks_of(loaded: Loaded) -> dict[int, str]:
    """Under which names a call receives what completes its callbacks, by their numbers."""
    call, forks = loaded.invocation, forks_of(loaded.entries)
    own = run_id(call.id, call.attempt)
    return {
        number: callback_name(number, run_of(forks, number, own))
        for number, (kind, _, _) in commands_of(loaded).items()
        if kind == OpenCallback.kind
    }


def open_callbacks(loaded: Loaded) -> dict[int, str]:
    """The same, of those that nobody has completed."""
    if loaded.invocation.status in FINISHED:
        return {}
    came = {each.name for each in loaded.entries if each.kind is EntryKind.SIGNAL_RECEIVED}
    return {number: name for number, name in callbacks_of(loaded).items() if name not in came}


def signal_text(name: str) -> str:
    """A signal in words."""
    return name if name.startswith(CALLBACK) else f"signal {name}"


def has_patch(text: str, name: str) -> bool:
    """Whether a record has the mark of a change."""
    return MarkPatch.kind in text and any(
        each[:2] == (MarkPatch.kind, name) for each in recorded(text)
    )


def sees_field(text: str, name: str) -> bool:
    """Whether a record says that the code saw a lazy field that was in memory."""
    return SeeField.kind in text and any(
        each[:2] == (SeeField.kind, name) for each in recorded(text)
    )


def ground(entries: Sequence[Entry]) -> Payload | None:
    """Of which state others have changed something in an operation's turn; None if nothing was changed."""
    kinds = (EntryKind.INNER_SET, EntryKind.INNER_ENDED)
    if not any(each.kind in kinds and each.value is not None for each in entries):
        return None
    before = next((each.value for each in entries if each.kind is EntryKind.INNER_BEGAN), None)
    return None if isinstance(before, Unreadable) else before


def fields_seen(invocation: Invocation, entries: Iterable[Entry]) -> tuple[str, ...]:
    """The lazy fields whose values code has seen: a replay must have them before it begins."""
    found: dict[str, None] = {}
    texts = [invocation.commands]
    for entry in entries:
        texts.append(entry.commands)
        if entry.kind is EntryKind.FIELD_READ:
            found[entry.name or ""] = None
    for text in texts:
        if text and SeeField.kind in text:
            found.update((name, None) for kind, name, _ in recorded(text) if kind == SeeField.kind)
    return tuple(found)


def open_updates(entries: Iterable[Entry]) -> list[str]:
    """The ids of the updates that a journal has received and not answered, in order."""
    found: dict[str, None] = {}
    for entry in entries:
        if entry.kind is EntryKind.UPDATE_RECEIVED:
            found[entry.name or ""] = None
        if found and entry.commands:
            for kind, name, _ in recorded(entry.commands):
                if kind == EndUpdate.kind:
                    found.pop(name, None)
    return [update_of(name)[1] for name in found]


def update_of(entry_name: str | None) -> tuple[str, str]:
    """The name of an update and the id of its call, from the name of its entry."""
    name, _, id_ = (entry_name or "").partition(" ")
    return name, id_


class Fork(Struct, frozen=True):
    """What an entry `FORKED` says, as JSON in its value."""

    last: int
    """The commands up to this one were asked for before."""
    run: str
    """By this run of another call."""
    seed: str
    """What the random numbers come from."""
    anew: int = 0
    """But this one is asked for anew."""


_fork = msgspec.json.Decoder(Fork)


def forks_of(entries: Iterable[Entry]) -> tuple[Fork, ...]:
    """The forks in a journal, in order."""
    return tuple(
        _fork.decode(each.value or "")
        for each in entries
        if each.kind is EntryKind.FORKED and isinstance(each.value, str)
    )


def run_of(forks: Iterable[Fork], number: int, own: str) -> str:
    """The run whose command this is: that of a call which was forked, or the call's own."""
    for each in forks:
        if number == each.anew:
            break
        if number <= each.last:
            return each.run
    return own


def compare(
    invocation: Invocation, position: int, before: str | None, issued: Sequence[tuple[int, Command]]
) -> None:
    """Check what the code asks for at a position against what was recorded there.

    Raises:
        NonDeterminismError: They differ in number, kind or name; it shows the first difference.
    """
    now = record(issued)
    if before == now:
        return
    was, is_ = recorded(before), recorded(now)
    # The mark of a change may go from the code when no call is left that came by before there was one.
    asked = {each[:2] for each in is_}
    was = [each for each in was if each[0] != MarkPatch.kind or each[:2] in asked]
    for index in range(max(len(was), len(is_))):
        old = was[index] if index < len(was) else None
        new = is_[index] if index < len(is_) else None
        if old is None or new is None or old[:2] != new[:2]:
            mismatch(invocation, position, _words(old), _words(new))


def unexpected(invocation: Invocation, entry: Entry) -> NoReturn:
    """The journal holds an event that the code no longer waits for."""
    what = f"{entry.kind.value.replace('_', ' ')} (command {entry.command})"
    mismatch(invocation, entry.position, what, "nothing that waits for it")


def mismatch(invocation: Invocation, position: int, was: str, asked: str) -> NoReturn:
    error = NonDeterminismError(
        f"{invocation.handler} {invocation.id}, journal position {position}: recorded was {was}, "
        f"the code now asks for {asked}. The call is parked as stuck and nothing of it is lost: "
        "deploy code that asks for the same in the same order, and it goes on"
    )
    error.position, error.recorded, error.asked = position, was, asked
    raise error


def _words(command: tuple[str, str, str] | None) -> str:
    if command is None:
        return "nothing"
    kind, name, location = command
    return f"{kind} {name}".strip() + (f" at {location}" if location else "")
