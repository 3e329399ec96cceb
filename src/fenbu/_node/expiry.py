"""Looks for entities whose time is over, in the partitions of this node, and has each of them forgotten.

One statement from time to time for each class that has a `ttl`, and nothing at all without one. What it finds
is only asked to go: whether it does is decided when its turn has come, see `_core/expiry.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fenbu._core import ids, limit
from fenbu._core.expiry import forget_call
from fenbu._core.handler import Registry
from fenbu._node.clock import Clock
from fenbu._node.telemetry import log
from fenbu._node.tenure import Tenure
from fenbu._storage.protocol import Storage
from fenbu.errors import OwnershipLost, Unavailable


async def forget_expired(
    registry: Registry, storage: Storage, clock: Clock, running: Callable[[], Tenure | None]
) -> None:
    """Go round the classes for as long as the node lives."""
    while True:
        await asyncio.sleep(limit.FORGET_SECONDS)
        for entity in list(registry.entities.values()):
            tenure = running()
            if entity.ttl_seconds is None or tenure is None:
                continue
            try:
                while await _some(entity.name, storage, clock, tenure) >= limit.FORGET_ENTITIES:
                    pass
            except (Unavailable, OwnershipLost) as error:
                log.warning("entities whose time is over could not be forgotten: %s", error)


async def _some(entity: str, storage: Storage, clock: Clock, tenure: Tenure) -> int:
    """Ask some of them to go; how many."""
    now, owned = clock.now(), list(tenure.engine.partitions)
    found = await storage.expired_entities(entity, owned, now, limit=limit.FORGET_ENTITIES)
    if tenure.is_over:
        return 0
    for key, partition in found:
        id_ = ids.invocation_id(now, clock.entropy())
        tenure.post(forget_call(id_, entity, key, partition, now))
    if found:
        # Whoever has not gone by then has a call in the database, and is not found again.
        await tenure.committer.durable()
    return len(found)
