"""Registering handlers: what the decorators `@app.task`, `@app.workflow` and `@app.entity` do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from fenbu._api import batch
from fenbu._api.batch import PATIENT, BatchProgress
from fenbu._api.entity import check_class, checked_ttl, forget_spec, operations_of
from fenbu._api.function import DurableFunction
from fenbu._api.mapping import CONCURRENCY, Binding
from fenbu._api.options import make_spec
from fenbu._api.runtime import Runtime
from fenbu._api.topic import Topic
from fenbu._api.topic_log import Logs
from fenbu._core import limit
from fenbu._core.handler import EntitySpec, HandlerSpec, Registry
from fenbu._core.middleware import Middleware
from fenbu._core.model import Kind
from fenbu._core.need import NOT_IN_A_PROCESS, NOT_IN_CODE, check_needs_nothing
from fenbu._core.retry import NO_RETRY, Retry
from fenbu._core.signature import Signature
from fenbu.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
M = TypeVar("M", bound="type[Middleware] | Middleware")
Seconds = float | timedelta


class Handlers:
    """The part of an `App` that has its handlers."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._logs = Logs(self)
        self.topics: dict[str, Topic[Any]] = {}
        """Those that were registered, by name."""
        self.batches: dict[str, DurableFunction[..., BatchProgress]] = {}
        """The same."""

    @property
    def registry(self) -> Registry:
        """The handlers that were registered."""
        return self.runtime.registry

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
        soft_timeout: Seconds | None = None,
        heartbeat_timeout: Seconds | None = None,
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
            attempt_timeout: Seconds for one attempt, then it is cancelled and counts as failed with
                `CallTimedOut`. A plain function's thread goes on, but nobody hears of it; the process of one
                with `cpu=True` is killed.
            soft_timeout: Seconds after which an attempt is told: an `async def` by `SoftTimeout`, raised
                where it waits, one with `cpu=True` by the same, wherever it is, and any other plain function
                by `current_attempt().time_is_up`.
            heartbeat_timeout: Seconds for which an attempt may be without `fenbu.heartbeat`, else it is
                cancelled and counts as failed.
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
        ttl: Seconds | None = None,
    ) -> Callable[[type[T]], type[T]]: ...
    def entity(self, cls: Any = None, **options: Any) -> Any:
        """Register a class as an entity: see `Entity`.

        Args:
            name: The entity's name in the database; default: the class's.
            timeout: Seconds for each operation.
            retention: Seconds that finished operations are kept; default: 7 days.
            ttl: An entity is forgotten, as by `delete()`, when its state has not changed for so many seconds:
                not earlier, and as a rule at most 10 seconds later. Calls that change nothing do not count;
                while operations on it are open, also alarms and those sent for later, it stays. Another
                `ttl` holds for each entity from its next change on, a longer one at once. Default: never.

        Raises:
            UsageError: The name is taken, or the class is not one that can be an entity: it is not derived
                from `Entity`, a field has no default or one that does not fit, `__version__` is no number
                from 1, or `__upgrade__` no class method. If an annotation names what is defined later,
                opening the app raises it.

        Example:
            ```python
            @app.entity(ttl=timedelta(days=30))
            class Session(Entity):
                user: str = ""
            ```
        """

        def register(cls: type[Any]) -> type[Any]:
            check_class(cls)
            name = options.pop("name", None) or cls.__name__
            entity = EntitySpec(name, cls, self.runtime.registry.codec)
            entity.prepare(is_final=False)
            entity.ttl_seconds = checked_ttl(options.pop("ttl", None), name)
            operations = operations_of(self.runtime, cls, name, **options)
            entity.reentrant = any(spec.reentrant for spec in operations.values())
            specs = list(operations.values())
            if entity.ttl_seconds is not None:
                entity.forget = forget_spec(self.runtime, name)
                specs.append(entity.forget)
            for spec in specs:
                spec.entity = entity
                self.runtime.registry.add(spec)
            type.__setattr__(cls, "_fenbu_runtime", self.runtime)
            type.__setattr__(cls, "_fenbu_operations", operations)
            type.__setattr__(cls, "_fenbu_entity", entity)
            return cls

        return register if cls is None else register(cls)

    @overload
    def topic(
        self,
        name: str,
        type: type[T],
        *,
        key: Callable[[T], str] | None = None,
        shards: int = 1,
        retention: Seconds = limit.RETENTION_SECONDS,
    ) -> Topic[T]: ...
    @overload
    def topic(
        self,
        name: str,
        type: Any = Any,
        *,
        key: Callable[[Any], str] | None = None,
        shards: int = 1,
        retention: Seconds = limit.RETENTION_SECONDS,
    ) -> Topic[Any]: ...
    def topic(self, name: str, type: Any = Any, **options: Any) -> Topic[Any]:  # noqa: A002
        """Register a topic: a durable log of events. Publish to it, subscribe handlers to it, read it.

        Args:
            name: The topic's name in the database.
            type: What its events are.
            key: Tells the key of an event: events with the same key stay in order.
            shards: Into so many logs the topic is divided, by the key. Each is written by one node at a time,
                and each group reads it with one workflow; more of them spread over more nodes. It cannot be
                changed once there are events.
            retention: Seconds that an event is kept, also if a group has not got it; default: 7 days.

        Raises:
            UsageError: The name is taken, or an option makes no sense.

        Example:
            ```python
            orders = app.topic("orders", OrderPlaced, key=lambda order: order.customer)
            ```
        """
        topic: Topic[Any] = Topic(self, self._logs, name, type, **options)
        self.topics[name] = topic
        return topic

    @overload
    def batch(
        self,
        name: str,
        *,
        source: Callable[P, Coroutine[Any, Any, tuple[Sequence[T], Any]]],
        each: Binding[T, Any],
        concurrency: int = CONCURRENCY,
        retry: Retry = PATIENT,
        timeout: Seconds | None = None,
        retention: Seconds | None = None,
    ) -> DurableFunction[P, BatchProgress]: ...
    @overload
    def batch(
        self,
        name: str,
        *,
        source: Callable[P, tuple[Sequence[T], Any]],
        each: Binding[T, Any],
        concurrency: int = CONCURRENCY,
        retry: Retry = PATIENT,
        timeout: Seconds | None = None,
        retention: Seconds | None = None,
    ) -> DurableFunction[P, BatchProgress]: ...
    def batch(
        self,
        name: str,
        *,
        source: Any,
        each: Any,
        concurrency: int = CONCURRENCY,
        retry: Retry = PATIENT,
        **options: Any,
    ) -> Any:
        """Register a batch: a call for each of any number of inputs, so many at a time, whatever crashes.

        Starting it, with the first cursor and whatever else the source takes, begins one. The call of each
        input is started exactly once. Its id is that of the batch, `:` and a number from 0 on, and it has the
        search attribute `batch`. Cancelling a batch cancels the calls that are open; while it is paused it
        starts none. `handle.query("progress", result=BatchProgress)` says how far it is.

        Args:
            name: The handler's name in the database.
            source: Runs as a step and returns a list of inputs, some hundreds or thousands, and the next
                cursor: None behind the last. It gets the cursor first. The same cursor should mean the
                same inputs, as it is asked again after a crash.
            each: The task or workflow that is called with each of them.
            concurrency: So many calls at most are open.
            retry: What to do when the source raises; by default it is asked again without end.
            timeout: Seconds for the whole batch.
            retention: Seconds that a batch is kept when it has ended; default: 7 days.

        Raises:
            UsageError: The name is taken, or an argument makes no sense.

        Example:
            ```python
            async def pages(cursor: str | None, bucket: str) -> tuple[list[str], str | None]:
                page = await s3.list(bucket, after=cursor)
                return page.keys, page.next

            thumbnails = app.batch("thumbnails", source=pages, each=resize, concurrency=200)

            handle = await thumbnails.options(id="thumbnails-2026").start(None, "photos")
            ```
        """
        plan = batch.Plan(source, each, concurrency, retry)
        made = self.batches[name] = batch.register(self, name, plan, **options)
        return made

    def middleware(self, what: M) -> M:
        """Register middleware: a class, of which one object is made, or an object. See `Middleware`.

        Register it in every process that starts or runs calls of the app, before it is opened.

        Raises:
            UsageError: It is no `Middleware`.

        Example:
            ```python
            @app.middleware
            class Tracing(Middleware):
                @contextmanager
                def start(self, call: Starting) -> Generator[None]:
                    with tracer.start_as_current_span(f"start {call.name}"):
                        inject(call.context)
                        yield

                @contextmanager
                def run(self, what: Running) -> Generator[None]:
                    with tracer.start_as_current_span(what.name, extract(what.context)):
                        yield
            ```
        """
        made: Any = what() if isinstance(what, type) else what
        if not isinstance(made, Middleware):
            raise UsageError(f"@app.middleware takes a subclass of Middleware, not {what!r}")
        self.registry.middleware.append(made)
        return what

    def _register(self, kind: Kind, function: Any, options: dict[str, Any]) -> HandlerSpec:
        if not callable(function) or isinstance(function, DurableFunction | type):
            raise UsageError(f"@app.{kind} decorates a function, not {function!r}")
        name = options.pop("name", None) or function.__qualname__.replace("<locals>.", "")
        if kind is Kind.WORKFLOW:
            check_needs_nothing(function, NOT_IN_CODE)
        elif options.get("cpu"):
            check_needs_nothing(function, NOT_IN_A_PROCESS)
        signature = Signature(function, self.runtime.registry.codec, is_code=kind is Kind.WORKFLOW)
        spec = make_spec(name=name, kind=kind, function=function, signature=signature, **options)
        self.runtime.registry.add(spec)
        return spec


class TaskDecorator(Protocol):
    """What `app.task(…)` with options returns; it keeps the signature of what it decorates."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> DurableFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> DurableFunction[P, R]: ...
