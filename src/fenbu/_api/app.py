"""The App: registers handlers, and opens the database as a node or as a client."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, ParamSpec, Protocol, Self, TypeVar, overload

from fenbu._api.entity import Entity, operations_of
from fenbu._api.function import Bound, DurableFunction, start_many
from fenbu._api.handle import Handle
from fenbu._api.options import make_spec, seconds
from fenbu._api.runtime import Runtime
from fenbu._api.sync import Portal
from fenbu._core import limit
from fenbu._core.codec import Codec, CodecHook
from fenbu._core.handler import EntitySpec, HandlerSpec, Registry
from fenbu._core.model import Kind
from fenbu._core.retry import NO_RETRY, Retry
from fenbu._core.signature import Signature
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


class App:
    """The handlers of one service, and the database that makes their calls durable.

    Args:
        name: The app's name; without a URL it names the database file.
        url: `sqlite:///path`, `sqlite:////absolute/path` or `postgresql://user@host/database`. Default: the
            environment's `FENBU_URL`, else `.fenbu/<name>.db` below the current directory.
        codec: How payloads are stored: readable JSON, or MessagePack.
        hook: Transforms encoded payloads on their way to the database and back: compression, encryption.
        concurrency: Bodies of tasks and steps that run at a time on one node.
        threads: Threads for plain functions.
        processes: Processes for functions marked `cpu=True`; default: as many as processors.
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
        hook: CodecHook | None = None,
        concurrency: int = 1000,
        threads: int = 32,
        processes: int | None = None,
        idle_seconds: Seconds = limit.IDLE_SECONDS,
        patience_seconds: Seconds = limit.PATIENCE_SECONDS,
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"App name must be letters, digits, - and _, not {name!r}")
        self.name = name
        url = url or os.environ.get("FENBU_URL") or f"sqlite:///.fenbu/{name}.db"
        self.runtime = Runtime(name, url, Registry(Codec(format=codec, hook=hook)))
        self.node_options = NodeOptions(
            concurrency=concurrency,
            threads=threads,
            processes=processes or os.cpu_count() or 1,
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

    @property
    def registry(self) -> Registry:
        """The handlers that were registered."""
        return self.runtime.registry

    def __repr__(self) -> str:
        return f"<App {self.name!r} on {shown(self.url)}>"

    # Registering.

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> DurableFunction[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> DurableFunction[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        version: int = 1,
        retry: Retry = NO_RETRY,
        timeout: Seconds | None = None,
        attempt_timeout: Seconds | None = None,
        retention: Seconds | None = None,
        cpu: bool = False,
    ) -> TaskDecorator: ...
    def task(self, function: Any = None, **options: Any) -> Any:
        """Register a function as a task: its whole body is the unit that is retried.

        An `async def` runs on the node's event loop, a plain `def` in a thread. A body that runs at the
        moment of a crash runs again (at least once).

        Args:
            name: The handler's name in the database; default: the function's.
            version: A call runs with the version that it was started with; keep the older ones registered,
                under the same name, while such calls are in flight.
            retry: What to do when it raises; without it, the error is the call's outcome.
            timeout: Seconds for the whole call, all attempts included.
            attempt_timeout: Seconds for one attempt.
            retention: Seconds that a finished call is kept; default: 7 days.
            cpu: Run a plain function in another process.

        Raises:
            UsageError: The name is taken, or an option makes no sense.
        """

        def register(function: Any) -> DurableFunction[..., Any]:
            return DurableFunction(self.runtime, self._register(Kind.TASK, function, options))

        return register if function is None else register(function)

    @overload
    def workflow(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> DurableFunction[P, R]: ...
    @overload
    def workflow(
        self,
        *,
        name: str | None = None,
        version: int = 1,
        timeout: Seconds | None = None,
        retention: Seconds | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], DurableFunction[P, R]]: ...
    def workflow(self, function: Any = None, **options: Any) -> Any:
        """Register an `async def` as a workflow: it goes on after a crash where it was.

        Its code runs on a loop of its own and is replayed from its journal, so it must ask for the same in
        the same order each time: side effects go into steps, time and chance come from `fenbu.now()`,
        `fenbu.random()` and `fenbu.uuid4()`. All of asyncio that needs no I/O works and is durable.

        Args:
            name: The handler's name in the database; default: the function's.
            version: As for `task`. For a small change see also `fenbu.patched`.
            timeout: Seconds for the whole call.
            retention: Seconds that a finished call is kept; default: 7 days.

        Raises:
            UsageError: It is no `async def`, the name is taken, or an option makes no sense.
        """

        def register(function: Any) -> DurableFunction[..., Any]:
            if not inspect.iscoroutinefunction(function):
                raise UsageError(f"workflow {function!r} must be an `async def`")
            return DurableFunction(self.runtime, self._register(Kind.WORKFLOW, function, options))

        return register if function is None else register(function)

    @overload
    def entity(self, cls: type[T], /) -> type[T]: ...
    @overload
    def entity(
        self,
        *,
        name: str | None = None,
        timeout: Seconds | None = None,
        retention: Seconds | None = None,
    ) -> Callable[[type[T]], type[T]]: ...
    def entity(self, cls: Any = None, **options: Any) -> Any:
        """Register a class as an entity: see `Entity`.

        Args:
            name: The entity's name in the database; default: the class's.
            timeout: Seconds for each operation.
            retention: Seconds that finished operations are kept; default: 7 days.

        Raises:
            UsageError: The name is taken, or the class is not one that can be an entity.
        """

        def register(cls: type[Any]) -> type[Any]:
            if not issubclass(cls, Entity):
                body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
                cls = type(cls.__name__, (cls, Entity), body)
            if "__init__" in vars(cls):
                raise UsageError(
                    f"entity {cls.__name__} must not define __init__: its state is its annotated fields"
                )
            name = options.pop("name", None) or cls.__name__
            entity = EntitySpec(name, cls, self.runtime.registry.codec)
            operations = operations_of(self.runtime, cls, name, **options)
            for spec in operations.values():
                spec.entity = entity
                self.runtime.registry.add(spec)
            type.__setattr__(cls, "_fenbu_runtime", self.runtime)
            type.__setattr__(cls, "_fenbu_operations", operations)
            return cls

        return register if cls is None else register(cls)

    def _register(self, kind: Kind, function: Any, options: dict[str, Any]) -> HandlerSpec:
        if not callable(function) or isinstance(function, DurableFunction | type):
            raise UsageError(f"@app.{kind} decorates a function, not {function!r}")
        name = options.pop("name", None) or function.__qualname__.replace("<locals>.", "")
        signature = Signature(function, self.runtime.registry.codec)
        spec = make_spec(name=name, kind=kind, function=function, signature=signature, **options)
        self.runtime.registry.add(spec)
        return spec

    # Using.

    def handle(self, id: str) -> Handle[Any]:  # noqa: A002
        """The handle of any existing call, by its id."""
        return Handle(self.runtime, id, -1, self.runtime.registry.codec.of(Any))

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

        It gets the same arguments; in place of a `tx_step` function it gets them without the connection.

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


class TaskDecorator(Protocol):
    """What `app.task(…)` with options returns; it keeps the signature of what it decorates."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> DurableFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> DurableFunction[P, R]: ...


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
