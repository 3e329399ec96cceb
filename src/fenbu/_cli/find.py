"""The call that an id, or the beginning of one, means; and what a replay of calls needs."""

from __future__ import annotations

from typing import NamedTuple

from fenbu._core import journal
from fenbu._core.field import read_names
from fenbu._core.history import History
from fenbu._core.model import FINISHED, Invocation, Loaded, Payload
from fenbu._storage.open import Database
from fenbu.errors import CallNotFound, UsageError

SHOWN = 5
"""How many of the calls that it could mean an error names."""


class Found(NamedTuple):
    """A call with its journal; without one while it is only a message in the inbox."""

    call: Invocation
    loaded: Loaded
    in_inbox: bool


async def find_call(database: Database, id_: str, *, exact: bool = False) -> Found:
    """The call with this id, or, unless `exact`, the only one whose id begins so.

    Raises:
        CallNotFound: There is none.
        UsageError: There are several.
    """
    if not id_:
        raise UsageError("which call? Its id is empty")
    found = await database.find_calls(id_, limit=SHOWN + 1)
    if not found or (exact and found[0].id != id_):
        raise CallNotFound(f"no call has the id {id_!r}, or its retention is over")
    if len(found) > 1 and found[0].id != id_:
        names = ", ".join(each.id for each in found[:SHOWN])
        more = ", …" if len(found) > SHOWN else ""
        raise UsageError(f"several calls have an id that begins with {id_!r}: {names}{more}")
    loaded = await database.load_calls([found[0].id])
    if loaded:
        return Found(loaded[0].invocation, loaded[0], in_inbox=False)
    return Found(found[0], Loaded(found[0], []), in_inbox=True)


async def histories_of(database: Database, calls: list[Loaded]) -> list[History]:
    """The calls with the states of their entities, if these are as they were before the operations."""
    names = {
        (call.entity, call.key or "")
        for call in (each.invocation for each in calls)
        if call.entity is not None and call.status not in FINISHED
    }
    states = {(each.entity, each.key): each for each in await database.load_entities(list(names))}
    places = [
        (*name, field)
        for each in calls
        if (name := (each.invocation.entity or "", each.invocation.key or "")) in names
        for field in journal.fields_seen(each.invocation, each.entries)
    ]
    fields: dict[tuple[str, str], dict[str, Payload]] = {}
    for row in await database.load_fields(places) if places else ():
        fields.setdefault((row.entity, row.key), {})[row.name] = row.value
    histories: list[History] = []
    for each in calls:
        state = states.get((each.invocation.entity or "", each.invocation.key or ""))
        if state is None:
            histories.append(History(each))
            continue
        stored = read_names(state.fields)
        seen = fields.get((state.entity, state.key), {})
        known = {name: value for name, value in seen.items() if name in stored}
        histories.append(History(each, state.state, state.version, known))
    return histories
