"""The whole client surface without `await`: one portal that runs the asynchronous one, and thin twins."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from fenbu._api.handle import Handle
from fenbu._core.model import Status
from fenbu.errors import UsageError

if TYPE_CHECKING:
    from fenbu._api.app import App
    from fenbu._api.function import DurableFunction

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Portal:
    """An event loop in a thread of its own, for programs that have none."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fenbu-portal", daemon=True)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def run_on(app: App, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the loop on which the app is open, from another thread.

    Raises:
        UsageError: The app is not open, or this is its own loop's thread.
    """
    loop = app.loop
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not None:
        raise UsageError(
            "the sync twin would block the event loop that is running here: use `await` with the "
            "function itself, without `.sync`"
        )

    async def work() -> T:
        return await make()

    return asyncio.run_coroutine_threadsafe(work(), loop).result()


class SyncHandle(Generic[R]):
    """`Handle` without `await`."""

    def __init__(self, app: App, handle: Handle[R]) -> None:
        self._app = app
        self._handle = handle
        self.id = handle.id

    def __repr__(self) -> str:
        return f"SyncHandle({self.id!r})"

    def result(self, timeout: float | timedelta | None = None) -> R:
        """See `Handle.result`."""
        return run_on(self._app, lambda: self._handle.result(timeout))

    def status(self) -> Status:
        """See `Handle.status`."""
        return run_on(self._app, self._handle.status)

    def signal(self, name: str, value: object = None) -> None:
        """See `Handle.signal`."""
        run_on(self._app, lambda: self._handle.signal(name, value))

    def cancel(self, reason: str = "cancelled") -> None:
        """See `Handle.cancel`."""
        run_on(self._app, lambda: self._handle.cancel(reason))

    def retry(self) -> None:
        """See `Handle.retry`."""
        run_on(self._app, self._handle.retry)


class SyncFunction(Generic[P, R]):
    """`DurableFunction` without `await`."""

    def __init__(self, app: App, function: DurableFunction[P, R]) -> None:
        self._app = app
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make the call and wait for its result; see `DurableFunction.__call__`."""
        return run_on(self._app, lambda: self._function(*args, **kwargs))

    def start(self, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[R]:
        """See `DurableFunction.start`."""
        return SyncHandle(
            self._app, run_on(self._app, lambda: self._function.start(*args, **kwargs))
        )

    def start_many(self, arguments: Iterable[tuple[Any, ...]]) -> list[SyncHandle[R]]:
        """See `DurableFunction.start_many`."""
        handles = run_on(self._app, lambda: self._function.start_many(arguments))
        return [SyncHandle(self._app, each) for each in handles]

    def handle(self, id: str) -> SyncHandle[R]:  # noqa: A002
        """See `DurableFunction.handle`."""
        return SyncHandle(self._app, self._function.handle(id))
