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
from fenbu._core.message import Restore
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
"""The entries that another result can be put in the place of."""

WAITS: Final = (StartCall, AwaitCall, SendUpdate)
"""The commands to other calls that are waited for."""


def is_fresh(entries: Sequence[Entry]) -> bool:
    """It has been forked and its code has not run since."""
    return bool(entries) and entries[-1].kind is EntryKind.FORKED and not entries[-1].attempt


def run_of(activation: Activation, number: int) -> str:
    """The run whose command this is: it names the call that the command has started."""
    return owner_of(activation.forks, activation.run, number)


def owner_of(forks: Sequence[Fork], run: str, number: int) -> str:
    """The same, from a journal's forks and the name of the present run."""
    for each in forks:
        if number == each.anew:
            break
        if number <= each.last:
            return each.run
    return run


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


def numbered(loaded: Loaded) -> dict[int, tuple[str, str]]:
    """The kind and name of each command in a journal, by its number."""
    records = [loaded.invocation.commands, *(each.commands for each in loaded.entries)]
    asked = [each for text in records for each in journal.recorded(text)]
    known = [(kind, name) for kind, name, _ in asked if kind not in UNNUMBERED]
    return dict(enumerate(known, 1))


def place_of(loaded: Loaded, step: int | str | None) -> int:
    """The number of a command: by its number, by the name of a step or call, or the last that failed.

    Of several with a name it is the last.

    Raises:
        UsageError: There is none.
    """
    call, commands = loaded.invocation, numbered(loaded)
    if isinstance(step, int):
        if step in commands:
            return step
        raise UsageError(
            f"{call.handler} {call.id} has no command {step}: see `fenbu show {call.id}`"
        )
    if step is not None:
        found = [
            number
            for number, (kind, name) in commands.items()
            if kind in ("step", "call") and step in (name, name.rpartition(".")[2])
        ]
        what = f"step or call named {step!r}"
    else:
        ends = [each for each in loaded.entries if each.kind in OUTCOMES]
        found = [each.command for each in ends if each.status is not Status.COMPLETED]
        what = "step or call that failed: say from which one it is to go on"
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
    deadline_at: float | None = None,
) -> Restore:
    """The message that makes a call which goes on before the outcome of a command of another one.

    Args:
        loaded: The other one.
        step: See `place_of`.
        results: Other results, by command.
        id_: The new call's.
        partition_count: That of the database.
        now: The instant.
        deadline_at: The new call's.

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
    place = place_of(loaded, step)
    kept = [_changed(each, results) for each in _until(loaded.entries, place)]
    before = max(numbered(Loaded(call, kept[:-1])), default=0) if kept else 0
    last = max(numbered(Loaded(call, kept)), default=0)
    begin, anew = call.commands, 0
    if place in results:
        kept.append(_outcome(loaded, place, results[place]))
    elif place <= before:
        anew = place  # Asked for long before its outcome: all that was asked for meanwhile stays.
    else:
        last = place - 1
        if kept:
            kept[-1].commands = _first(kept[-1].commands, last - before)
        else:
            begin = _first(begin, last)
    unknown = set(results) - {each.command for each in kept if each.kind in OUTCOMES}
    if unknown:
        raise UsageError(
            f"{call.handler} {call.id} has no outcome of command {min(unknown)} before command {place}"
        )
    entries = [replace(each, id=id_, position=position) for position, each in enumerate(kept, 1)]
    entries.append(_mark(loaded, id_, len(entries) + 1, Fork(last, "", "", anew), now))
    made = Invocation(
        id=id_,
        partition=ids.partition_of(id_, partition_count),
        handler=call.handler,
        version=call.version,
        args=call.args,
        created_at=now,
        deadline_at=deadline_at,
        status=Status.RUNNING,
        started_at=call.started_at,
        commands=begin,
        context=call.context,
        attributes=call.attributes,
    )
    return Restore(made, entries)


def _mark(loaded: Loaded, id_: str, position: int, fork: Fork, now: float) -> Entry:
    """The entry `FORKED`: whose the commands before it are, and what the call's chance comes from."""
    call = loaded.invocation
    own = ids.run_id(call.id, call.attempt)
    forks = forks_of(loaded.entries)
    run = next((each.run for each in forks if each.last >= fork.last), own)
    seed = forks[0].seed if forks else ids.seed(own, call.created_at)
    text = msgspec.json.encode(replace(fork, run=run, seed=seed)).decode()
    return Entry(id_, position, EntryKind.FORKED, now, fork.last, run, value=text)


def _first(commands: str | None, count: int) -> str | None:
    """A record of commands, up to the one that has so many numbered ones with itself."""
    asked = journal.recorded(commands)
    places = [place for place, each in enumerate(asked, 1) if each[0] not in UNNUMBERED]
    kept = asked[: places[count - 1]] if count else []
    return msgspec.json.encode(kept).decode() if kept else None


def _until(entries: Sequence[Entry], place: int) -> list[Entry]:
    """What came before the first that is about a command."""
    kept: list[Entry] = []
    for each in entries:
        if each.command == place and each.kind is not EntryKind.FORKED:
            break
        kept.append(each)
    return kept


def _changed(entry: Entry, results: Mapping[int, Payload]) -> Entry:
    if entry.kind not in OUTCOMES or entry.command not in results:
        return replace(entry)
    return _with(entry, results[entry.command])


def _with(entry: Entry, value: Payload) -> Entry:
    kind = entry.kind if entry.kind is EntryKind.CALL_FINISHED else EntryKind.STEP_COMPLETED
    return replace(entry, kind=kind, status=Status.COMPLETED, value=value, failure=None)


def _outcome(loaded: Loaded, place: int, value: Payload) -> Entry:
    """Another result for the command from which on it goes on."""
    found = [each for each in loaded.entries if each.command == place and each.kind in OUTCOMES]
    if found:
        return replace(_with(found[0], value), commands=None)
    kind = numbered(loaded)[place][0]
    if kind not in ("step", "call"):
        raise UsageError(
            f"command {place} of {loaded.invocation.id} is a {kind}, which has no result"
        )
    made = EntryKind.STEP_COMPLETED if kind == "step" else EntryKind.CALL_FINISHED
    at = loaded.entries[-1].at if loaded.entries else loaded.invocation.started_at or 0.0
    return Entry(loaded.invocation.id, 0, made, at, place, status=Status.COMPLETED, value=value)
