"""Values that take long to get, kept for a while, and fetched by one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import fenbu
from fenbu import App, Entity, Retry, step
from fenbu.contrib import argument

T = TypeVar("T")


class Cache(Generic[T]):
    """A value per key, fetched again when it is too old.

    However many ask meanwhile, it is fetched once, and all get that: single flight.

    Args:
        app: Whose database keeps it. Make the same cache in each process that runs its nodes.
        name: Names it in the database.
        load: Gets the value of a key. It runs as a step, so it may do I/O.
        ttl_seconds: How long a value is good, above 0.
        retry: What to do if `load` raises; without it, whoever asks gets the error.

    Raises:
        UsageError: A value that makes no sense.

    Example:
        ```python
        rates = Cache(app, "rates", fetch_rate, ttl_seconds=3600)
        rate = await rates.get("EUR")
        ```
    """

    def __init__(
        self,
        app: App,
        name: str,
        load: Callable[[str], Awaitable[T]] | Callable[[str], T],
        *,
        ttl_seconds: float,
        retry: Retry | None = None,
    ) -> None:
        argument.seconds("Cache(ttl_seconds", ttl_seconds)
        policy = retry or Retry(attempts=1)

        @app.entity(name=name, retention=0)
        class Cached(Entity):
            value: Any = None
            good_until: float = 0.0

            async def get(self) -> Any:
                if fenbu.now().timestamp() >= self.good_until:
                    # The others wait behind this operation, and find what it got.
                    self.value = await step.options(retry=policy)(load, self.key)
                    self.good_until = fenbu.now().timestamp() + ttl_seconds
                    self.send_later(ttl_seconds, self.forget)
                return self.value

            async def forget(self, *, anyhow: bool = False) -> None:
                if anyhow or fenbu.now().timestamp() >= self.good_until:
                    self.delete()

        self._cached = Cached

    async def get(self, key: str) -> T:
        """The value, from the cache or fetched now."""
        value: T = await self._cached(key).get()
        return value

    async def forget(self, key: str) -> None:
        """Whoever asks next fetches it anew."""
        await self._cached(key).forget(anyhow=True)
