"""Deletes finished calls whose retention is over: a little at a time, one handler after the other."""

from __future__ import annotations

import asyncio

from fenbu._core import limit
from fenbu._core.conflict import TICKET
from fenbu._core.handler import Registry
from fenbu._core.update import HANDLER
from fenbu._node.clock import Clock
from fenbu._node.telemetry import log
from fenbu._storage.protocol import Storage
from fenbu.errors import Unavailable

ROUND_SECONDS = 60.0
PAUSE_SECONDS_MIN = 10.0
"""Between two statements, so that an idle node stays below one a second however many handlers it has."""


async def delete_finished(registry: Registry, storage: Storage, clock: Clock) -> None:
    """Go round the handlers for as long as the node lives."""
    while True:
        names = [*registry.names(), TICKET, HANDLER]
        pause = max(PAUSE_SECONDS_MIN, ROUND_SECONDS / max(1, len(names)))
        await asyncio.sleep(pause)
        for name in names:
            spec = registry.latest(name)
            seconds = limit.RETENTION_SECONDS if name == HANDLER else 0.0
            if spec is not None:
                seconds = spec.retention_seconds
            try:
                kept = max(seconds, limit.RETENTION_SECONDS_MIN)
                before = clock.now() - kept
                deleted = limit.DELETE_ROWS_MAX
                while deleted >= limit.DELETE_ROWS_MAX:
                    deleted = await storage.delete_finished(
                        name, before, limit=limit.DELETE_ROWS_MAX
                    )
            except Unavailable as error:
                log.warning("finished calls could not be deleted: %s", error)
            await asyncio.sleep(pause)
