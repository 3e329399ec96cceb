"""How a client reaches the engine: the node in its own process, or the database alone.

Both sides of `Gateway` give the same guarantees: when `start_calls` returns, the calls are durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from fenbu._core.handler import Registry
from fenbu._core.message import Call, Cancel, Retry, Signal
from fenbu._core.model import Outcome, Status
from fenbu._node.clock import Clock
from fenbu._storage.protocol import Storage
from fenbu.errors import CallNotFound

POLL_SECONDS = 1.0


class Gateway(Protocol):
    """What the API asks for."""

    registry: Registry
    clock: Clock
    storage: Storage

    async def start_calls(self, calls: Sequence[Call]) -> None:
        """Make the calls durable, all or none."""
        ...

    async def call(self, call: Call) -> Outcome:
        """Make one call durable and wait for its outcome."""
        ...

    async def outcome(self, id: str, partition: int) -> Outcome:  # noqa: A002
        """Wait for the outcome of a call; `partition` is -1 where it is not known.

        Raises:
            CallNotFound: There is no such call.
        """
        ...

    async def status(self, id: str) -> Status:  # noqa: A002
        """Where a call is in its life.

        Raises:
            CallNotFound: There is no such call.
        """
        ...

    async def send(self, message: Signal | Cancel | Retry) -> None:
        """Make a signal, cancellation or retry durable.

        Raises:
            CallNotFound: There is no such call.
        """
        ...


class RemoteGateway:
    """A client without a node: its calls go into the inbox, outcomes are read when the database changes."""

    def __init__(self, registry: Registry, clock: Clock, storage: Storage) -> None:
        self.registry = registry
        self.clock = clock
        self.storage = storage
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._watcher: asyncio.Task[None] | None = None

    async def start_calls(self, calls: Sequence[Call]) -> None:
        await self.storage.enqueue(calls)

    async def call(self, call: Call) -> Outcome:
        await self.storage.enqueue([call])
        return await self._outcome(call.invocation.id, new=True)

    async def outcome(self, id: str, partition: int) -> Outcome:  # noqa: A002
        del partition
        return await self._outcome(id, new=False)

    async def _outcome(self, id_: str, *, new: bool) -> Outcome:
        if not new:
            found = (await self.storage.outcomes([id_])).get(id_)
            if isinstance(found, Outcome):
                return found
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id_, []).append(future)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        try:
            return await future
        finally:
            futures = self._waiting.get(id_)
            if futures is not None and future in futures:
                futures.remove(future)
                if not futures:
                    del self._waiting[id_]

    async def _watch(self) -> None:
        """One reader for all who wait."""
        while self._waiting:
            ids = list(self._waiting)
            try:
                found = await self.storage.outcomes(ids)
            except Exception as error:  # noqa: BLE001 - those who wait must hear of it
                for id_ in ids:
                    for future in self._waiting.pop(id_, ()):
                        if not future.done():
                            future.set_exception(error)
                continue
            for id_, outcome in found.items():
                if isinstance(outcome, Outcome):
                    for future in self._waiting.pop(id_, ()):
                        if not future.done():
                            future.set_result(outcome)
            if self._waiting:
                await self.storage.wait_for_change(POLL_SECONDS)

    async def status(self, id: str) -> Status:  # noqa: A002
        return await read_status(self.storage, id)

    async def send(self, message: Signal | Cancel | Retry) -> None:
        await self.storage.enqueue([message])

    async def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)


async def read_status(storage: Storage, id_: str) -> Status:
    """The status of a call as the database has it."""
    found = (await storage.outcomes([id_])).get(id_)
    if found is None:
        raise CallNotFound(f"no call has the id {id_!r}, or its retention is over")
    return found.status if isinstance(found, Outcome) else found
