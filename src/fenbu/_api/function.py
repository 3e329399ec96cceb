"""Calling durable functions: tasks, workflows and, on an entity's key, operations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

from fenbu._api.anew import continue_as_new
from fenbu._api.ask import Wanted, checked_update_id
from fenbu._api.bound import Bound, start_many
from fenbu._api.context import activation
from fenbu._api.handle import Handle, SyncHandle
from fenbu._api.mapping import Maps, SyncMaps
from fenbu._api.options import (
    DEFAULT,
    CallOptions,
    IfExistsPolicy,
    changed_options,
    check_inside,
    check_outside,
    ticketed,
)
from fenbu._api.outcome import value_of
from fenbu._api.runtime import Runtime
from fenbu._api.together import WithSignal, WithUpdate, check_together
from fenbu._api.transaction import start_calls, start_in
from fenbu._core import fork, ids
from fenbu._core.activation import Activation
from fenbu._core.attribute import AttributeValue
from fenbu._core.command import ABANDON, CancelCall, ParentEnd, StartCall
from fenbu._core.handler import HandlerSpec
from fenbu._core.location import caller
from fenbu._core.message import REUSE, Call, Signal, Update
from fenbu._core.middleware import around_calls, context_of_child
from fenbu._core.model import Entry, Invocation, Outcome, Payload
from fenbu._node.attempt import current
from fenbu.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class DurableFunction(Maps, Generic[P, R]):
    """A task, a workflow or an operation of one entity. Call it like the function that it was made from.

    `await f(x)` makes the call and waits for its result; `await f.start(x)` returns a `Handle` once the
    call is durable. In workflow and entity code both are durable commands of that code.

    Example:
        ```python
        receipt = await checkout(order)
        handle = await checkout.options(id=f"order-{order.id}").start(order)
        ```
    """

    __fenbu__ = True

    __wrapped__: Callable[P, Any]
    """The function itself, for tests of it alone: a call of it is an ordinary call."""

    def __init__(
        self,
        runtime: Runtime,
        spec: HandlerSpec,
        key: str | None = None,
        options: CallOptions = DEFAULT,
    ) -> None:
        self._runtime = runtime
        self._spec = spec
        self._key = key
        self._options = options
        update_wrapper(self, spec.function)

    def __repr__(self) -> str:
        of = "" if self._key is None else f" of {self._key!r}"
        return f"<{self._spec.kind} {self._spec.name}{of}>"

    @property
    def name(self) -> str:
        """The handler's name, as the database and the command line know it."""
        return self._spec.name

    def options(
        self,
        *,
        id: str | None = None,  # noqa: A002
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        transaction: object = None,
        on_parent_end: Literal["abandon", "cancel", "wait"] | None = None,
        if_exists: IfExistsPolicy | None = None,
        attributes: Mapping[str, AttributeValue | None] | None = None,
    ) -> DurableFunction[P, R]:
        """The same function, called differently.

        Args:
            id: The call's id. Starting an id again means the call that exists: it is made once.
            delay: Seconds until the call begins.
            timeout: Seconds from acceptance within which the whole call must end, else it is cancelled
                and ends with `CallTimedOut`.
            transaction: A connection of your own to the same PostgreSQL database: `start` then accepts the
                call if and only if that connection's transaction commits. An asyncpg or psycopg 3 connection,
                a SQLAlchemy session or connection, each sync or async, or Django's `connection`. The app need
                not be open; if it is, nodes hear of the commit at once where the driver tells, else within
                1.5 seconds.
            on_parent_end: In workflow and entity code, what becomes of the call when the one that started it
                ends or continues as new: it goes on (`abandon`, the default), is asked to stop (`cancel`), or
                the parent's outcome waits for it (`wait`; a parent that is cancelled cancels it then).
                Elsewhere there is no parent, and only `abandon` is taken.
            if_exists: What the call means if there is one with its id: that one (`reuse`, the default);
                nothing, and `AlreadyExists` is raised (`reject`); a new call in its place, which ends it at
                once if it is still open (`replace`); or a new one only if that one has ended
                (`after_end`), or has ended without a result (`after_failure`).
            attributes: Search attributes, by which `App.list_calls` finds the call; None is none. Not
                encrypted.

        Example:
            ```python
            async with connection.transaction():
                await connection.execute("INSERT INTO orders …")
                await ship.options(transaction=connection).start(order)
            ```

        Raises:
            UsageError: A value makes no sense.
        """
        options = changed_options(
            self._options, id_=id, delay=delay, timeout=timeout, transaction=transaction,
            on_parent_end=on_parent_end, if_exists=if_exists, attributes=attributes,
        )  # fmt: skip
        return DurableFunction(self._runtime, self._spec, self._key, options)

    def and_signal(self, name: str, value: object = None) -> WithSignal[P, R]:
        """The same workflow, with a signal to it: see `WithSignal.start`.

        Example:
            ```python
            await cart.options(id="cart-ann").and_signal("paid", 5).start("ann")
            ```

        Raises:
            UsageError: This is no workflow.
            EncodingError: The value cannot be encoded.
        """
        check_together("and_signal", self._spec, self._options)
        payload = self._runtime.registry.codec.of(Any).encode(value)
        return WithSignal(self._runtime, self, name, payload, value)

    @overload
    def and_update(
        self, name: str, /, *args: Any, id: str | None = None, result: type[T], **kwargs: Any
    ) -> WithUpdate[P, T]: ...
    @overload
    def and_update(
        self, name: str, /, *args: Any, id: str | None = None, result: Any = Any, **kwargs: Any
    ) -> WithUpdate[P, Any]: ...
    def and_update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        result: Any = Any,
        **kwargs: Any,
    ) -> WithUpdate[P, Any]:
        """The same workflow, together with an update of it: see `Handle.update`.

        Example:
            ```python
            count = await cart.options(id="cart-ann").and_update("add", "sku-1", result=int)("ann")
            ```

        Raises:
            UsageError: This is no workflow, or it is to be started in a transaction.
        """
        check_together("and_update", self._spec, self._options)
        wanted = Wanted("", -1, name, args, kwargs, checked_update_id(id), result)
        return WithUpdate(self._runtime, self, wanted)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Make the call and wait for its result.

        Raises:
            UsageError: The arguments do not fit, or the app is not running here.
            CallCancelled: It was cancelled.
            CallTimedOut: It did not end within its timeout.
            Exception: The error it ended with; `CallFailed` if its type is not known here.
        """
        payload = self._spec.signature.check(args, kwargs)
        running = activation()
        if running is not None:
            return self._call_inside(running, self._command(running, payload, caller(), wait=True))
        if self._options.transaction is not None:
            raise UsageError(
                f"{self._spec.name} runs when the transaction has committed, so its result cannot be waited "
                "for within it: `handle = await f.options(transaction=…).start(…)`, and after the commit "
                "`await handle.result()`"
            )
        return self._call_outside(payload)

    def make(self, payload: Payload, location: str) -> Coroutine[Any, Any, R]:
        """Used by `map`."""
        running = activation()
        if running is not None:
            return self._call_inside(running, self._command(running, payload, location, wait=True))
        return self._call_outside(payload)

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Handle[R]]:
        """Make the call durable and return its handle, without waiting for its result.

        Raises:
            UsageError: The arguments do not fit, or the app is not running here.
            Unavailable: The database cannot be written; the call was not accepted.
        """
        payload = self._spec.signature.check(args, kwargs)
        running = activation()
        if running is not None:
            return self._start_inside(
                running, self._command(running, payload, caller(), wait=False)
            )
        return self._start_outside(payload)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call as a value, for `App.start_many` and `App.map`.

        Raises:
            UsageError: The arguments do not fit.
        """
        return Bound(self, self._spec.signature.check(args, kwargs))

    def bind_tuple(self, arguments: tuple[Any, ...]) -> Bound[R]:
        """Used by `start_many`."""
        return Bound(self, self._spec.signature.check(arguments, {}))

    async def start_many(self, arguments: Iterable[tuple[Any, ...]]) -> list[Handle[R]]:
        """Start one call for each tuple of arguments, all or none, in one go.

        Example:
            ```python
            await resize.start_many((path, 640) for path in paths)
            ```

        Raises:
            UsageError: The arguments do not fit; nothing was started.
            Unavailable: The database cannot be written; nothing was started.
        """
        return await start_many(self._runtime, [self.bind_tuple(each) for each in arguments])

    def continue_as_new(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        """In this workflow's own code: begin anew with these arguments, as the same call with no history.

        For workflows that live long. The journal is gone, and so are running steps; signals that were not
        read go with it, and whoever waits for the call goes on waiting. It leaves the code as an error does,
        with `finally` blocks. A call that has been asked to stop is cancelled instead.

        It belongs into the workflow's body, or into what that awaits: a function, or a task of a `TaskGroup`
        or `gather`. A workflow that comes to an end all the same, because nobody awaited the task, fails.

        Raises:
            UsageError: This is not the code of that workflow, or it is an update, query or condition of it;
                or the arguments do not fit.

        Example:
            ```python
            @app.workflow
            async def poll(cursor: int) -> None:
                for _ in range(1000):
                    cursor = await step(read_page, cursor)
                poll.continue_as_new(cursor)
            ```
        """
        continue_as_new(self._spec, args, kwargs)

    def handle(self, id: str) -> Handle[R]:  # noqa: A002
        """The handle of an existing call of this function."""
        return self._handle(id, self._partition(id))

    @property
    def sync(self) -> SyncFunction[P, R]:
        """The same function for code that does not use `await`: `f.sync(x)`, `f.sync.start(x)`."""
        return SyncFunction(self._runtime, self)

    # Outside workflow and entity code.

    def message(self, payload: Payload, *, waited: bool = False) -> Call:
        """The message that makes this call."""
        clock, options, spec = self._runtime.clock, self._options, self._spec
        if options.parent_end is not ABANDON:
            check_outside(options, spec.name)
        now = clock.now()
        id_ = options.id or ids.invocation_id(now, clock.entropy())
        timeout_seconds = options.timeout_seconds
        if timeout_seconds is None:
            timeout_seconds = spec.timeout_seconds
        body = current.get()
        invocation = Invocation(
            id=id_,
            partition=self._partition(id_),
            handler=spec.name,
            version=spec.version,
            entity=None if spec.entity is None else spec.entity.name,
            key=self._key,
            args=payload,
            created_at=now,
            chain=() if body is None or not waited else body.chain,
            deadline_at=None if timeout_seconds is None else now + timeout_seconds,
            wake_at=now + options.delay_seconds if options.delay_seconds > 0 else None,
            attributes=options.attributes,
            context=None if body is None else body.context,
        )
        if options.if_exists is REUSE:
            return Call(invocation, fresh=options.id is None, waited=waited)
        ticket = ids.invocation_id(now, clock.entropy())
        return ticketed(Call(invocation, waited=waited), options, ticket)

    def payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Its arguments, checked."""
        return self._spec.signature.check(args, kwargs)

    async def make_durable(self, messages: Sequence[Call | Signal | Update]) -> None:
        """All or none, in order; or let the user's transaction do it."""
        await start_calls(self._runtime, messages, self.transaction)

    def make_durable_sync(self, messages: Sequence[Call | Signal | Update]) -> bool:
        """The same in a user's sync transaction, and in its thread; false if there is none."""
        if self.transaction is None:
            return False
        start_in(self._runtime, messages, self.transaction, sync=True)
        return True

    def _partition(self, id_: str) -> int:
        entity = None if self._spec.entity is None else self._spec.entity.name
        return ids.home_of(id_, entity, self._key, self._runtime.registry.partition_count)

    def handle_of(self, call: Call) -> Handle[R]:
        """The handle of the call that a message makes."""
        return self._handle(call.invocation.id, call.invocation.partition)

    def _handle(self, id_: str, partition: int) -> Handle[R]:
        return Handle(self._runtime, id_, partition, self._spec.signature.result)

    async def _call_outside(self, payload: Payload) -> R:
        call = self.message(payload, waited=True)
        middleware = self._runtime.registry.middleware
        if middleware:
            with around_calls(middleware, [call]):
                return self._value(await self._runtime.gateway.call(call), call.invocation.id)
        outcome = await self._runtime.gateway.call(call)
        return self._value(outcome, call.invocation.id)

    async def _start_outside(self, payload: Payload) -> Handle[R]:
        call = self.message(payload)
        await start_calls(self._runtime, [call], self.transaction)
        return self.handle_of(call)

    @property
    def chosen(self) -> CallOptions:
        """How calls are to be made."""
        return self._options

    @property
    def transaction(self) -> Any:
        """The user's own connection in which calls are to be started."""
        return self._options.transaction

    def _value(self, outcome: Outcome | Entry, id_: str) -> R:
        result = self._spec.signature.result
        value: R = value_of(outcome, result, f"{self._spec.name} {id_}")
        return value

    # In workflow and entity code.

    def _command(
        self, running: Activation, payload: Payload, location: str, *, wait: bool
    ) -> StartCall:
        spec, options = self._spec, self._options
        check_inside(options, spec.name, wait=wait)
        entity = None if spec.entity is None else spec.entity.name
        middleware, context = self._runtime.registry.middleware, None
        if middleware and not running.is_replaying:
            context = context_of_child(middleware, running.invocation, spec.name, self._key)
        return StartCall(
            spec.name, spec.version, location, entity, self._key, payload, options.id, options.delay_seconds,
            options.timeout_seconds, wait or options.parent_end is ParentEnd.WAIT, options.parent_end,
            options.if_exists, context, options.attributes,
        )  # fmt: skip

    def _child(self, running: Activation, number: int) -> tuple[str, int]:
        id_ = self._options.id or fork.child_id(running, number)
        return id_, self._partition(id_)

    async def _call_inside(self, running: Activation, command: StartCall) -> R:
        number, future = running.ask(command)
        if command.parent_end is not ABANDON:
            running.bound[number] = command
        id_, partition = self._child(running, number)
        try:
            outcome = await future
        except asyncio.CancelledError:
            if running.abandon(number):
                running.issue(CancelCall(id_, command.location, partition, "caller cancelled"))
            raise
        return self._value(outcome, id_)

    async def _start_inside(self, running: Activation, command: StartCall) -> Handle[R]:
        return self._started(running, command)

    def start_inside(self, running: Activation, payload: Payload, location: str) -> Handle[R]:
        """Start a call from workflow or entity code."""
        return self._started(running, self._command(running, payload, location, wait=False))

    def _started(self, running: Activation, command: StartCall) -> Handle[R]:
        number = running.ask(command)[0] if command.wait else running.issue(command)
        if command.parent_end is not ABANDON:
            running.bound[number] = command
        return self._handle(*self._child(running, number))


class SyncFunction(SyncMaps, Generic[P, R]):
    """`DurableFunction` without `await`."""

    def __init__(self, runtime: Runtime, function: DurableFunction[P, R]) -> None:
        self._runtime = runtime
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make the call and wait for its result; see `DurableFunction.__call__`."""
        return self._runtime.run(lambda: self._function(*args, **kwargs))

    def start(self, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[R]:
        """See `DurableFunction.start`."""
        function = self._function
        if function.transaction is None:
            handle = self._runtime.run(lambda: function.start(*args, **kwargs))
        else:
            (handle,) = self._start_in([function.bind(*args, **kwargs)])
        return SyncHandle(self._runtime, handle)

    def start_many(self, arguments: Iterable[tuple[Any, ...]]) -> list[SyncHandle[R]]:
        """See `DurableFunction.start_many`."""
        function = self._function
        if function.transaction is None:
            handles = self._runtime.run(lambda: function.start_many(arguments))
        else:
            handles = self._start_in([function.bind_tuple(each) for each in arguments])
        return [SyncHandle(self._runtime, each) for each in handles]

    def _start_in(self, calls: list[Bound[R]]) -> list[Handle[R]]:
        """In the user's own transaction, and so in the user's thread."""
        function = self._function
        messages = [function.message(each.args) for each in calls]
        if messages:
            with around_calls(self._runtime.registry.middleware, messages):
                start_in(self._runtime, messages, function.transaction, sync=True)
        return [function.handle_of(each) for each in messages]

    def handle(self, id: str) -> SyncHandle[R]:  # noqa: A002
        """See `DurableFunction.handle`."""
        return SyncHandle(self._runtime, self._function.handle(id))
