"""Hints between processes by NOTIFY, and waiting for them: never needed, only quicker than asking.

NOTIFY makes the server's commits wait for each other, so it stays out of batches and of users' transactions.
It comes from a session of its own that does not wait for the disk, and one statement carries all that has
gathered meanwhile. A node listens to a channel of its own, a client to one of its own and one for all
clients, which nodes use when calls have ended. Behind a transaction-pooling proxy nobody can listen; then,
and with `fenbu_notify=off`, waiting ends by itself after a while: soon while there is something going on.

Absent: content. Whoever is hinted at looks for himself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from fenbu._storage.postgres.driver import DRIVER_ERRORS, Connection
from fenbu._storage.postgres.session import Pool, close, connect_session
from fenbu._storage.postgres.url import Target
from fenbu.errors import FenbuError

GATHER_SECONDS: Final = (0.001, 0.010)
"""The first hint goes at once, the next one not before so long: the longer a hint takes, the later. One for
nobody in particular, which hardly ever somebody waits for, is the last to go. …"""

GIVING_SHARE: Final = 0.25
"""… so that hints take at most this share of a session's time …"""

LOOKING_SHARE: Final = 0.25
"""… and of a client's, which asks for all calls that it waits for each time."""

PARTITIONS_MAX: Final = 4_096
"""Far more than there are; a guard against a caller's mistake."""

LOOK_SECONDS: Final = 5.0
"""Waiting ends by itself after so long while this process listens: a hint may have been lost …"""

NODE_LOOK_SECONDS: Final = 15.0
"""For a node, which asks for unread messages with each beat …"""

LOOK_SECONDS_MIN: Final = 0.01
"""… and without listening after so long at first, …"""

LOOK_SECONDS_MAX: Final = 1.0
"""… twice as long each time, up to this."""

RECONNECT_SECONDS: Final = 2.0


class Hints:
    """Gives and receives them for one storage. `listener` is the name of its own channel."""

    def __init__(self, target: Target, pool: Pool, cluster: str, listener: str) -> None:
        self._target = target
        self._pool = pool
        self._prefix = f"fenbu_{cluster}_"
        self._all = f"{self._prefix}all"
        self._channels = [f"{self._prefix}c{listener}", self._all]
        # A session lasts if it need not go through a proxy that pools transactions.
        self._listens = target.notify and (target.pooled or not pool.pooled)
        self._connection: Connection | None = None
        self._using = asyncio.Lock()
        self._connected_at = float("-inf")
        self._partitions: set[int] = set()
        self._receivers: set[str] = set()
        self._gave_at = self._give_at = float("-inf")
        self._hurry: asyncio.Future[None] | None = None
        """Ends when there is something to give that does not wait as long as what there was."""
        self._look_again_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._news = True
        self._waiting: asyncio.Future[None] | None = None
        self._looked_at = float("-inf")
        self._look_seconds = LOOK_SECONDS_MIN
        self._patience = LOOK_SECONDS
        self._open = True

    # Giving.

    def give(
        self, partitions: Collection[int], clients: Collection[str], nodes: Collection[int] = ()
    ) -> None:
        """Soon, to the owners of these partitions, the listeners of these names, and these nodes."""
        self._receivers.update(f"{self._prefix}n{each}" for each in nodes)
        self._partitions.update(partitions)
        self._receivers.update(f"{self._prefix}c{each}" for each in clients)
        self._start()
        if self._hurry is not None and not self._hurry.done():
            self._hurry.set_result(None)

    def tell_clients(self) -> None:
        """Soon, to everybody who waits for an outcome."""
        self._receivers.add(self._all)
        self._start()

    def _start(self) -> None:
        if not self._target.notify:
            self._partitions.clear()
            self._receivers.clear()
        elif self._task is None and self._open:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while (self._partitions or self._receivers) and self._open:
                await self._gather()
                self._gave_at = loop.time()
                await self._send()
                least, most = GATHER_SECONDS
                took = loop.time() - self._gave_at
                self._give_at = self._gave_at + min(max(least, took / GIVING_SHARE), most)
        except (*DRIVER_ERRORS, FenbuError):
            # A hint less; whoever waits looks by himself.
            self._partitions.clear()
            self._receivers.clear()
        finally:
            self._task = None

    async def _gather(self) -> None:
        """Wait until it is time for what there is to give."""
        loop = asyncio.get_running_loop()
        # What comes in one turn of the event loop goes together.
        await asyncio.sleep(0)
        while True:
            is_for_all = not self._partitions and self._receivers == {self._all}
            due = self._gave_at + GATHER_SECONDS[1] if is_for_all else self._give_at
            if due <= loop.time():
                return
            self._hurry = loop.create_future()
            try:
                await asyncio.wait((self._hurry,), timeout=due - loop.time())
            finally:
                self._hurry = None

    async def _send(self) -> None:
        partitions = list(self._partitions)[:PARTITIONS_MAX]
        receivers = list(self._receivers)
        self._partitions.clear()
        self._receivers.clear()
        parameters = (f"{self._prefix}n", partitions, receivers)
        if self._listens:
            async with self._using:
                connection = await self._connected()
                if connection is not None:
                    await connection.fetch(self._pool.sql["hint.hint"], *parameters)
        else:
            await self._pool.run(
                lambda connection: connection.fetch(self._pool.sql["hint.hint"], *parameters)
            )

    # Receiving.

    async def become_node(self, id_: int) -> None:
        """From now on this process listens for its inbox, and no longer for outcomes."""
        self._patience = NODE_LOOK_SECONDS
        old, self._channels = self._channels, [self._channels[0], f"{self._prefix}n{id_}"]
        async with self._using:
            connection = self._connection
            if connection is None or connection.is_closed():
                return
            try:
                await connection.remove_listener(old[1], self._hear)
                await connection.add_listener(self._channels[1], self._hear)
            except DRIVER_ERRORS:
                connection.terminate()

    async def wait(self, seconds: float) -> bool:
        """See `Storage.wait_for_change`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        listening = self._listens and await self._listening()
        if not self._news:
            look_at = self._looked_at + (self._patience if listening else self._look_seconds)
            self._waiting = loop.create_future()
            try:
                await asyncio.wait(
                    (self._waiting,), timeout=max(0.0, min(end, look_at) - loop.time())
                )
            finally:
                self._waiting = None
            if not self._news and loop.time() < look_at:
                return False
        if not self._news:
            self._look_seconds = min(self._look_seconds * 2, LOOK_SECONDS_MAX)
        early = self._look_again_at - loop.time()
        if early > 0:
            await asyncio.sleep(min(early, LOOK_SECONDS_MAX))
        self._news = False
        self._looked_at = loop.time()
        return True

    def looked(self, seconds: float) -> None:
        """Asking for outcomes took so long: do so again after several times as long."""
        now = asyncio.get_running_loop().time()
        self._look_again_at = now + seconds * (1 / LOOKING_SHARE - 1)

    def busy(self) -> None:
        """Something is going on: without listening, look more often."""
        self._look_seconds = LOOK_SECONDS_MIN

    async def _listening(self) -> bool:
        connection = self._connection
        if connection is not None and not connection.is_closed():
            return True
        async with self._using:
            return await self._connected() is not None

    async def _connected(self) -> Connection | None:
        """The session, opened anew if it has ended; None if that was tried a moment ago, or fails."""
        connection = self._connection
        if connection is not None and not connection.is_closed():
            return connection
        now = asyncio.get_running_loop().time()
        if now < self._connected_at + RECONNECT_SECONDS or not self._open:
            return None
        self._connected_at = now
        try:
            connection = await self._connect()
        except DRIVER_ERRORS:
            return None
        connection.add_termination_listener(self._hear)
        self._connection = connection
        # What happened before it listened was not heard.
        self._hear()
        return connection

    async def _connect(self) -> Connection:
        connection = await connect_session(
            self._target, self._target.session_url, "fenbu hints", RECONNECT_SECONDS
        )
        try:
            for each in self._channels:
                await connection.add_listener(each, self._hear)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _hear(self, *_: object) -> None:
        self._news = True
        self._look_seconds = LOOK_SECONDS_MIN
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def close(self) -> None:
        if self._task is not None:
            await self._task
        self._open = False
        async with self._using:
            connection, self._connection = self._connection, None
            if connection is not None:
                await close(connection)
