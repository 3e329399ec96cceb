"""The call that an id, or the beginning of one, means."""

from __future__ import annotations

from fenbu._core.model import Loaded
from fenbu._storage.open import Database
from fenbu._storage.protocol import CallFilter
from fenbu.errors import CallNotFound

RECENT = 1000
"""How many of the newest calls a beginning is looked for in."""


async def find_call(database: Database, id_: str) -> Loaded:
    """The call with this id, or the only recent one whose id begins so.

    Raises:
        CallNotFound: There is none, or more than one.
    """
    found = await database.load_calls([id_])
    if not found:
        recent = await database.list_calls(CallFilter(limit=RECENT))
        ids = [each.id for each in recent if each.id.startswith(id_)]
        if len(ids) > 1:
            raise CallNotFound(f"{len(ids)} calls begin with {id_!r}: {', '.join(ids[:5])}, …")
        found = await database.load_calls(ids)
    if not found:
        raise CallNotFound(f"no call has the id {id_!r}, or its retention is over")
    return found[0]
