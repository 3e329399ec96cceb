"""For programs without `await`: an event loop in a thread of its own, which `with app:` runs on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from fenbu._api import callback
from fenbu._api.bound import Bound, start_many
from fenbu._api.callback import CallbackInfo
from fenbu._api.handle import SyncHandle
from fenbu._api.runtime import Runtime
from fenbu._api.state import EntityPage, list_entities

R = TypeVar("R")
T = TypeVar("T")


class Portal:
    """See the module."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fenbu-portal", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncApp:
    """What an `App` can do, for code that does not use `await`; see `App.sync`."""

    __slots__ = ("_runtime",)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def start_many(self, calls: Iterable[Bound[R]]) -> list[SyncHandle[R]]:
        """See `App.start_many`."""
        handles = self._runtime.run(lambda: start_many(self._runtime, calls))
        return [each.sync for each in handles]

    def list_callbacks(self, id: str) -> list[CallbackInfo]:  # noqa: A002
        """See `App.list_callbacks`."""
        return self._runtime.run(lambda: callback.list_callbacks(self._runtime, id))

    def list_entities(
        self, cls: type[T], *, limit: int = 100, after: str | None = None
    ) -> EntityPage[T]:
        """See `App.list_entities`."""
        return self._runtime.run(
            lambda: list_entities(self._runtime, cls, limit=limit, after=after)
        )

    def complete(self, token: str, value: object = None) -> None:
        """See `App.complete`."""
        self._runtime.run(lambda: callback.complete(self._runtime, token, value))

    def fail(self, token: str, error: BaseException | str) -> None:
        """See `App.fail`."""
        self._runtime.run(lambda: callback.fail(self._runtime, token, error))
