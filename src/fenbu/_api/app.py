"""The App: registers handlers, and opens the database as a node or as a client."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

from fenbu._api import callback
from fenbu._api.bound import Bound, start_many
from fenbu._api.finder import Finder
from fenbu._api.handle import Handle
from fenbu._api.hook import one_hook
from fenbu._api.mapping import MapsCalls
from fenbu._api.options import count, megabytes, seconds
from fenbu._api.register import Handlers
from fenbu._api.runtime import Runtime
from fenbu._api.sync import Portal, SyncApp
from fenbu._core import limit
from fenbu._core.codec import Codec, CodecHook
from fenbu._core.handler import Registry
from fenbu._node.clock import SystemClock
from fenbu._node.gateway import RemoteGateway
from fenbu._node.node import Node
from fenbu._node.telemetry import Listener
from fenbu._node.tenure import NodeOptions
from fenbu._storage.open import shown, storage_of
from fenbu.errors import InternalError, UsageError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Seconds = float | timedelta


class App(Handlers, Finder, MapsCalls):
    """The handlers of one service, and the database that makes their calls durable.

    Args:
        name: The app's name; without a URL it names the database file.
        url: `sqlite:///path`, `sqlite:////absolute/path` or `postgresql://user@host/database`. Default: the
            environment's `FENBU_URL`, else `.fenbu/<name>.db` below the current directory.
        codec: How payloads are stored: readable JSON, or MessagePack.
        payload_bytes_max: The largest encoded value in bytes (64 MiB): arguments, results, results of steps,
            states, signals. A larger one is refused where it is passed or returned.
        hook: Transforms payloads on their way to the database and back: `Compression`, `Encryption`, one of
            your own, or several in the order in which they are applied.
        concurrency: Bodies of tasks and steps that run at a time on one node.
        threads: Threads for plain functions.
        processes: Processes for functions marked `cpu=True`; default: as many as processors.
        process_tasks_max: Such a process is replaced after so many bodies; default: never.
        process_megabytes_max: One that has more memory after a body is replaced; default: never.
        idle_seconds: A workflow that has only waited for so long leaves memory until it is woken.
        patience_seconds: While a node has no session with its database, a call that is made in its process
            waits for so long before it ends with `Unavailable`; 0 does not wait.

    Example:
        ```python
        app = App("shop")

        @app.task
        async def send_receipt(order_id: int) -> None: ...

        async with app:                     # a node in this process
            await send_receipt(7)
        ```
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        codec: Literal["json", "msgpack"] = "json",
        payload_bytes_max: int = limit.PAYLOAD_BYTES_MAX,
        hook: CodecHook | Sequence[CodecHook] | None = None,
        concurrency: int = 1000,
        threads: int = 32,
        processes: int | None = None,
        process_tasks_max: int | None = None,
        process_megabytes_max: float | None = None,
        idle_seconds: Seconds = limit.IDLE_SECONDS,
        patience_seconds: Seconds = limit.PATIENCE_SECONDS,
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"App name must be letters, digits, - and _, not {name!r}")
        self.name = name
        url = url or os.environ.get("FENBU_URL") or f"sqlite:///.fenbu/{name}.db"
        codecs = Codec(format=codec, bytes_max=count(payload_bytes_max, "payload_bytes_max"))
        super().__init__(Runtime(name, url, Registry(codecs, one_hook(hook))))
        self.node_options = NodeOptions(
            concurrency=count(concurrency, "concurrency"),
            threads=count(threads, "threads"),
            processes=os.cpu_count() or 1 if processes is None else count(processes, "processes"),
            process_tasks_max=(
                None if process_tasks_max is None else count(process_tasks_max, "process_tasks_max")
            ),
            process_megabytes_max=megabytes(process_megabytes_max, "process_megabytes_max"),
            idle_seconds=seconds(idle_seconds, "idle_seconds") or 0.0,
            patience_seconds=seconds(patience_seconds, "patience_seconds") or 0.0,
        )
        self.node: Node | None = None
        """The node of this process, while it runs."""
        self._portal: Portal | None = None
        self._listeners: list[Listener] = []

    @property
    def url(self) -> str:
        """The database; it may be changed while the app is not open."""
        return self.runtime.url

    @url.setter
    def url(self, url: str) -> None:
        self._check_closed()
        self.runtime.url = url

    def __repr__(self) -> str:
        return f"<App {self.name!r} on {shown(self.url)}>"

    # Using.

    def handle(self, id: str) -> Handle[Any]:  # noqa: A002
        """The handle of any existing call, by its id."""
        return Handle(self.runtime, id, -1, self.runtime.registry.codec.of(Any))

    async def complete(self, token: str, value: object = None) -> None:
        """Complete a callback: what its workflow waits for. See `callback`.

        Only what comes first counts; later ones change nothing.

        Raises:
            UsageError: This is no token.
            CallNotFound: There is no such call, or its retention is over.
            EncodingError: The value cannot be encoded.

        Example:
            ```python
            async with app.client() as client:
                await client.complete(token, True)
            ```
        """
        await callback.complete(self.runtime, token, value)

    async def fail(self, token: str, error: BaseException | str) -> None:
        """Fail a callback: the error is raised where its workflow waits; a text is a `TerminalError`.

        Raises:
            UsageError: This is no token.
            CallNotFound: There is no such call, or its retention is over.
        """
        await callback.fail(self.runtime, token, error)

    @property
    def sync(self) -> SyncApp:
        """The same for code that does not use `await`."""
        return SyncApp(self.runtime)

    async def start_many(self, calls: Iterable[Bound[R]]) -> list[Handle[R]]:
        """Start many calls in one go, all or none: tens of thousands are fine.

        Example:
            ```python
            await app.start_many(Stock(sku).add.bind(n) for sku, n in delivery)
            ```

        Raises:
            Unavailable: The database cannot be written; nothing was started.
        """
        return await start_many(self.runtime, calls)

    @contextmanager
    def override(
        self, function: Callable[..., Any], fake: Callable[..., Any]
    ) -> Generator[None, None, None]:
        """For tests: meanwhile `fake` runs wherever the body of a step or task `function` would.

        It gets the same arguments, without the connection of a `tx_step`, and without resources. To replace
        a resource, override what opens it.

        Example:
            ```python
            with app.override(charge, lambda card, cents: "payment-1"):
                assert fenbu.testing.run(app, scenario) == "shipped"
            ```
        """
        overrides = self.registry.overrides
        real = getattr(function, "__wrapped__", function)
        before = overrides.get(real)
        overrides[real] = fake
        try:
            yield
        finally:
            if before is None:
                del overrides[real]
            else:
                overrides[real] = before

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the rows of each batch that this process's node has made durable."""
        self._listeners.append(listener)

    # Opening and closing.

    async def __aenter__(self) -> Self:
        self._check_closed()
        storage = storage_of(self.url)
        node = Node(self.runtime.registry, storage, clock=SystemClock(), options=self.node_options)
        meta = await storage.open()
        self.runtime.registry.partition_count = meta.partition_count
        try:
            await node.start()
        except BaseException:
            await storage.close()
            raise
        for listener in self._listeners:
            node.telemetry.listen(listener)
        self.node = node
        self.runtime.opened(node)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After an error nobody wants to wait for bodies: they run again at the next start.
        await self.close(limit.DRAIN_SECONDS if error is None else 0.0)

    async def close(self, drain_seconds: float = limit.DRAIN_SECONDS) -> None:
        """Stop the node of this process: let bodies finish, at most for so long, and keep the rest."""
        node, self.node = self.node, None
        if node is not None:
            try:
                await node.stop(drain_seconds)
            finally:
                self.runtime.closed()

    def client(self) -> Client:
        """Open the database without running calls: `async with app.client():` or `with app.client():`."""
        return Client(self)

    async def open_client(self) -> RemoteGateway:
        """Used by `Client`."""
        self._check_closed()
        storage = storage_of(self.url)
        meta = await storage.open()
        self.runtime.registry.partition_count = meta.partition_count
        gateway = RemoteGateway(self.runtime.registry, SystemClock(), storage)
        self.runtime.opened(gateway)
        return gateway

    async def close_client(self, gateway: RemoteGateway) -> None:
        """Used by `Client`."""
        self.runtime.closed()
        await gateway.close()
        await gateway.storage.close()

    def _check_closed(self) -> None:
        if self.runtime.is_open:
            raise UsageError(f"app {self.name!r} is already open in this process")

    def __enter__(self) -> Self:
        self._check_closed()
        portal = Portal()
        try:
            portal.run(self.__aenter__())
        except BaseException:
            portal.close()
            raise
        self._portal = portal
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        portal, self._portal = self._portal, None
        if portal is not None:
            try:
                portal.run(self.__aexit__(kind, error, traceback))
            finally:
                portal.close()

    def run(
        self,
        *,
        drain_seconds: float = limit.DRAIN_SECONDS,
        ready: Callable[[], None] | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> None:
        """Run a node until SIGTERM or SIGINT, then drain and stop. Uses uvloop where it is installed.

        Args:
            drain_seconds: How long running bodies may take to end.
            ready: Called when the node runs.
            stopping: Called when it was asked to stop.

        Raises:
            StorageError: The database cannot be used, or another node owns it; the message says why.
        """
        try:
            import uvloop  # noqa: PLC0415 - an extra, and only wanted here
        except ImportError:
            factory = None
        else:
            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self.serve(drain_seconds=drain_seconds, ready=ready, stopping=stopping))

    async def serve(
        self,
        *,
        drain_seconds: float = limit.DRAIN_SECONDS,
        ready: Callable[[], None] | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> None:
        """Like `run`, on the event loop that is running."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        async with self:
            node = self.node
            if node is None or node.stopped is None:
                raise InternalError("an open app has no node")
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, asked.set)
            if ready is not None:
                ready()
            waiter = asyncio.create_task(asked.wait())
            ended: asyncio.Future[None] = node.stopped
            try:
                await asyncio.wait((waiter, ended), return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    ended.result()
                if stopping is not None:
                    stopping()
                await self.close(drain_seconds)
            finally:
                waiter.cancel()
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.remove_signal_handler(number)


class Client:
    """The database without a node, for web processes, scripts and tools; see `App.client`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._gateway: RemoteGateway | None = None
        self._portal: Portal | None = None

    async def __aenter__(self) -> App:
        self._gateway = await self._app.open_client()
        return self._app

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            await self._app.close_client(gateway)

    def __enter__(self) -> App:
        portal = Portal()
        try:
            app = portal.run(self.__aenter__())
        except BaseException:
            portal.close()
            raise
        self._portal = portal
        return app

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        portal, self._portal = self._portal, None
        if portal is not None:
            portal.run(self.__aexit__(kind, error, traceback))
            portal.close()
