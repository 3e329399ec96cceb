"""Handles: what one can do with a call that has been accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from fenbu._api.ask import SyncUpdateHandle
from fenbu._api.asking import Asks
from fenbu._api.context import activation
from fenbu._api.forking import fork_call
from fenbu._api.options import seconds
from fenbu._api.outcome import value_of
from fenbu._api.runtime import Runtime
from fenbu._api.stream import StreamReader, SyncStreamReader, checked
from fenbu._core.activation import Activation
from fenbu._core.codec import TypeCodec
from fenbu._core.command import AwaitCall, CancelCall, SendSignal
from fenbu._core.location import caller
from fenbu._core.message import Cancel, Pause, Retry, Signal
from fenbu._core.model import Entry, Outcome, Status
from fenbu.errors import UsageError

R = TypeVar("R")
T = TypeVar("T")


class Handle(Asks, Generic[R]):
    """An accepted call. It can be made again at any time, in any process, from the call's id.

    Attributes:
        id: The call's id.
    """

    __slots__ = ("_partition", "_result", "_runtime", "id")

    def __init__(self, runtime: Runtime, id: str, partition: int, result: TypeCodec) -> None:  # noqa: A002
        self.id = id
        self._runtime = runtime
        self._partition = partition
        self._result = result

    def __repr__(self) -> str:
        return f"Handle({self.id!r})"

    async def result(self, timeout: float | timedelta | None = None) -> R:  # noqa: ASYNC109
        """Wait for the call's result.

        Args:
            timeout: Seconds to wait at most; the call itself goes on.

        Raises:
            TimeoutError: It has not ended within the timeout.
            CallNotFound: There is no such call, or its retention is over.
            CallCancelled: It was cancelled.
            CallTimedOut: It did not end within its own timeout.
            Exception: The error it ended with; `CallFailed` if its type is not known here.
        """
        running = activation()
        if timeout is None and running is None:
            outcome = await self._runtime.gateway.outcome(self.id, self._partition)
        else:
            async with asyncio.timeout(seconds(timeout, "timeout")):
                outcome = await self._outcome(running)
        return value_of(outcome, self._result, f"call {self.id}")

    async def _outcome(self, running: Activation | None) -> Outcome | Entry:
        if running is None:
            return await self._runtime.gateway.outcome(self.id, self._partition)
        number, future = running.ask(AwaitCall(self.id, caller(), self._addressed()))
        try:
            return await future
        except asyncio.CancelledError:
            running.abandon(number)
            raise

    async def status(self) -> Status:
        """Where the call is in its life.

        Raises:
            CallNotFound: There is no such call, or its retention is over.
            UsageError: Asked in workflow or entity code, where the answer could not be replayed.
        """
        if activation() is not None:
            raise UsageError("status() changes from moment to moment: ask for it in a step")
        return await self._runtime.gateway.status(self.id)

    @overload
    async def progress(self) -> Any: ...
    @overload
    async def progress(self, type: type[T]) -> T | None: ...
    async def progress(self, type: Any = Any) -> Any:  # noqa: A002
        """What the task's body has said last by `fenbu.heartbeat`; None if it has said nothing.

        It is at most about a second old, and stays when the task has ended.

        Args:
            type: What it is decoded to; without it, to plain data.

        Raises:
            CallNotFound: There is no such call, or its retention is over.
            EncodingError: It is no such value.
            UsageError: Asked in workflow or entity code, where the answer could not be replayed.

        Example:
            ```python
            while await handle.status() is Status.RUNNING:
                print(await handle.progress(int))
                await asyncio.sleep(1)
            ```
        """
        if activation() is not None:
            raise UsageError("progress() changes from moment to moment: ask for it in a step")
        gateway = self._runtime.gateway
        await gateway.status(self.id)
        for loaded in await gateway.storage.load_calls([self.id]):
            for heartbeat in loaded.invocation.heartbeats:
                if heartbeat.command == 0 and heartbeat.value is not None:
                    return self._runtime.registry.codec.of(type).decode(heartbeat.value)
        return None

    async def signal(self, name: str, value: object = None) -> None:
        """Send a named value to the call; it waits there until `wait_signal(name)` takes it.

        Raises:
            CallNotFound: There is no such call.
            EncodingError: The value cannot be encoded.
        """
        payload = self._runtime.payload(value, f"the value of signal {name}")
        running = activation()
        if running is None:
            await self._runtime.gateway.send(Signal(self._partition, self.id, name, payload))
        else:
            partition = self._addressed()
            running.issue(SendSignal(name, caller(), partition, self.id, payload))

    @overload
    def stream(self, name: str, type: type[T]) -> StreamReader[T]: ...
    @overload
    def stream(self, name: str, type: Any = Any) -> StreamReader[Any]: ...
    def stream(self, name: str, type: Any = Any) -> StreamReader[Any]:  # noqa: A002
        """What the call writes to one of its streams, live or afterwards, from any process.

        Args:
            name: The stream's name.
            type: What the values are decoded as.

        Raises:
            UsageError: The name or the type cannot be used.

        Example:
            ```python
            handle = await answer.start("why is the sky blue?")
            async for token in handle.stream("tokens", str):
                print(token, end="")
            ```
        """
        codec = self._runtime.registry.codec.of(type)
        return StreamReader(self._runtime, self.id, checked(name), codec)

    async def cancel(self, reason: str = "cancelled") -> None:
        """Ask the call to stop. A workflow sees `asyncio.CancelledError` where it waits, and may clean up.

        Returns when the request is durable, not when the call has ended.

        Raises:
            CallNotFound: There is no such call.
        """
        running = activation()
        if running is None:
            await self._runtime.gateway.send(Cancel(self._partition, self.id, reason))
        else:
            running.issue(CancelCall(self.id, caller(), self._addressed(), reason))

    async def terminate(self, reason: str = "terminated") -> None:
        """End the call at once, without asking its code: nothing is cleaned up. Prefer `cancel`.

        The calls that it waits for are ended with it. It is `cancelled`, also if its code has taken a
        cancellation and does not come to an end.

        Raises:
            CallNotFound: There is no such call.
        """
        running = activation()
        if running is None:
            message = Cancel(self._partition, self.id, reason, at_once=True)
            await self._runtime.gateway.send(message)
        else:
            partition = self._addressed()
            running.issue(CancelCall(self.id, caller(), partition, reason, at_once=True))

    async def retry(self) -> None:
        """Let the call try again: from the start if it failed, from where it stopped if it is stuck.

        Raises:
            CallNotFound: There is no such call.
            UsageError: Used in workflow or entity code.
        """
        if activation() is not None:
            raise UsageError("retry() is for operators: use it outside workflow and entity code")
        await self._runtime.gateway.send(Retry(self._partition, self.id))

    async def fork(
        self,
        step: int | str | None = None,
        *,
        results: Mapping[int | str, object] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> Handle[R]:
        """Start another call that goes on from a step of this one, a workflow that has ended or is parked.

        The new call has a copy of the history up to there: what was done before is not done again, and what
        comes from there on is done anew, by the code as it is now. This call stays as it is. Calls that it
        has started belong to both: the new one gets their outcomes, and starts none of them again. Callbacks
        that are open are so under new tokens, see `App.list_callbacks`.

        Args:
            step: The number of the command that is done again first, as `fenbu show` has it, or the name of a
                step or called handler, of which the last is meant. Default: the last one that failed.
            results: Other results for steps or calls, by number or name, and for callbacks, by number. That
                of `step` itself stands for it, so it is not done again either.
            id: The new call's id.

        Returns:
            The handle of the new call.

        Raises:
            CallNotFound: There is no such call.
            AlreadyExists: There is a call with the new id.
            EncodingError: A result is not of its step's or call's type, as far as the code here can say.
            UsageError: The call cannot be forked so, or this is workflow or entity code.

        Example:
            ```python
            again = await checkout.handle("order-7").fork("charge", results={"charge": "paid by hand"})
            ```
        """
        made = await fork_call(self._runtime, self.id, step, results or {}, id)
        return Handle(self._runtime, made.id, made.partition, self._result)

    async def pause(self, reason: str = "") -> None:
        """Let the call stand still until it is resumed: a task or workflow, running or not.

        What runs of it is cut, and runs again from its beginning when it is resumed. What is sent to it waits
        for it. Its own timeout goes on: if that is over when it is resumed, it ends as timed out. Returns
        when the request is durable.

        Args:
            reason: For people, see `fenbu explain`.

        Raises:
            CallNotFound: There is no such call.
            UsageError: It is an operation, or this is workflow or entity code.
        """
        await self._send_pause(Pause(self._partition, self.id, reason))

    async def resume(self) -> None:
        """Let a call go on that was paused, from where it stood.

        Raises:
            CallNotFound: There is no such call.
            UsageError: Used in workflow or entity code.
        """
        await self._send_pause(Pause(self._partition, self.id, resumes=True))

    async def _send_pause(self, message: Pause) -> None:
        if activation() is not None:
            raise UsageError(
                "pause() and resume() are for operators: use them outside workflow and entity code"
            )
        loaded = await self._runtime.gateway.load(self.id)
        if loaded is not None and loaded.invocation.key is not None:
            raise UsageError(
                f"{self.id} is an operation, and cannot be paused: all others on its entity would wait for it"
            )
        await self._runtime.gateway.send(message)

    @property
    def sync(self) -> SyncHandle[R]:
        """The same handle for code that does not use `await`."""
        return SyncHandle(self._runtime, self)

    def _addressed(self) -> int:
        if self._partition < 0:
            raise UsageError(
                f"in workflow and entity code, make the handle of {self.id!r} from its handler: "
                "`handler.handle(id)`"
            )
        return self._partition


class SyncHandle(Generic[R]):
    """`Handle` without `await`."""

    __slots__ = ("_handle", "_runtime", "id")

    def __init__(self, runtime: Runtime, handle: Handle[R]) -> None:
        self._runtime = runtime
        self._handle = handle
        self.id = handle.id

    def __repr__(self) -> str:
        return f"SyncHandle({self.id!r})"

    def result(self, timeout: float | timedelta | None = None) -> R:
        """See `Handle.result`."""
        return self._runtime.run(lambda: self._handle.result(timeout))

    def status(self) -> Status:
        """See `Handle.status`."""
        return self._runtime.run(self._handle.status)

    @overload
    def progress(self) -> Any: ...
    @overload
    def progress(self, type: type[T]) -> T | None: ...
    def progress(self, type: Any = Any) -> Any:  # noqa: A002
        """See `Handle.progress`."""
        return self._runtime.run(lambda: self._handle.progress(type))

    def signal(self, name: str, value: object = None) -> None:
        """See `Handle.signal`."""
        self._runtime.run(lambda: self._handle.signal(name, value))

    @overload
    def stream(self, name: str, type: type[T]) -> SyncStreamReader[T]: ...
    @overload
    def stream(self, name: str, type: Any = Any) -> SyncStreamReader[Any]: ...
    def stream(self, name: str, type: Any = Any) -> SyncStreamReader[Any]:  # noqa: A002
        """See `Handle.stream`."""
        return self._handle.stream(name, type).sync

    @overload
    def query(self, name: str, /, *args: Any, result: type[T], **kwargs: Any) -> T: ...
    @overload
    def query(self, name: str, /, *args: Any, result: Any = Any, **kwargs: Any) -> Any: ...
    def query(self, name: str, /, *args: Any, result: Any = Any, **kwargs: Any) -> Any:
        """See `Handle.query`."""
        query = self._handle.query
        return self._runtime.run(lambda: query(name, *args, result=result, **kwargs))

    @overload
    def update(
        self, name: str, /, *args: Any, id: str | None = None, result: type[T], **kwargs: Any
    ) -> T: ...
    @overload
    def update(
        self, name: str, /, *args: Any, id: str | None = None, result: Any = Any, **kwargs: Any
    ) -> Any: ...
    def update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        result: Any = Any,
        **kwargs: Any,
    ) -> Any:
        """See `Handle.update`."""
        update = self._handle.update
        return self._runtime.run(lambda: update(name, *args, id=id, result=result, **kwargs))

    @overload
    def start_update(
        self, name: str, /, *args: Any, id: str | None = None, result: type[T], **kwargs: Any
    ) -> SyncUpdateHandle[T]: ...
    @overload
    def start_update(
        self, name: str, /, *args: Any, id: str | None = None, result: Any = Any, **kwargs: Any
    ) -> SyncUpdateHandle[Any]: ...
    def start_update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        result: Any = Any,
        **kwargs: Any,
    ) -> SyncUpdateHandle[Any]:
        """See `Handle.start_update`."""
        start = self._handle.start_update
        handle = self._runtime.run(lambda: start(name, *args, id=id, result=result, **kwargs))
        return SyncUpdateHandle(self._runtime, handle)

    def cancel(self, reason: str = "cancelled") -> None:
        """See `Handle.cancel`."""
        self._runtime.run(lambda: self._handle.cancel(reason))

    def terminate(self, reason: str = "terminated") -> None:
        """See `Handle.terminate`."""
        self._runtime.run(lambda: self._handle.terminate(reason))

    def retry(self) -> None:
        """See `Handle.retry`."""
        self._runtime.run(self._handle.retry)

    def fork(
        self,
        step: int | str | None = None,
        *,
        results: Mapping[int | str, object] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> SyncHandle[R]:
        """See `Handle.fork`."""
        fork = self._handle.fork
        made = self._runtime.run(lambda: fork(step, results=results, id=id))
        return SyncHandle(self._runtime, made)

    def pause(self, reason: str = "") -> None:
        """See `Handle.pause`."""
        self._runtime.run(lambda: self._handle.pause(reason))

    def resume(self) -> None:
        """See `Handle.resume`."""
        self._runtime.run(self._handle.resume)
