"""Streams: values that a call writes one by one, and that anybody reads while it runs, and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast, overload

from msgspec import Struct

from fenbu._api.context import activation
from fenbu._api.runtime import Runtime
from fenbu._core import limit
from fenbu._core.activation import Activation
from fenbu._core.codec import TypeCodec
from fenbu._core.command import AppendEvent, CloseStream, WriteChunk
from fenbu._core.effect import RunBody
from fenbu._core.handler import Registry
from fenbu._core.location import caller
from fenbu._core.model import FINISHED, Payload
from fenbu._core.model import Chunk as Row
from fenbu._core.writing import Writing
from fenbu._node.attempt import current
from fenbu._node.chunks import ChunkWriter
from fenbu._storage.stream import StreamPage
from fenbu.errors import EncodingError, PayloadTooLarge, PayloadUnreadable, UsageError

T = TypeVar("T")


class Chunk(Struct, Generic[T], frozen=True):
    """One value of a stream.

    Attributes:
        offset: Its place: read on `after` it, in any process, at any time. Offsets grow, with gaps.
        value: What was written.
        at: When, in UTC, by the clock of the node.
    """

    offset: int
    value: T
    at: datetime


class Stream(Generic[T]):
    """A stream of the running call, to write to; made by `stream`.

    Attributes:
        name: The stream's name.
    """

    __slots__ = ("_type", "name")

    def __init__(self, name: str, type_: Any) -> None:
        self.name = name
        self._type = type_

    def __repr__(self) -> str:
        return f"Stream({self.name!r})"

    async def write(self, value: T) -> None:
        """Append a value.

        In the body of a task or step it returns when the value is durable. In workflow code it is a durable
        command, and is not repeated by a replay; in an operation it can be read when the operation has ended
        well.

        Raises:
            EncodingError: The value does not fit the stream's type, cannot be encoded, or is too large.
            UsageError: No call's code is running, or the stream was closed by this code, by this attempt, or
                by the code that the step belongs to.
            CallCancelled: This attempt of the body is over: nobody waits for it any more.
        """
        running = activation()
        if running is not None:
            codec = cast("Registry", running.context).codec.of(self._type)
            payload = self._encoded(codec, value, running.invocation.handler)
            write(running, WriteChunk(self.name, caller(), payload))
        else:
            body, home = _body()
            payload = self._encoded(home.registry.codec.of(self._type), value, body.name)
            await home.write(body, self.name, payload)

    def _encoded(self, codec: TypeCodec, value: T, by: str) -> Payload:
        try:
            return codec.check(value)
        except PayloadTooLarge as error:
            raise error.named(f"a value of stream {self.name!r} of {by}") from None
        except EncodingError as error:
            raise EncodingError(f"stream {self.name!r} of {by}: {error}") from error.__cause__

    async def close(self) -> None:
        """End the stream for its readers before the call ends. A stream also ends with its call.

        The code of a workflow or operation ends it for its steps as well, which cannot write to it from then
        on. When a step ends it, what the code or another step writes to it later is not read.

        Raises:
            UsageError: No call's code is running.
            CallCancelled: This attempt of the body is over: nobody waits for it any more.
        """
        running = activation()
        if running is not None:
            write(running, CloseStream(self.name, caller()))
        else:
            body, home = _body()
            await home.write(body, self.name, None)

    async def resume(self) -> list[T]:
        """In the body of a task or step: what earlier attempts of it have written, to go on behind that.

        Without it, an attempt begins from the first value: as many as are there already are passed over, so a
        body that produces the same again is seen once.

        Raises:
            UsageError: This is no body, or this attempt has written to the stream already.
            EncodingError: A value does not fit the type.
            CallCancelled: This attempt of the body is over: nobody waits for it any more.

        Example:
            ```python
            text = await out.resume()
            async for token in model.complete(prompt, begin="".join(text)):
                await out.write(token)
            ```
        """
        if activation() is not None:
            raise UsageError("resume() is for bodies of tasks and steps: workflow code is replayed")
        body, home = _body()
        codec = home.registry.codec.of(self._type)
        return [cast("T", codec.decode(each)) for each in await home.resume(body, self.name)]

    @property
    def sync(self) -> SyncStream[T]:
        """The same stream for bodies that are plain functions."""
        return SyncStream(self)


def write(activation: Activation, command: WriteChunk | CloseStream | AppendEvent) -> None:
    """The code appends to a stream of the call, or ends one, or an operation appends to a log.

    Raises:
        UsageError: It has ended the stream.
    """
    writing = activation.writing
    if writing is not None and isinstance(command, WriteChunk) and command.name in writing.closed:
        call = activation.invocation
        raise UsageError(
            f"the stream {command.name!r} of {call.handler} {call.id} is closed already"
        )
    number = activation.issue(command)
    is_operation = activation.invocation.key is not None
    if writing is None and (is_operation or isinstance(command, CloseStream)):
        writing = activation.writing = Writing()
    if writing is not None and isinstance(command, CloseStream):
        writing.closed.add(command.name)
    if writing is not None and is_operation:
        writing.held.append((number, command))


class SyncStream(Generic[T]):
    """`Stream` without `await`, for bodies that run in threads."""

    __slots__ = ("_stream", "name")

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self.name = stream.name

    def __repr__(self) -> str:
        return f"SyncStream({self.name!r})"

    def write(self, value: T) -> None:
        """See `Stream.write`."""
        _run_here(lambda: self._stream.write(value))

    def close(self) -> None:
        """See `Stream.close`."""
        _run_here(self._stream.close)

    def resume(self) -> list[T]:
        """See `Stream.resume`."""
        return _run_here(self._stream.resume)


def _body() -> tuple[RunBody, ChunkWriter]:
    body = current.get()
    if body is None or body.home is None:
        raise UsageError(
            "a stream is written by the code of the call that it belongs to: of a workflow or operation, or "
            "the body of a task or step, but not in another process (cpu=True)"
        )
    return body, cast("ChunkWriter", body.home)


def _run_here(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """From a body's thread: run a coroutine on the node's loop and wait for it."""
    _, home = _body()
    if asyncio._get_running_loop() is not None:  # noqa: SLF001
        raise UsageError(
            "`.sync` would block the event loop that is running here: use `await` without it"
        )
    return asyncio.run_coroutine_threadsafe(make(), home.loop).result()


@overload
def stream(name: str, type: type[T]) -> Stream[T]: ...
@overload
def stream(name: str, type: Any = Any) -> Stream[Any]: ...
def stream(name: str, type: Any = Any) -> Stream[Any]:  # noqa: A002
    """A stream of the running call, to write to: tokens of a language model, lines of a log, progress.

    Whoever has the call's handle reads it, see `Handle.stream`. It is made by its first value, is kept as
    long as its call, and ends with the call or with `close()`.

    Args:
        name: The stream's name within the call.
        type: What the values are.

    Raises:
        UsageError: No call's code is running, or a name or type cannot be used.

    Example:
        ```python
        @app.task
        async def answer(prompt: str) -> str:
            out = stream("tokens", str)
            text = await out.resume()
            async for token in model.complete(prompt, begin="".join(text)):
                text.append(token)
                await out.write(token)
            return "".join(text)
        ```
    """
    checked(name)
    running = activation()
    # A type that cannot be used is refused here, not at the first value.
    if running is not None:
        cast("Registry", running.context).codec.of(type)
    else:
        _body()[1].registry.codec.of(type)
    return Stream(name, type)


def checked(name: object) -> str:
    """A stream's name.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(name, str):
        raise UsageError(f"{name!r} cannot name a stream: a name is a text")
    if not (0 < len(name) <= limit.STREAM_NAME_LENGTH_MAX and name.isprintable()):
        raise UsageError(
            f"{name[:40]!r} cannot name a stream: a name has 1 to {limit.STREAM_NAME_LENGTH_MAX} "
            "printable characters"
        )
    return name


def checked_offset(offset: object, what: str) -> int:
    """The offset of something that was read, or 0.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise UsageError(f"{what} must be an offset, a number from 0, not {offset!r}")
    return offset


class Progress:
    """How far a reader has come, and whether that is the end."""

    __slots__ = ("after", "done", "ended_run")

    def __init__(self, after: int) -> None:
        self.after = checked_offset(after, "after")
        self.done = False
        self.ended_run: int | None = None

    def take(self, page: StreamPage) -> list[Row]:
        """The values of a page."""
        rows: list[Row] = []
        for each in page.chunks:
            self.after = each.number
            if each.ends:
                self.ended_run = each.run
            elif self.ended_run is None or each.run > self.ended_run:
                # The call was tried again: its stream goes on.
                self.ended_run = None
                rows.append(each)
        self.done = page.complete and (self.ended_run is not None or page.status in FINISHED)
        return rows


class StreamReader(Generic[T]):
    """A stream of a call, to read: `async for value in reader`. Made by `Handle.stream`.

    It gives what was written, in order and once, waits for more, and ends when the stream was closed or its
    call has ended, however it has. It can be read any number of times. It asks for more when it is asked,
    so a slow reader costs nothing.
    """

    __slots__ = ("_codec", "_id", "_name", "_runtime")

    def __init__(self, runtime: Runtime, id: str, name: str, codec: TypeCodec) -> None:  # noqa: A002
        self._runtime = runtime
        self._id = id
        self._name = name
        self._codec = codec

    def __repr__(self) -> str:
        return f"StreamReader({self._id!r}, {self._name!r})"

    async def __aiter__(self) -> AsyncIterator[T]:
        async for chunk in self.chunks():
            yield chunk.value

    async def chunks(self, after: int = 0) -> AsyncIterator[Chunk[T]]:
        """The values with their offsets, from the beginning or after an offset.

        Args:
            after: The offset of the last one that was seen: reading goes on behind it.

        Raises:
            CallNotFound: There is no such call, or its retention is over.
            EncodingError: A value does not fit the type.
            UsageError: `after` is no offset, or it is read in workflow or entity code, where what comes could
                not be replayed.

        Example:
            ```python
            async for chunk in handle.stream("tokens", str).chunks(after=last_event_id):
                await response.send(event(chunk.value, id=chunk.offset))
            ```
        """
        cursor = Progress(after)
        while not cursor.done:
            for each in await self.page(cursor):
                yield each

    async def page(self, cursor: Progress) -> list[Chunk[T]]:
        """What has come behind a cursor, which moves on; waits for it."""
        if activation() is not None:
            raise UsageError("a stream grows from moment to moment: read it in a step")
        gateway = self._runtime.gateway
        rows = cursor.take(await gateway.read_stream(self._id, self._name, cursor.after))
        return [
            Chunk(each.number, self._value(each), datetime.fromtimestamp(each.at, UTC))
            for each in rows
        ]

    def _value(self, row: Row) -> T:
        try:
            return cast("T", self._codec.decode(row.value if row.value is not None else "null"))
        except PayloadUnreadable:
            raise
        except EncodingError as error:
            what = f"stream {self._name!r} of {self._id}, offset {row.number}"
            raise EncodingError(f"{what}: {error}") from error.__cause__

    @property
    def sync(self) -> SyncStreamReader[T]:
        """The same for code that does not use `await`."""
        return SyncStreamReader(self._runtime, self)


class SyncStreamReader(Generic[T]):
    """`StreamReader` without `await`: `for value in reader`."""

    __slots__ = ("_reader", "_runtime")

    def __init__(self, runtime: Runtime, reader: StreamReader[T]) -> None:
        self._runtime = runtime
        self._reader = reader

    def __repr__(self) -> str:
        return f"Sync{self._reader!r}"

    def __iter__(self) -> Iterator[T]:
        for chunk in self.chunks():
            yield chunk.value

    def chunks(self, after: int = 0) -> Iterator[Chunk[T]]:
        """See `StreamReader.chunks`."""
        cursor = Progress(after)
        while not cursor.done:
            yield from self._runtime.run(lambda: self._reader.page(cursor))
