"""Reads the inbox when there may be something in it: after a hint, or after this node put something there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fenbu._core import limit
from fenbu._core.message import Message
from fenbu._node.telemetry import log
from fenbu._storage.protocol import Storage
from fenbu.errors import Unavailable

HINT_SECONDS = 2.0
"""How long to wait for a hint until looking anyway."""


class Wakeup:
    """See the module. `receive` takes each message with its number."""

    def __init__(
        self,
        storage: Storage,
        receive: Callable[[Message, int], None],
        read_up_to: Callable[[int], None],
        durable_number: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._receive = receive
        self._read_up_to = read_up_to
        self._durable_number = durable_number
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._last = 0

    def read(self) -> None:
        """There may be something."""
        self._wanted.set()

    async def watch(self) -> None:
        """Turn hints of the database into reads."""
        while True:
            if await self._storage.wait_for_change(HINT_SECONDS):
                self._wanted.set()

    async def run(self) -> None:
        """Read the inbox whenever it is wanted."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.read_all()
            except Unavailable as error:
                log.warning("the inbox cannot be read, trying again: %s", error)
                await asyncio.sleep(1.0)
                self._wanted.set()

    async def read_all(self) -> None:
        """Read what is there now."""
        while True:
            durable = self._durable_number()
            found = await self._storage.load_inbox(self._last, limit=limit.INBOX_ROWS_MAX)
            for received in found:
                self._last = received.number
                self._receive(received.message, received.number)
            if len(found) < limit.INBOX_ROWS_MAX:
                self._read_up_to(durable)
                return
