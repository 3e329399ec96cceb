"""The call that an id, or the beginning of one, means; and what a replay of calls needs."""

from __future__ import annotations

from typing import NamedTuple

from fenbu._core.history import History
from fenbu._core.model import Invocation, Loaded
from fenbu._core.tree import needed_states, take_states
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


async def home_in(database: Database, call: Invocation) -> int:
    """The partition to which all that a call is told is addressed: see `Invocation.home`."""
    return call.home((await database.open(create=False)).partition_count)


async def histories_of(database: Database, calls: list[Loaded]) -> list[History]:
    """The calls with the states of their entities, if these are as they were before the operations."""
    histories = [History(each) for each in calls]
    keys, fields = needed_states(histories)
    states = await database.load_entities(keys)
    take_states(histories, states, await database.load_fields(fields))
    return histories
