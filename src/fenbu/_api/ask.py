"""Asking a running workflow: queries and updates, from clients and from other workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

from msgspec import Struct

from fenbu._api.context import activation
from fenbu._api.options import seconds
from fenbu._api.outcome import value_of
from fenbu._api.runtime import Runtime
from fenbu._core import fork, ids, limit, query, update
from fenbu._core.activation import Activation
from fenbu._core.answer import BY_POSITION
from fenbu._core.codec import Codec, TypeCodec
from fenbu._core.command import SendUpdate
from fenbu._core.location import caller
from fenbu._core.message import Update
from fenbu._core.middleware import around_calls, around_query, context_of_update
from fenbu._core.model import Entry, Outcome, Payload
from fenbu._node.attempt import current
from fenbu.errors import PayloadTooLarge, Unavailable, UsageError

T = TypeVar("T")

LOOK_SECONDS_MIN = 0.02
"""A query of a call that is about to begin looks again after so long, and each time after twice as long."""


class UpdateHandle(Generic[T]):
    """An update that has been accepted; made by `Handle.start_update`.

    Attributes:
        id: The update's id, of those of its workflow. Asking again with it is asking for the same update.
    """

    __slots__ = ("_asked", "_call_id", "_partition", "_result", "_runtime", "id")

    def __init__(
        self,
        runtime: Runtime,
        call_id: str,
        partition: int,
        result: TypeCodec,
        asked: asyncio.Future[Entry] | None = None,
    ) -> None:
        self.id = call_id.partition(ids.UPDATE)[2]
        self._runtime = runtime
        self._call_id = call_id
        self._partition = partition
        self._result = result
        self._asked = asked
        """In workflow code: what the workflow's own journal will have."""

    def __repr__(self) -> str:
        return f"UpdateHandle({self.id!r})"

    async def result(self, timeout: float | timedelta | None = None) -> T:  # noqa: ASYNC109
        """Wait for what the workflow answers.

        Args:
            timeout: Seconds to wait at most; the update itself goes on.

        Raises:
            TimeoutError: It was not answered within the timeout.
            CallEnded: The workflow ended first.
            CallNotFound: There is no such workflow.
            Exception: The validator's or the handler's error; `CallFailed` if its type is not known here.
        """
        async with asyncio.timeout(seconds(timeout, "timeout")):
            outcome = await self._outcome()
        value: T = value_of(outcome, self._result, f"update {self._call_id}")
        return value

    async def _outcome(self) -> Outcome | Entry:
        if self._asked is not None:
            # Whoever stops waiting does so alone.
            return await asyncio.shield(self._asked)
        if activation() is not None:
            raise UsageError("this update was asked for elsewhere: ask again, with its id")
        return await self._runtime.gateway.outcome(self._call_id, self._partition)

    @property
    def sync(self) -> SyncUpdateHandle[T]:
        """The same handle for code that does not use `await`."""
        return SyncUpdateHandle(self._runtime, self)


class SyncUpdateHandle(Generic[T]):
    """`UpdateHandle` without `await`."""

    __slots__ = ("_handle", "_runtime", "id")

    def __init__(self, runtime: Runtime, handle: UpdateHandle[T]) -> None:
        self._runtime = runtime
        self._handle = handle
        self.id = handle.id

    def __repr__(self) -> str:
        return f"SyncUpdateHandle({self.id!r})"

    def result(self, timeout: float | timedelta | None = None) -> T:
        """See `UpdateHandle.result`."""
        return self._runtime.run(lambda: self._handle.result(timeout))


def checked_update_id(id_: str | None) -> str | None:
    """An id that a caller chose for an update.

    Raises:
        UsageError: It is empty, too long, or has characters that it may not have.
    """
    if id_ is not None and not (ids.is_valid(id_) and len(id_) <= limit.UPDATE_ID_LENGTH_MAX):
        raise UsageError(
            f"the id of an update must be a text of 1 to {limit.UPDATE_ID_LENGTH_MAX} printable characters "
            f"without / and ~, not {id_!r}"
        )
    return id_


class Wanted(Struct, frozen=True):
    """A query or an update that is to be asked for."""

    workflow: str
    partition: int
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    id: str | None
    result: Any

    def payload(self, codec: Codec) -> Payload:
        """Its arguments, see `answer.arguments`.

        Raises:
            EncodingError: One of them cannot be encoded.
        """
        given: Any = list(self.args)
        if self.kwargs:
            given = {BY_POSITION: given, **self.kwargs} if given else self.kwargs
        try:
            return codec.of(Any).encode(given)
        except PayloadTooLarge as error:
            named = {**dict(enumerate(self.args, 1)), **self.kwargs}
            largest = max(named, key=lambda each: codec.size(named[each]))
            which = largest if isinstance(largest, str) else f"number {largest}"
            raise error.named(
                f"what {self.name!r} is asked with, of which argument {which} is the largest,"
            ) from None


def message_of(runtime: Runtime, wanted: Wanted) -> Update:
    """The message that asks for an update.

    Raises:
        UsageError: An argument cannot be encoded, or the id makes no sense.
    """
    clock, body = runtime.clock, current.get()
    now = clock.now()
    call = update.call_of(
        wanted.workflow,
        checked_update_id(wanted.id) or ids.invocation_id(now, clock.entropy()),
        partition=wanted.partition,
        name=wanted.name,
        args=wanted.payload(runtime.registry.codec),
        now=now,
        context=None if body is None else body.context,
    )
    return Update(wanted.partition, wanted.workflow, call, fresh=wanted.id is None)


def handle_of(runtime: Runtime, message: Update, result: Any) -> UpdateHandle[Any]:
    """The handle of what a message asks for."""
    codec = runtime.registry.codec.of(result)
    return UpdateHandle(runtime, message.invocation.id, message.partition, codec)


async def start_update(runtime: Runtime, wanted: Wanted) -> UpdateHandle[Any]:
    """See `Handle.start_update`."""
    running = activation()
    if running is not None:
        return _start_inside(running, runtime, wanted)
    message = message_of(runtime, wanted)
    with around_calls(runtime.registry.middleware, [message]):
        await runtime.gateway.send(message)
    return handle_of(runtime, message, wanted.result)


async def ask_update(runtime: Runtime, wanted: Wanted) -> Any:
    """See `Handle.update`."""
    running = activation()
    if running is not None:
        return await _start_inside(running, runtime, wanted).result()
    message = message_of(runtime, wanted)
    with around_calls(runtime.registry.middleware, [message]):
        await runtime.gateway.send(message)
        return await handle_of(runtime, message, wanted.result).result()


def _start_inside(running: Activation, runtime: Runtime, wanted: Wanted) -> UpdateHandle[Any]:
    codec, id_ = runtime.registry.codec, checked_update_id(wanted.id)
    payload = wanted.payload(codec)
    middleware, context = runtime.registry.middleware, None
    if middleware and not running.is_replaying:
        context = context_of_update(middleware, running.invocation, wanted.name, wanted.workflow)
    command = SendUpdate(
        wanted.name, caller(), wanted.partition, wanted.workflow, payload, id_, context
    )
    number, future = running.ask(command)
    call_id = ids.update_id(wanted.workflow, id_ or fork.child_id(running, number))
    return UpdateHandle(runtime, call_id, wanted.partition, codec.of(wanted.result), future)


async def ask(runtime: Runtime, wanted: Wanted) -> Any:
    """See `Handle.query`."""
    if activation() is not None:
        raise UsageError("the answer of a query changes from moment to moment: ask it in a step")
    codec, name, id_ = runtime.registry.codec, wanted.name, wanted.workflow
    payload, body = wanted.payload(codec), current.get()
    context = {} if body is None else body.context or {}
    with around_query(runtime.registry.middleware, name, id_, context) as carried:
        answer = await _answer(runtime, id_, name, payload, carried)
        return codec.of(wanted.result).decode(answer)


async def _answer(
    runtime: Runtime,
    id: str,  # noqa: A002
    name: str,
    payload: Payload,
    context: Mapping[str, str],
) -> Payload:
    pause = LOOK_SECONDS_MIN
    while pause < limit.PATIENCE_SECONDS:
        loaded = await runtime.gateway.load(id)
        if loaded is None:
            await runtime.gateway.status(id)  # Or there is no such call.
        else:
            answer = query.answer(runtime.registry, loaded, name, payload, context)
            if answer is not None:
                return answer
            if loaded.invocation.wake_at is not None:
                raise UsageError(f"{loaded.invocation.handler} {id} has not begun: it is delayed")
        await asyncio.sleep(pause)
        pause *= 2
    raise Unavailable(f"call {id} has not begun, so there is nothing to ask; is a node running?")
