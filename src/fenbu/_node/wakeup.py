"""Reads the inbox when there may be something in it: after a hint, or after this node put something there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fenbu._core import limit
from fenbu._node.telemetry import log
from fenbu._storage.protocol import InboxPosition, InboxRead, Received, Storage
from fenbu.errors import Unavailable

AGAIN_SECONDS = 1.0


class Wakeup:
    """See the module. `receive` takes messages, `inherit` those that the last owner may have read."""

    def __init__(
        self,
        storage: Storage,
        partitions: Callable[[], list[int]],
        *,
        receive: Callable[[list[Received]], None],
        inherit: Callable[[list[Received]], None],
        read_up_to: Callable[[int], None],
        durable_number: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._partitions = partitions
        self._receive = receive
        self._inherit = inherit
        self._read_up_to = read_up_to
        self._durable_number = durable_number
        self._wanted = asyncio.Event()
        self._wanted.set()
        self.position: InboxPosition | None = None
        """Up to where it has been read."""
        self._reading = asyncio.Lock()
        self._asking: list[asyncio.Future[None]] = []
        """Who waits until what is there now has been read."""

    def read(self) -> None:
        """There may be something."""
        self._wanted.set()

    def heard(self) -> asyncio.Future[None]:
        """Done when all that is there now has been received; or never will be, by this reader."""
        asking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking.append(asking)
        self._wanted.set()
        return asking

    def stop(self) -> None:
        """Nothing more is read: who waits need not."""
        self._tell(len(self._asking))

    def _tell(self, count: int) -> None:
        told, self._asking = self._asking[:count], self._asking[count:]
        for each in told:
            if not each.done():
                each.set_result(None)

    async def run(self) -> None:
        """Read the inbox whenever it is wanted."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            asking = len(self._asking)
            try:
                async with self._reading:
                    await self._read()
            except Unavailable as error:
                log.warning("the inbox cannot be read, trying again: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)
                self._wanted.set()
            else:
                self._tell(asking)

    async def _read(self) -> None:
        complete = False
        while not complete and (numbers := self._partitions()):
            durable = self._durable_number()
            read = await self._storage.load_inbox(
                numbers, self.position, limit=limit.INBOX_ROWS_MAX
            )
            self.position = read.position
            self._receive(read.found)
            complete = read.complete
            if complete:
                self._read_up_to(durable)

    async def adopt(self, numbers: Sequence[int], take: Callable[[], None]) -> None:
        """Read what has come for new partitions, up to where the others have been read.

        That is, up to now, so that what their last owner may have begun is told from what comes later.
        `take` is called before the first message is given; after that it is read whatever it takes.

        Raises:
            Unavailable: The database did not answer, and `take` was not called.
        """
        async with self._reading:
            await self._read()
            take()
            until, after, complete = self.position, None, False
            while not complete:
                read = await self._load_patiently(numbers, after, until)
                after, complete = read.position, read.complete
                self._inherit(read.found)
            if until is None:
                self.position = after

    async def _load_patiently(
        self, numbers: Sequence[int], after: InboxPosition | None, until: InboxPosition | None
    ) -> InboxRead:
        while True:
            try:
                return await self._storage.load_inbox(
                    numbers, after, limit=limit.INBOX_ROWS_MAX, until=until
                )
            except Unavailable as error:
                log.warning("the inbox cannot be read, trying again: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)
