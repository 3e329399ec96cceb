"""A client's ear: one task that waits for changes of the database while anybody there waits for news."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fenbu._storage.protocol import Storage

LISTEN_SECONDS = 1.0


class Hearing:
    """See the module. `heard` is called at each change, for as long as `wanted` says so."""

    def __init__(
        self, storage: Storage, heard: Callable[[], None], wanted: Callable[[], bool]
    ) -> None:
        self._storage = storage
        self._heard = heard
        self._wanted = wanted
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Somebody wants to hear."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._wanted():
                if await self._storage.wait_for_change(LISTEN_SECONDS):
                    self._heard()
        finally:
            if self._task is asyncio.current_task():
                self._task = None
