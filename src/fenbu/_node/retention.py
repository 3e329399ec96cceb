"""Deletes what is kept no longer, finished calls and events: a little at a time, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from fenbu._core import limit
from fenbu._core.conflict import TICKET
from fenbu._core.handler import Registry
from fenbu._core.topic import STREAM, log_id, log_key
from fenbu._core.update import HANDLER
from fenbu._node.clock import Clock
from fenbu._node.telemetry import log
from fenbu._storage.protocol import Storage
from fenbu.errors import Unavailable

ROUND_SECONDS = 60.0
PAUSE_SECONDS_MIN = 10.0
"""Between two statements, so that an idle node stays below one a second however many handlers it has."""


async def delete_expired(registry: Registry, storage: Storage, clock: Clock) -> None:
    """Go round the handlers and topics for as long as the node lives."""
    while True:
        names = [*registry.names(), TICKET, HANDLER]
        logs = [
            (log_id(log_key(each.name, shard)), each.retention_seconds)
            for each in registry.topics.values()
            for shard in range(each.shard_count)
        ]
        pause = max(PAUSE_SECONDS_MIN, ROUND_SECONDS / (len(names) + len(logs)))
        await asyncio.sleep(pause)
        for name in names:
            spec = registry.latest(name)
            seconds = limit.RETENTION_SECONDS if name == HANDLER else 0.0
            if spec is not None:
                seconds = spec.retention_seconds
            before = clock.now() - max(seconds, limit.RETENTION_SECONDS_MIN)
            await _all_of(partial(storage.delete_finished, name, before))
            await asyncio.sleep(pause)
        for id_, seconds in logs:
            before = clock.now() - seconds
            await _all_of(partial(storage.delete_chunks, id_, STREAM, before))
            await asyncio.sleep(pause)


async def _all_of(delete: Callable[..., Awaitable[int]]) -> None:
    try:
        while await delete(limit=limit.DELETE_ROWS_MAX) >= limit.DELETE_ROWS_MAX:
            pass
    except Unavailable as error:
        log.warning("what is kept no longer could not be deleted: %s", error)
