"""Callbacks: a workflow hands a token to the outside world, and waits until somebody completes it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast, overload

from msgspec import Struct

from fenbu._api.context import activation, required_activation
from fenbu._api.options import seconds
from fenbu._api.outcome import sent
from fenbu._api.runtime import Runtime
from fenbu._core import journal
from fenbu._core.codec import TypeCodec
from fenbu._core.command import OpenCallback, SendSignal
from fenbu._core.failure import failure_of
from fenbu._core.fork import run_of
from fenbu._core.handler import Registry
from fenbu._core.ids import callback_name, callback_token, read_callback_token
from fenbu._core.location import caller
from fenbu._core.message import Signal
from fenbu._core.model import Entry, Failure, Loaded, Payload
from fenbu._storage.protocol import UNPLACED
from fenbu.errors import TerminalError, UsageError

T = TypeVar("T")


class CallbackInfo(Struct, frozen=True):
    """A callback that nobody has completed yet.

    Attributes:
        token: For `App.complete` and `App.fail`.
        command: Its number, as `fenbu show` has it, for `Handle.fork`.
        location: Where the code has opened it.
    """

    token: str
    command: int
    location: str


class Callback(Generic[T]):
    """Something that somebody outside will complete; made by `callback`.

    Attributes:
        token: What he needs for it. It is an address and no secret: whoever knows the call's id can write it
            down, so check who asks before you complete it on his behalf.
    """

    __slots__ = ("_codec", "_future", "token")

    def __init__(self, token: str, future: asyncio.Future[Entry], codec: TypeCodec) -> None:
        self.token = token
        self._future = future
        self._codec = codec

    def __repr__(self) -> str:
        return f"Callback({self.token!r})"

    async def result(self, timeout: float | timedelta | None = None) -> T:  # noqa: ASYNC109
        """Wait until it is completed; any number of times.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: It was not completed within the timeout.
            EncodingError: What it was completed with does not fit the type.
            Exception: What it was failed with.
        """
        async with asyncio.timeout(seconds(timeout, "timeout")):
            # Whoever stops waiting does so alone: another may still wait, or come later.
            entry = await asyncio.shield(self._future)
        return cast("T", sent(entry, self._codec))


@overload
async def callback(type: type[T]) -> Callback[T]: ...
@overload
async def callback(type: Any = Any) -> Callback[Any]: ...
async def callback(type: Any = Any) -> Callback[Any]:  # noqa: A002
    """Something to be completed from outside: by a person, another system, a webhook.

    Its token is completed with `app.complete(token, value)` or failed with `app.fail(token, error)`, from any
    process, from another workflow, with `fenbu complete`, or in SQL. What comes first counts, once, also if
    it comes before anybody waits.

    Args:
        type: What the value is decoded as.

    Raises:
        UsageError: This is not the code of a workflow or operation.

    Example:
        ```python
        approval = await callback(bool)
        await step(send_mail, order, approval.token)
        if await approval.result(timeout=3 * 86400): ...
        ```
    """
    running = required_activation("callback()")
    registry, call = cast("Registry", running.context), running.invocation
    number = running.issue(OpenCallback(caller()))
    name = callback_name(number, run_of(running, number))
    # The same in each replay, also if the call has been given to another partition meanwhile.
    token = callback_token(name, call.home(registry.partition_count), call.id)
    return Callback(token, running.next_signal(name), registry.codec.of(type))


def open_callbacks(loaded: Loaded, home: int) -> list[CallbackInfo]:
    """Those of a call that are open, in the order of their opening; for `home`, see `Invocation.home`."""
    commands = journal.commands_of(loaded)
    return [
        CallbackInfo(callback_token(name, home, loaded.invocation.id), number, commands[number][2])
        for number, name in journal.open_callbacks(loaded).items()
    ]


async def list_callbacks(runtime: Runtime, id_: str) -> list[CallbackInfo]:
    """See `App.list_callbacks`."""
    if activation() is not None:
        raise UsageError("list_callbacks() changes from moment to moment: ask for it in a step")
    loaded = await runtime.gateway.load(id_)
    if loaded is None:
        await runtime.gateway.status(id_)  # It may be in the inbox: then nothing of it has run.
        return []
    return open_callbacks(loaded, loaded.invocation.home(runtime.registry.partition_count))


async def complete(runtime: Runtime, token: str, value: object) -> None:
    """See `App.complete`."""
    payload = runtime.payload(value, f"the value for callback {token}")
    await _settle(runtime, token, payload, None)


async def fail(runtime: Runtime, token: str, error: BaseException | str) -> None:
    """See `App.fail`."""
    if isinstance(error, str):
        error = TerminalError(error)
    await _settle(runtime, token, None, failure_of(error))


async def _settle(
    runtime: Runtime, token: str, payload: Payload | None, failure: Failure | None
) -> None:
    found = read_callback_token(token)
    if found is None:
        raise UsageError(f"{token!r} is not the token of a callback")
    name, partition, id_ = found
    running = activation()
    if running is not None:
        running.issue(SendSignal(name, caller(), partition, id_, payload, failure))
    else:
        # Only the database knows whether there is such a call, and where it lives by now.
        await runtime.gateway.send(Signal(UNPLACED, id_, name, payload, failure))
