"""Faults, drawn from a seed, on nodes, sessions, connections and the server."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.chaos.proxy import Proxy
from tests.chaos.service import Service
from tests.fixture.postgres import Server, Session

NODES_MAX = 5


class Monkey:
    """See the module."""

    def __init__(
        self, seed: int, services: list[Service], proxy: Proxy, server: Server, session_url: str
    ) -> None:
        self._chance = random.Random(seed)
        self._services = services
        self._proxy = proxy
        self._server = server
        self._url = session_url
        self.did: Counter[str] = Counter()
        self._faults: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self.kill_a_node),
            (3, self.stop_a_node),
            (4, self.freeze_a_node),
            (4, self.terminate_a_session),
            (1, self.restart_the_server),
            (1, self.crash_the_server),
            (3, self.cut_connections),
            (2, self.stall_connections),
            (2, self.delay_connections),
        ]

    async def rage(self, seconds: float) -> None:
        """One fault after the other for so long."""
        end = time.monotonic() + seconds
        weights = [weight for weight, _ in self._faults]
        while time.monotonic() < end:
            _, fault = self._chance.choices(self._faults, weights)[0]
            self.did[fault.__name__] += 1
            await fault()
            await asyncio.sleep(self._chance.uniform(0.2, 1.5))
            self._revive()

    def _revive(self) -> None:
        """At least two nodes run, at most five."""
        running = sum(each.runs for each in self._services)
        wanted = self._chance.randint(2, NODES_MAX)
        for each in self._services:
            if running < wanted and not each.runs:
                each.start()
                running += 1

    def _any(self) -> Service | None:
        running = [each for each in self._services if each.runs]
        return self._chance.choice(running) if running else None

    async def kill_a_node(self) -> None:
        if (node := self._any()) is not None:
            await node.kill()

    async def stop_a_node(self) -> None:
        if (node := self._any()) is not None:
            node.signal(signal.SIGTERM)

    async def freeze_a_node(self) -> None:
        if (node := self._any()) is not None:
            node.signal(signal.SIGSTOP)
            await asyncio.sleep(self._chance.choice([0.2, 1.0, 3.0]))
            node.signal(signal.SIGCONT)

    async def terminate_a_session(self) -> None:
        def terminate() -> None:
            with Session(self._url) as session:
                found = session.rows(
                    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fenbu%' "
                    "AND pid <> pg_backend_pid()"
                )
                if found:
                    pid = self._chance.choice(sorted(each["pid"] for each in found))
                    session.value("SELECT pg_terminate_backend($1)", pid)

        await asyncio.to_thread(terminate)

    async def restart_the_server(self) -> None:
        await asyncio.to_thread(self._server.stop, "fast")
        await asyncio.to_thread(self._server.start)

    async def crash_the_server(self) -> None:
        await asyncio.to_thread(self._server.stop, "immediate")
        await asyncio.sleep(self._chance.choice([0.0, 2.0]))
        await asyncio.to_thread(self._server.start)

    async def cut_connections(self) -> None:
        self._proxy.cut()

    async def stall_connections(self) -> None:
        self._proxy.stall()
        await asyncio.sleep(self._chance.choice([0.5, 3.0]))
        self._proxy.flow()

    async def delay_connections(self) -> None:
        self._proxy.delay_seconds = 0.05
        await asyncio.sleep(1.0)
        self._proxy.delay_seconds = 0.0
