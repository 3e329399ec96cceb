"""What functions and handles need of their app: its handlers, and its way to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fenbu._core.handler import Registry
from fenbu._core.model import Payload
from fenbu._node.clock import Clock, SystemClock
from fenbu._node.gateway import Gateway
from fenbu.errors import PayloadTooLarge, UsageError

T = TypeVar("T")

_SYSTEM = SystemClock()


class Runtime:
    """Shared by an app and everything that was made with it."""

    def __init__(self, name: str, url: str, registry: Registry) -> None:
        self.name = name
        self.url = url
        self.registry = registry
        self._gateway: Gateway | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_open(self) -> bool:
        return self._gateway is not None

    def opened(self, gateway: Gateway) -> None:
        """Calls go this way, from now on, on the running event loop."""
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()

    def closed(self) -> None:
        self._gateway = self._loop = None

    @property
    def gateway(self) -> Gateway:
        """How calls get out of this process.

        Raises:
            UsageError: The app is not open.
        """
        if self._gateway is None:
            raise UsageError(
                f"app {self.name!r} is not open here: use `async with app:` to run its calls in this "
                "process, or `async with app.client():` to reach a node that runs elsewhere on the "
                "same database (without async: `with …`)"
            )
        return self._gateway

    @property
    def clock(self) -> Clock:
        """The gateway's; without one, the system's."""
        return _SYSTEM if self._gateway is None else self._gateway.clock

    def payload(self, value: object, what: str) -> Payload:
        """A value of any type, encoded.

        Raises:
            EncodingError: It cannot be, or is too large; `what` says in words which value it is.
        """
        try:
            return self.registry.codec.of(Any).encode(value)
        except PayloadTooLarge as error:
            raise error.named(what) from None

    def hint(self, partitions: set[int]) -> None:
        """From any thread: there is something new in these inboxes. Only if the app is open."""
        gateway, loop = self._gateway, self._loop
        if gateway is not None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(gateway.storage.hint, partitions)

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """From another thread: run a coroutine on the loop on which the app is open, and wait for it.

        Raises:
            UsageError: The app is not open, or an event loop is running in this thread.
        """
        _ = self.gateway
        loop = self._loop
        if loop is None or asyncio._get_running_loop() is not None:  # noqa: SLF001
            raise UsageError(
                "the sync twin would block the event loop that is running here: use `await` with the "
                "function itself, without `.sync`"
            )

        async def work() -> T:
            return await make()

        return asyncio.run_coroutine_threadsafe(work(), loop).result()
