"""One call for each of many inputs, so many at a time: results come one by one, inputs are taken as needed.

A call is made when a result is asked for and there is room, so who is slow with the results is slow with the
inputs, and memory holds as many calls as may be open and no more. The same code serves workflows, where all
that it uses of asyncio is durable, and everything else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar, cast, overload

from fenbu._api.runtime import Runtime
from fenbu._core.location import caller
from fenbu.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")
I_contra = TypeVar("I_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

CONCURRENCY: Final = 100
CONCURRENCY_MAX: Final = 10_000
"""Each open call is a task here, and a waiter at its node."""


class Makeable(Protocol[R_co]):
    """What is asked of a `Bound`."""

    @property
    def id(self) -> str | None:
        """What its caller has chosen."""
        ...

    def make(self, location: str) -> Coroutine[Any, Any, R_co]:
        """Make the call and wait for its result."""
        ...


class Binding(Protocol[I_contra, R_co]):
    """A durable function that can be called with one argument."""

    def bind(self, argument: I_contra, /) -> Makeable[R_co]:
        """The call with this argument."""
        ...


class SyncBinding(Protocol[I_contra, R_co]):
    """The same without `await`."""

    def __call__(self, argument: I_contra, /) -> R_co:
        """Make the call."""
        ...


class Results(Generic[R]):
    """The results of many calls, to be taken one by one: `async for result in results`. Made by `map`.

    Left early, what is open goes on, and is waited for no longer; in workflow code it is cancelled if the
    results are left by `async with`, or closed.

    Example:
        ```python
        async with resize.map(paths, concurrency=20) as results:
            async for path in results:
                if await step(is_enough, path):
                    break
        ```
    """

    __slots__ = (
        "_calls", "_concurrency", "_errors", "_is_over", "_later", "_location", "_moved", "_ordered",
        "_pulling", "_ready", "_window",
    )  # fmt: skip

    def __init__(
        self,
        calls: Iterable[Makeable[R]] | AsyncIterable[Makeable[R]],
        location: str,
        *,
        concurrency: int,
        ordered: bool,
        errors: bool,
    ) -> None:
        checked(concurrency)
        self._calls = iter(calls) if isinstance(calls, Iterable) else None
        self._later = None if isinstance(calls, Iterable) else aiter(calls)
        self._pulling: asyncio.Task[Makeable[R]] | None = None
        """The next call is awaited."""
        self._location = location
        self._concurrency = concurrency
        self._ordered = ordered
        self._errors = errors
        self._window: dict[asyncio.Task[R], None] = {}
        """Calls whose results were not taken, in order."""
        self._ready = deque[asyncio.Task[R]]()
        """Of these, those that have ended, in the order in which they did, if that is asked for."""
        self._moved = asyncio.Event()
        self._is_over = False

    def __repr__(self) -> str:
        return f"<results of {len(self._window)} open calls>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        try:
            while not self._is_over:
                self._fill()
                found = self._take()
                if found is not None:
                    return self._value(found)
                if not self._window and self._pulling is None:
                    break
                self._moved.clear()
                await self._moved.wait()
        except BaseException:
            await self.aclose()
            raise
        self._is_over = True
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Take no more inputs, and wait for no call; in workflow code, cancel those that are open."""
        self._is_over = True
        self._calls = None
        left: list[asyncio.Task[Any]] = list(self._window)
        if self._pulling is not None:
            left.append(self._pulling)
        self._window, self._pulling = {}, None
        self._ready.clear()
        for each in left:
            each.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)

    # For who takes the inputs elsewhere.

    @property
    def room(self) -> int:
        """So many calls may be added."""
        return 0 if self._is_over else self._concurrency - len(self._window)

    def add(self, call: Makeable[R]) -> None:
        """Make one more call."""
        task = asyncio.create_task(call.make(self._location))
        self._window[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[R]) -> None:
        if not task.cancelled():
            task.exception()  # Nobody may ask for it, and asyncio would complain.
        if task in self._window:
            if not self._ordered:
                self._ready.append(task)
            self._moved.set()

    def _fill(self) -> None:
        while self.room > 0:
            if self._calls is not None:
                call = next(self._calls, None)
                if call is None:
                    self._calls = None
                    return
                self.add(call)
            elif self._later is not None and self._pull(self._later):
                continue
            else:
                return

    def _pull(self, later: AsyncIterator[Makeable[R]]) -> bool:
        """Whether a call has come that was awaited."""
        if self._pulling is None:
            self._pulling = asyncio.create_task(_next(later))
            self._pulling.add_done_callback(lambda _: self._moved.set())
            return False
        if not self._pulling.done():
            return False
        pulled, self._pulling = self._pulling, None
        try:
            self.add(pulled.result())
        except StopAsyncIteration:
            self._later = None
        return True

    def _take(self) -> asyncio.Task[R] | None:
        """The next one that has ended."""
        if self._ordered:
            found = next(iter(self._window), None)
            if found is None or not found.done():
                return None
        elif self._ready:
            found = self._ready.popleft()
        else:
            return None
        del self._window[found]
        return found

    def _value(self, task: asyncio.Task[R]) -> R:
        if self._errors and not task.cancelled():
            error = task.exception()
            if isinstance(error, Exception):
                # The overloads of `map` say so.
                return cast("R", error)
        return task.result()


async def _next(later: AsyncIterator[T]) -> T:
    return await anext(later)


class SyncResults(Generic[R]):
    """`Results` without `await`: `for result in results`. Inputs are taken in the thread that asks."""

    __slots__ = ("_calls", "_make", "_results", "_runtime")

    def __init__(
        self,
        runtime: Runtime,
        calls: Iterable[Makeable[R]],
        make: Callable[[Iterable[Makeable[R]]], Results[R]],
    ) -> None:
        self._runtime = runtime
        self._calls = iter(calls)
        self._make = make
        self._results: Results[R] | None = None

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        results = self._results
        if results is None:
            results = self._results = self._make(())
        more: list[Makeable[R]] = []
        for _ in range(results.room):
            call = next(self._calls, None)
            if call is None:
                break
            more.append(call)

        async def take() -> list[R]:
            for each in more:
                results.add(each)
            try:
                return [await anext(results)]
            except StopAsyncIteration:
                return []

        found = self._runtime.run(take)
        if not found:
            raise StopIteration
        return found[0]


class Maps:
    """What a durable function does with many inputs."""

    @overload
    def map(
        self: Binding[T, R],
        inputs: Iterable[T] | AsyncIterable[T],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> Results[R]: ...
    @overload
    def map(
        self: Binding[T, R],
        inputs: Iterable[T] | AsyncIterable[T],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: Literal[True],
    ) -> Results[R | Exception]: ...
    def map(
        self: Binding[T, R],
        inputs: Iterable[T] | AsyncIterable[T],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Call it with each of these inputs, so many at a time, and take the results one by one.

        Inputs are taken as there is room, so there may be any number of them: memory holds those that are
        open. In a workflow each call is also a few lines of its journal, so beyond some thousands use
        `App.batch`. For other arguments, or ids, see `App.map`.

        Args:
            inputs: An iterable, or an async one.
            concurrency: So many calls at most are open, or have ended and their result was not taken.
            ordered: Results come in the order of inputs; otherwise as calls end.
            return_exceptions: A call that fails gives its error as its result. Otherwise it is raised, and
                nothing more comes; in workflow code the calls that are open are cancelled then.

        Raises:
            UsageError: A value makes no sense.

        Example:
            ```python
            async for thumbnail in resize.map(paths, concurrency=50):
                print(thumbnail)
            ```
        """
        return Results(
            _each(self, inputs), caller(), concurrency=concurrency, ordered=ordered,
            errors=return_exceptions,
        )  # fmt: skip


class MapsCalls:
    """What an app does with many calls."""

    @overload
    def map(
        self,
        calls: Iterable[Makeable[R]] | AsyncIterable[Makeable[R]],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> Results[R]: ...
    @overload
    def map(
        self,
        calls: Iterable[Makeable[R]] | AsyncIterable[Makeable[R]],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: Literal[True],
    ) -> Results[R | Exception]: ...
    def map(
        self,
        calls: Iterable[Makeable[R]] | AsyncIterable[Makeable[R]],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Make these calls, so many at a time, and take their results one by one: see `DurableFunction.map`.

        Example:
            ```python
            calls = (resize.options(id=path).bind(path, 640) for path in paths)
            async for thumbnail in app.map(calls, concurrency=50):
                print(thumbnail)
            ```
        """
        return Results(
            calls, caller(), concurrency=concurrency, ordered=ordered, errors=return_exceptions
        )


class SyncMaps:
    """The same without `await`."""

    @overload
    def map(
        self: SyncBinding[T, R],
        inputs: Iterable[T],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> SyncResults[R]: ...
    @overload
    def map(
        self: SyncBinding[T, R],
        inputs: Iterable[T],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: Literal[True],
    ) -> SyncResults[R | Exception]: ...
    def map(
        self: SyncBinding[T, R],
        inputs: Iterable[T],
        *,
        concurrency: int = CONCURRENCY,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> SyncResults[Any]:
        """See `DurableFunction.map`."""
        twin, location = cast("Any", self), caller()
        checked(concurrency)

        def make(calls: Iterable[Makeable[R]]) -> Results[R]:
            return Results(
                calls, location, concurrency=concurrency, ordered=ordered, errors=return_exceptions
            )

        runtime, function = twin._runtime, twin._function  # noqa: SLF001 - it is what this is part of
        return SyncResults(runtime, _each_now(function, inputs), make)


def checked(concurrency: int) -> int:
    """How many calls may be open.

    Raises:
        UsageError: It is no such number.
    """
    if type(concurrency) is not int or not 1 <= concurrency <= CONCURRENCY_MAX:
        raise UsageError(f"concurrency must be 1 to {CONCURRENCY_MAX:,}, not {concurrency!r}")
    return concurrency


def _each(
    function: Binding[T, R], inputs: Iterable[T] | AsyncIterable[T]
) -> Iterator[Makeable[R]] | AsyncIterator[Makeable[R]]:
    if isinstance(inputs, Iterable):
        return _each_now(function, inputs)
    return _each_later(function, inputs)


def _each_now(function: Binding[T, R], inputs: Iterable[T]) -> Iterator[Makeable[R]]:
    for each in inputs:
        yield _different(function.bind(each))


async def _each_later(
    function: Binding[T, R], inputs: AsyncIterable[T]
) -> AsyncIterator[Makeable[R]]:
    async for each in inputs:
        yield _different(function.bind(each))


def _different(call: Makeable[R]) -> Makeable[R]:
    if call.id is not None:
        raise UsageError(
            f"all of these calls would have the id {call.id!r}, and so be one: give each its own, "
            "`app.map(f.options(id=…).bind(x) for x in …)`"
        )
    return call
