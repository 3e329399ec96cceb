"""Calls that move from one database to another, with all that belongs to them: export and import."""

from __future__ import annotations

from msgspec.structs import replace

from fenbu._api.context import activation
from fenbu._api.options import checked_id
from fenbu._api.runtime import Runtime
from fenbu._core import history
from fenbu._core.arrival import arrivals
from fenbu._core.history import Histories
from fenbu._core.message import Restore
from fenbu._core.model import Invocation
from fenbu._core.tree import walk
from fenbu._storage.protocol import Storage
from fenbu.errors import AlreadyExists, CallNotFound, UsageError

NAMED = 5
"""How many of the calls that exist already an error names."""


async def export_call(runtime: Runtime, id_: str, *, alone: bool) -> bytes:
    """See `App.export_call`."""
    _outside_of_code("export_call")
    storage = runtime.gateway.storage
    found = await histories_in(storage, id_, runtime.registry.partition_count, alone=alone)
    return history.write(found)


async def import_calls(
    runtime: Runtime,
    data: bytes,
    *,
    id_: str | None,
    go_on: bool,
    alone: bool,
    restart_operations: bool,
) -> list[str]:
    """See `App.import_calls`."""
    _outside_of_code("import_calls")
    calls = await bring(
        runtime.gateway.storage,
        history.read(data),
        runtime.registry.partition_count,
        id_=id_,
        go_on=go_on,
        alone=alone,
        restart_operations=restart_operations,
    )
    return [each.id for each in calls]


def _outside_of_code(name: str) -> None:
    if activation() is not None:
        raise UsageError(f"{name}() is for operators: use it outside workflow and entity code")


async def histories_in(
    storage: Storage, id_: str, partition_count: int, *, alone: bool
) -> Histories:
    """A call with its tree, as they are in one moment.

    Raises:
        CallNotFound: There is no such call.
        UsageError: A message to one of them cannot be read here.
    """
    found = await storage.snapshot(walk(id_, partition_count, alone=alone))
    if found is None:
        raise CallNotFound(f"no call has the id {id_!r}, or its retention is over")
    for each in found.calls:
        # Its place among the calls of one database.
        each.loaded.invocation = replace(each.loaded.invocation, sequence=0)
    return found


async def bring(
    storage: Storage,
    histories: Histories,
    partition_count: int,
    *,
    id_: str | None,
    go_on: bool,
    alone: bool,
    restart_operations: bool,
) -> list[Invocation]:
    """Put calls into a database, durably, all or none; the one that was exported comes first.

    Raises:
        AlreadyExists: There are calls with such ids; nothing was written.
        UsageError: The calls cannot be brought in like that.
    """
    messages = arrivals(
        histories,
        partition_count,
        id_=checked_id(id_) if id_ != histories.root.loaded.invocation.id else None,
        goes_on=go_on,
        alone=alone,
        restart_operations=restart_operations,
    )
    existing = await storage.enqueue_new(messages)
    if existing:
        more = f" and {len(existing) - NAMED} more" if len(existing) > NAMED else ""
        raise AlreadyExists(
            f"there is a call {', '.join(existing[:NAMED])}{more} already, and nothing was imported"
        )
    return [each.invocation for each in messages if isinstance(each, Restore)][::-1]
