"""A call that goes on from somewhere in the history of another one, which stays as it is.

It has a copy of the journal up to there, and then the entry `FORKED`. Its code is replayed through the copy;
what it asks for behind that is done anew, also by code that asks for something else there by now, and what it
has asked for before and has no answer to is asked again. What was sent and started before belongs to the
original and is not sent again: calls keep the ids that they have, see `run_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from fenbu._core import ids, journal
from fenbu._core.command import UNNUMBERED, AwaitCall, SendUpdate, StartCall
from fenbu._core.journal import Fork, forks_of
from fenbu._core.message import Restore, Signal
from fenbu._core.model import (
    FINISHED,
    PARKED,
    Entry,
    EntryKind,
    Invocation,
    Loaded,
    Payload,
    Status,
)
from fenbu.errors import UsageError

if TYPE_CHECKING:
    from fenbu._core.activation import Activation

OUTCOMES: Final = frozenset(
    {EntryKind.STEP_COMPLETED, EntryKind.STEP_FAILED, EntryKind.CALL_FINISHED}
)
"""The entries about a step or call that another result can be put in the place of."""

WAITS: Final = (StartCall, AwaitCall, SendUpdate)
"""The commands to other calls that are waited for."""


def is_fresh(entries: Sequence[Entry]) -> bool:
    """It has been forked and its code has not run since."""
    return bool(entries) and entries[-1].kind is EntryKind.FORKED and not entries[-1].attempt


def run_of(activation: Activation, number: int) -> str:
    """The run whose command this is: it names the call that the command has started."""
    return journal.run_of(activation.forks, number, activation.run)


def child_id(activation: Activation, number: int) -> str:
    """The id of the call that a command has started."""
    return ids.child_id(run_of(activation, number), number)


def unanswered(activation: Activation, entries: Sequence[Entry]) -> list[int]:
    """The commands to other calls that the original waited for where it was forked."""
    last = entries[-1].command
    return [
        number
        for number, (_, command) in activation.waiting.items()
        if number <= last and isinstance(command, WAITS)
    ]


# Making one.


def place_of(loaded: Loaded, step: int | str | None) -> int:
    """The number of a command: by its number, by the name of a step or call, or the last that failed.

    Of several with a name it is the last.

    Raises:
        UsageError: There is none.
    """
    call, commands = loaded.invocation, journal.commands_of(loaded)
    if isinstance(step, int):
        if step in commands:
            return step
        raise UsageError(
            f"{call.handler} {call.id} has no command {step}: see `fenbu show {call.id}`"
        )
    if step is not None:
        found = [
            number
            for number, (kind, name, _) in commands.items()
            if kind in ("step", "call") and step in (name, name.rpartition(".")[2])
        ]
        what = f"step or call named {step!r}"
    else:
        about = _completions(loaded)
        found = [
            number
            for each in loaded.entries
            if (number := _ended(each, about)) and _has_failed(each)
        ]
        what = "step, call or callback that failed: say from which one it is to go on"
    if not found:
        raise UsageError(f"{call.handler} {call.id} has no {what}")
    return found[-1]


def forked(
    loaded: Loaded,
    *,
    step: int | str | None,
    results: Mapping[int, Payload],
    id_: str,
    partition_count: int,
    now: float,
) -> tuple[Restore, list[Signal]]:
    """What makes a call that goes on before the outcome of a command of another one.

    Args:
        loaded: The other one.
        step: See `place_of`.
        results: Other results, by command.
        id_: The new call's.
        partition_count: That of the database.
        now: The instant.

    Returns:
        The call with its journal; and what completes those callbacks of it that a result was given for.

    Raises:
        UsageError: The call cannot be forked so.
    """
    call = loaded.invocation
    if call.key is not None or call.started_at is None:
        raise UsageError(f"{call.handler} {call.id} is no workflow that has begun: start it again")
    if call.status not in FINISHED and call.status not in PARKED:
        raise UsageError(
            f"{call.handler} {call.id} is {call.status}: only a call that has ended, or is parked, is forked"
        )
    place, about = place_of(loaded, step), _completions(loaded)
    kept = [_changed(each, results, about) for each in _until(loaded.entries, place, about)]
    before = max(journal.commands_of(Loaded(call, kept[:-1])), default=0) if kept else 0
    last = max(journal.commands_of(Loaded(call, kept)), default=0)
    begin, anew = call.commands, 0
    if place in results and place in about.values():
        pass  # It is completed when the new call is there.
    elif place in results:
        kept.append(_outcome(loaded, place, results[place]))
    elif place <= before:
        anew = place  # Asked for long before its outcome: all that was asked for meanwhile stays.
    else:
        last = place - 1
        if kept:
            kept[-1].commands = _first(kept[-1].commands, last - before)
        else:
            begin = _first(begin, last)
    ended = {_ended(each, about) for each in kept}
    completed = [each for each in about.values() if each in results and each not in ended]
    completed = [each for each in completed if each <= last]
    if unknown := set(results) - ended - set(completed):
        raise UsageError(
            f"{call.handler} {call.id} has no outcome of command {min(unknown)} before command {place}"
        )
    while kept and _says_nothing(kept[-1], anew):
        kept.pop()
    entries = [replace(each, id=id_, position=position) for position, each in enumerate(kept, 1)]
    entries.append(_mark(loaded, id_, len(entries) + 1, Fork(last, "", "", anew), now))
    made = Invocation(
        id=id_,
        partition=ids.partition_of(id_, partition_count),
        handler=call.handler,
        version=call.version,
        args=call.args,
        created_at=now,
        status=Status.RUNNING,
        started_at=call.started_at,
        commands=begin,
        context=call.context,
        attributes=call.attributes,
    )
    forks = forks_of(entries)
    names = {each: ids.callback_name(each, journal.run_of(forks, each, id_)) for each in completed}
    signals = [Signal(made.partition, id_, names[each], results[each]) for each in completed]
    return Restore(made, entries), signals


def _mark(loaded: Loaded, id_: str, position: int, fork: Fork, now: float) -> Entry:
    """The entry `FORKED`: whose the commands before it are, and what the call's chance comes from."""
    call = loaded.invocation
    own = ids.run_id(call.id, call.attempt)
    forks = forks_of(loaded.entries)
    run = next((each.run for each in forks if each.last >= fork.last), own)
    seed = forks[0].seed if forks else ids.seed(own, call.created_at)
    text = msgspec.json.encode(replace(fork, run=run, seed=seed)).decode()
    return Entry(id_, position, EntryKind.FORKED, now, fork.last, run, value=text)


def _says_nothing(entry: Entry, anew: int) -> bool:
    """The mark of a fork at the very place of the new one, which stands for both."""
    if entry.kind is not EntryKind.FORKED or entry.commands is not None:
        return False
    (before,) = forks_of([entry])
    return before.anew in (0, anew)


def _first(commands: str | None, count: int) -> str | None:
    """A record of commands, up to the one that has so many numbered ones with itself."""
    asked = journal.recorded(commands)
    places = [place for place, each in enumerate(asked, 1) if each[0] not in UNNUMBERED]
    kept = asked[: places[count - 1]] if count else []
    return msgspec.json.encode(kept).decode() if kept else None


def _completions(loaded: Loaded) -> dict[str, int]:
    """The callbacks of a call, by the names under which it receives what completes them."""
    return {name: number for number, name in journal.callbacks_of(loaded).items()}


def _ended(entry: Entry, about: Mapping[str, int]) -> int:
    """The command whose outcome an entry is; 0 if it is none."""
    if entry.kind is EntryKind.SIGNAL_RECEIVED:
        return about.get(entry.name or "", 0)
    return entry.command if entry.kind in OUTCOMES else 0


def _has_failed(entry: Entry) -> bool:
    if entry.kind is EntryKind.SIGNAL_RECEIVED:
        return entry.failure is not None
    return entry.status is not Status.COMPLETED


def _until(entries: Sequence[Entry], place: int, about: Mapping[str, int]) -> list[Entry]:
    """What came before the first that is about a command."""
    kept: list[Entry] = []
    for each in entries:
        if each.kind is not EntryKind.FORKED and place in (each.command, _ended(each, about)):
            break
        kept.append(each)
    return kept


def _changed(entry: Entry, results: Mapping[int, Payload], about: Mapping[str, int]) -> Entry:
    number = _ended(entry, about)
    return _with(entry, results[number]) if number in results else replace(entry)


def _with(entry: Entry, value: Payload) -> Entry:
    if entry.kind is EntryKind.SIGNAL_RECEIVED:
        return replace(entry, value=value, failure=None)
    kind = entry.kind if entry.kind is EntryKind.CALL_FINISHED else EntryKind.STEP_COMPLETED
    return replace(entry, kind=kind, status=Status.COMPLETED, value=value, failure=None)


def _outcome(loaded: Loaded, place: int, value: Payload) -> Entry:
    """Another result for the command from which on it goes on."""
    found = [each for each in loaded.entries if each.command == place and each.kind in OUTCOMES]
    if found:
        return replace(_with(found[0], value), commands=None)
    kind = journal.commands_of(loaded)[place][0]
    if kind not in ("step", "call"):
        raise UsageError(
            f"command {place} of {loaded.invocation.id} is a {kind}, which has no result"
        )
    made = EntryKind.STEP_COMPLETED if kind == "step" else EntryKind.CALL_FINISHED
    at = loaded.entries[-1].at if loaded.entries else loaded.invocation.started_at or 0.0
    return Entry(loaded.invocation.id, 0, made, at, place, status=Status.COMPLETED, value=value)
