"""Reads what the core asks for, many requests in one query, and gives the answers back as events."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from fenbu._core import limit
from fenbu._core.effect import LoadCalls, LoadEntity, LoadFields, LoadOperations, LoadReady
from fenbu._core.engine import Engine
from fenbu._core.event import (
    CallsLoaded,
    DueLoaded,
    EntityLoaded,
    Event,
    FieldsLoaded,
    OperationsLoaded,
    ReadyLoaded,
)
from fenbu._core.model import Loaded
from fenbu._node.telemetry import log
from fenbu._storage.protocol import Storage
from fenbu.errors import Unavailable

Load = LoadCalls | LoadEntity | LoadFields | LoadOperations | LoadReady


class Loader:
    """See the module. `apply` takes each answer, `written` waits until the open batch is on disk."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        written: Callable[[], Coroutine[Any, Any, None]],
        apply: Callable[[Event], None],
    ) -> None:
        self._engine = engine
        self._storage = storage
        self._written = written
        self._apply = apply
        self._tasks: set[asyncio.Task[None]] = set()

    def load(self, requests: list[Load]) -> None:
        """Answer these requests, whenever the database does."""
        calls = [each for each in requests if isinstance(each, LoadCalls)]
        entities = [each for each in requests if isinstance(each, LoadEntity)]
        fields = [each for each in requests if isinstance(each, LoadFields)]
        ready = [each for each in requests if isinstance(each, LoadReady)]
        if calls:
            self._spawn(self._calls(calls))
        if entities:
            self._spawn(self._entities(entities))
        if fields:
            self._spawn(self._fields(fields))
        if ready:
            self._spawn(self._ready(ready))
        for each in requests:
            if isinstance(each, LoadOperations):
                self._spawn(self._operations(each))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def due(self, partitions: list[int], now: float) -> bool:
        """Load calls whose time has come; true if there may be more."""
        # Like any load it sees the batch that is open now: what that one ends or deletes must not come back.
        batch = self._engine.loads.begin(self._engine.batch.number)
        try:
            await self._written()
            found = await self._storage.load_due(partitions, now, limit=limit.LOAD_ROWS_MAX)
            self._due_found(found, batch)
        finally:
            self._engine.loads.end(batch)
        return len(found) >= limit.LOAD_ROWS_MAX

    def _due_found(self, found: list[Loaded], batch: int) -> None:
        by_partition: defaultdict[int, list[Loaded]] = defaultdict(list)
        for loaded in found:
            by_partition[loaded.invocation.partition].append(loaded)
        for number, loadeds in by_partition.items():
            self._engine.loads.begin(batch)
            self._apply(DueLoaded(number, batch, loadeds))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _calls(self, requests: list[LoadCalls]) -> None:
        ids = [id_ for each in requests for id_ in each.ids]
        found = await _patiently(lambda: self._storage.load_calls(ids))
        by_id = {each.invocation.id: each for each in found}
        for each in requests:
            mine = [by_id[id_] for id_ in each.ids if id_ in by_id]
            self._apply(CallsLoaded(each.partition, each.batch, each.ids, mine))

    async def _entities(self, requests: list[LoadEntity]) -> None:
        keys = [(each.entity, each.key) for each in requests]
        found = await _patiently(lambda: self._storage.load_entities(keys))
        by_key = {(each.entity, each.key): each for each in found}
        for each in requests:
            state = by_key.get((each.entity, each.key))
            self._apply(EntityLoaded(each.partition, each.entity, each.key, state))

    async def _fields(self, requests: list[LoadFields]) -> None:
        places = [(each.entity, each.key, name) for each in requests for name in each.names]
        rows = await _patiently(lambda: self._storage.load_fields(places))
        by_place = {(each.entity, each.key, each.name): each.value for each in rows}
        for each in requests:
            found = {
                name: by_place[each.entity, each.key, name]
                for name in each.names
                if (each.entity, each.key, name) in by_place
            }
            self._apply(
                FieldsLoaded(
                    each.partition, each.batch, each.entity, each.key, each.names, found
                )
            )  # fmt: skip

    async def _ready(self, requests: list[LoadReady]) -> None:
        cursors = {each.partition: each.after for each in requests}
        size = max(16, limit.LOAD_ROWS_MAX // len(requests))
        found = await _patiently(lambda: self._storage.load_ready(cursors, limit=size))
        by_partition: defaultdict[int, list[Loaded]] = defaultdict(list)
        for loaded in found:
            by_partition[loaded.invocation.partition].append(loaded)
        for each in requests:
            mine = by_partition[each.partition]
            complete = len(mine) < size
            self._apply(ReadyLoaded(each.partition, each.batch, each.until, mine, complete))

    async def _operations(self, request: LoadOperations) -> None:
        size = limit.MAILBOX_OPERATIONS_MAX // 2
        found = await _patiently(
            lambda: self._storage.load_operations(
                request.entity, request.key, after=request.after, limit=size
            )
        )
        self._apply(
            OperationsLoaded(
                request.partition, request.batch, request.entity, request.key, request.until,
                found, len(found) < size,
            )
        )  # fmt: skip


async def _patiently(read: Callable[[], Coroutine[Any, Any, list[Any]]]) -> list[Any]:
    """Read until the database answers: the core waits for it, and has nothing else to do."""
    wait = 0.05
    while True:
        try:
            return await read()
        except Unavailable as error:
            log.warning("the database does not answer, trying again: %s", error)
        await asyncio.sleep(wait)
        wait = min(wait * 2, 2.0)
