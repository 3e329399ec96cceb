"""A call and what is sent to it in one go: it is started if it does not exist, and told either way."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from msgspec.structs import replace

from fenbu._api import ask
from fenbu._api.ask import SyncUpdateHandle, UpdateHandle, Wanted
from fenbu._api.context import activation
from fenbu._api.handle import Handle, SyncHandle
from fenbu._api.options import CallOptions
from fenbu._api.runtime import Runtime
from fenbu._core.activation import Activation
from fenbu._core.conflict import begins_anew
from fenbu._core.handler import HandlerSpec
from fenbu._core.location import caller
from fenbu._core.message import Call, IfExists, Signal, Update
from fenbu._core.model import Kind, Payload
from fenbu._core.trial import refusal
from fenbu.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class Startable(Protocol[S]):
    """What is asked of a `DurableFunction`."""

    def payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Its arguments, checked."""
        ...

    def message(self, payload: Payload) -> Call:
        """The message that makes the call."""
        ...

    def handle_of(self, call: Call) -> Handle[S]:
        """The handle of that call."""
        ...

    def start_inside(self, running: Activation, payload: Payload, location: str) -> Handle[S]:
        """Start the call from workflow or entity code."""
        ...

    async def make_durable(self, messages: Sequence[Call | Signal | Update]) -> None:
        """All or none, in order; or let the user's transaction do it."""
        ...

    def make_durable_sync(self, messages: Sequence[Call | Signal | Update]) -> bool:
        """The same in a user's sync transaction, and in its thread; false if there is none."""
        ...


class WithSignal(Generic[P, R]):
    """A workflow with a signal to it; made by `DurableFunction.and_signal`."""

    def __init__(
        self, runtime: Runtime, function: Startable[R], name: str, value: Payload, plain: object
    ) -> None:
        self._runtime = runtime
        self._function = function
        self._name = name
        self._value = value
        self._plain = plain

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Handle[R]]:
        """Start the call with these arguments, or find the one that exists; either way it is signalled.

        Both are accepted together or not at all, and a call that is started so sees this signal first.

        Raises:
            UsageError: The arguments do not fit, or the app is not running here.
            Unavailable: The database cannot be written; nothing was accepted.
        """
        payload, location = self._function.payload(args, kwargs), caller()
        return self._start(payload, location)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, and wait for the result of the call."""
        handle = await self.start(*args, **kwargs)
        return await handle.result()

    async def _start(self, payload: Payload, location: str) -> Handle[R]:
        running = activation()
        if running is not None:
            handle = self._function.start_inside(running, payload, location)
            await handle.signal(self._name, self._plain)
            return handle
        call, signal = self._messages(payload)
        await self._function.make_durable([call, signal])
        return self._function.handle_of(call)

    def _messages(self, payload: Payload) -> tuple[Call, Signal]:
        call = self._function.message(payload)
        return call, Signal(call.partition, call.invocation.id, self._name, self._value)

    @property
    def sync(self) -> SyncWithSignal[P, R]:
        """The same for code that does not use `await`."""
        return SyncWithSignal(self._runtime, self)

    def start_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Used by `sync`."""
        call, signal = self._messages(self._function.payload(args, kwargs))
        if self._function.make_durable_sync([call, signal]):
            return self._function.handle_of(call)
        return self._runtime.run(lambda: self.start(*args, **kwargs))


class SyncWithSignal(Generic[P, R]):
    """`WithSignal` without `await`."""

    def __init__(self, runtime: Runtime, function: WithSignal[P, R]) -> None:
        self._runtime = runtime
        self._function = function

    def start(self, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[R]:
        """See `WithSignal.start`."""
        return SyncHandle(self._runtime, self._function.start_sync(*args, **kwargs))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """See `WithSignal.__call__`."""
        return self._runtime.run(lambda: self._function(*args, **kwargs))


class WithUpdate(Generic[P, T]):
    """A workflow with an update of it; made by `DurableFunction.and_update`."""

    def __init__(self, runtime: Runtime, function: Startable[Any], wanted: Wanted) -> None:
        self._runtime = runtime
        self._function = function
        self._wanted = wanted
        """Without the id and the place of its workflow."""

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, UpdateHandle[T]]:
        """Start the call with these arguments, or find the one that exists; either way the update is its.

        Both are accepted together or not at all. What an accepted update comes to is another matter: when the
        validator or the handler refuses it, the workflow has been started all the same.

        Before a workflow is started, its code is run to its first wait here and thrown away, to see whether
        it has a handler for the update. In workflow and entity code it is not: there such an update fails as
        one that is refused.

        Raises:
            UsageError: The arguments do not fit; the workflow has no such update, or the update's arguments
                do not fit; or the app is not running here. Nothing was accepted.
            Unavailable: The database cannot be written; nothing was accepted.
        """
        payload, location = self._function.payload(args, kwargs), caller()
        return self._start(payload, location)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, and wait for the result of the update.

        Raises:
            CallEnded: The workflow ended first.
            Exception: The validator's or the handler's error; `CallFailed` if its type is not known here.
        """
        handle = await self.start(*args, **kwargs)
        return await handle.result()

    async def _start(self, payload: Payload, location: str) -> UpdateHandle[T]:
        running, function, wanted = activation(), self._function, self._wanted
        if running is not None:
            handle = function.start_inside(running, payload, location)
            return await handle.start_update(
                wanted.name, *wanted.args, id=wanted.id, result=wanted.result, **wanted.kwargs
            )
        call = function.message(payload)
        wanted = replace(wanted, workflow=call.invocation.id, partition=call.partition)
        message = ask.message_of(self._runtime, wanted)
        await self._check(call, message)
        await function.make_durable([call, message])
        return ask.handle_of(self._runtime, message, wanted.result)

    async def _check(self, call: Call, message: Update) -> None:
        """Whether the workflow would take the update, if it is started by this.

        Raises:
            UsageError: It would not, as far as its code here can say.
        """
        registry, made = self._runtime.registry, call.invocation
        spec = registry.get(made.handler, made.version)
        error = None if spec is None else refusal(registry, spec, made, message.invocation)
        if error is None:
            return
        # One that exists may have been started by other code, or have this update already.
        found = None if call.fresh else await self._runtime.gateway.load(made.id)
        if found is None or begins_anew(call, found.invocation):
            raise error

    @property
    def sync(self) -> SyncWithUpdate[P, T]:
        """The same for code that does not use `await`."""
        return SyncWithUpdate(self._runtime, self)


class SyncWithUpdate(Generic[P, T]):
    """`WithUpdate` without `await`."""

    def __init__(self, runtime: Runtime, function: WithUpdate[P, T]) -> None:
        self._runtime = runtime
        self._function = function

    def start(self, *args: P.args, **kwargs: P.kwargs) -> SyncUpdateHandle[T]:
        """See `WithUpdate.start`."""
        handle = self._runtime.run(lambda: self._function.start(*args, **kwargs))
        return SyncUpdateHandle(self._runtime, handle)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `WithUpdate.__call__`."""
        return self._runtime.run(lambda: self._function(*args, **kwargs))


def check_together(what: str, spec: HandlerSpec, options: CallOptions) -> None:
    """Whether something can be sent together with a call.

    Raises:
        UsageError: The call is no workflow, or its options do not go with that.
    """
    if spec.kind is not Kind.WORKFLOW:
        raise UsageError(f"{what}() is for workflows, and {spec.name} is none")
    if options.if_exists is IfExists.REJECT:
        raise UsageError(
            f"{what}() is for the call that exists, too: it does not go with if_exists='reject'"
        )
    if what == "and_update" and options.transaction is not None:
        raise UsageError(
            "and_update() waits for an answer, which comes when the transaction has committed: start the "
            "call in it, and ask for the update after that"
        )
