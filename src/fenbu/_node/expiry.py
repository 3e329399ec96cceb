"""Looks for entities whose time is over, in the partitions of this node, and has each of them forgotten.

One statement from time to time for each class that has a `ttl`, and nothing at all without one. What it finds
is only asked to go: whether it does is decided when its turn has come, see `_core/expiry.py`.

An entity may have been written when its class had no `ttl`, or a longer one. So each class is gone through
once, in order of keys, and again when partitions have come, whose last owner may have had older code. Those
whose instant is not what it would be today are asked as well, and have it put right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from fenbu._core import ids, limit
from fenbu._core.expiry import forget_call
from fenbu._core.handler import Registry
from fenbu._node.clock import Clock
from fenbu._node.telemetry import log
from fenbu._node.tenure import Tenure
from fenbu._storage.expiry import EntityRange
from fenbu._storage.protocol import Storage
from fenbu.errors import OwnershipLost, Unavailable


class _Pass(Struct, eq=False):
    """How far a class has been gone through."""

    tenure: Tenure
    partitions: frozenset[int]
    start: str | None = ""
    """The key to go on from; None at the end."""


async def forget_expired(
    registry: Registry, storage: Storage, clock: Clock, running: Callable[[], Tenure | None]
) -> None:
    """Go round the classes for as long as the node lives."""
    passes: dict[str, _Pass] = {}
    while True:
        await asyncio.sleep(limit.FORGET_SECONDS)
        for entity in list(registry.entities.values()):
            tenure, ttl = running(), entity.ttl_seconds
            if ttl is None or tenure is None:
                continue
            try:
                while await _some(entity.name, storage, clock, tenure) >= limit.FORGET_ENTITIES:
                    pass
                owned, going = frozenset(tenure.engine.partitions), passes.get(entity.name)
                if going is None or going.tenure is not tenure or not owned <= going.partitions:
                    going = passes[entity.name] = _Pass(tenure, owned)
                await _put_right(entity.name, ttl, storage, clock, going)
            except (Unavailable, OwnershipLost) as error:
                log.warning("entities whose time is over could not be forgotten: %s", error)


async def _some(entity: str, storage: Storage, clock: Clock, tenure: Tenure) -> int:
    """Ask some of them to go; how many."""
    now, owned = clock.now(), list(tenure.engine.partitions)
    found = await storage.expired_entities(entity, owned, now, limit=limit.FORGET_ENTITIES)
    return await _ask(entity, found, clock, tenure)


async def _put_right(entity: str, ttl: float, storage: Storage, clock: Clock, going: _Pass) -> None:
    """Go on with a class for a while."""
    for _ in range(limit.FORGET_PAGES):
        if going.start is None or going.tenure.is_over:
            return
        where = EntityRange(entity, list(going.partitions), ttl, going.start, limit.FORGET_ENTITIES)
        found, last = await storage.misdated_entities(where)
        await _ask(entity, found, clock, going.tenure)
        going.start = last


async def _ask(entity: str, found: list[tuple[str, int]], clock: Clock, tenure: Tenure) -> int:
    """Ask these to look at their time; how many."""
    if tenure.is_over:
        return 0
    now = clock.now()
    for key, partition in found:
        id_ = ids.invocation_id(now, clock.entropy())
        tenure.post(forget_call(id_, entity, key, partition, now))
    if found:
        # Whoever has not gone by then has a call in the database, and is not found again.
        await tenure.committer.durable()
    return len(found)
