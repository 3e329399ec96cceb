"""Deletes what is kept no longer, finished calls and events: a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from fenbu._core import limit
from fenbu._core.conflict import TICKET
from fenbu._core.handler import Registry
from fenbu._core.topic import STREAM, log_id, log_key
from fenbu._core.update import HANDLER
from fenbu._node.clock import Clock
from fenbu._node.telemetry import log
from fenbu._storage.protocol import Storage
from fenbu.errors import Unavailable

T = TypeVar("T")

ROUND_SECONDS = 60.0
HANDLER_SECONDS_MIN = 10.0
LOG_SECONDS_MIN = 2.0
"""Between two statements, so that an idle node stays below one a second, whatever it has."""

Delete = Callable[..., Awaitable[int]]


async def delete_finished(registry: Registry, storage: Storage, clock: Clock) -> None:
    """Go round the handlers for as long as the node lives."""

    def of(name: str) -> Delete:
        spec = registry.latest(name)
        seconds = limit.RETENTION_SECONDS if name == HANDLER else 0.0
        if spec is not None:
            seconds = spec.retention_seconds
        before = clock.now() - max(seconds, limit.RETENTION_SECONDS_MIN)
        return partial(storage.delete_finished, name, before)

    await _go_round(lambda: [*registry.names(), TICKET, HANDLER], of, HANDLER_SECONDS_MIN)


async def delete_events(registry: Registry, storage: Storage, clock: Clock) -> None:
    """Go round the logs of topics for as long as the node lives.

    Beside the handlers and not after them: with hundreds of those, events would outlive their time by hours.
    """

    def of(log: tuple[str, float]) -> Delete:
        id_, seconds = log
        return partial(storage.delete_chunks, id_, STREAM, clock.now() - seconds)

    def logs() -> list[tuple[str, float]]:
        return [
            (log_id(log_key(each.name, shard)), each.retention_seconds)
            for each in registry.topics.values()
            for shard in range(each.shard_count)
        ]

    await _go_round(logs, of, LOG_SECONDS_MIN)


async def _go_round(all_: Callable[[], list[T]], of: Callable[[T], Delete], least: float) -> None:
    """Each in a minute, if there are so few that the pauses between them are not too short."""
    while True:
        found = all_()
        pause = max(least, ROUND_SECONDS / max(1, len(found)))
        if not found:
            await asyncio.sleep(pause)
        for each in found:
            await asyncio.sleep(pause)
            await _all_of(of(each))


async def _all_of(delete: Delete) -> None:
    try:
        while await delete(limit=limit.DELETE_ROWS_MAX) >= limit.DELETE_ROWS_MAX:
            pass
    except Unavailable as error:
        log.warning("what is kept no longer could not be deleted: %s", error)
