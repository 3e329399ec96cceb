"""What a node opens for its bodies: each resource once, when it is first needed, closed in reverse order.

It outlives the loss of a session: what a resource stands for has nothing to do with fenbu's database.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, NamedTuple, cast

from fenbu._core.effect import RunBody
from fenbu._core.need import Needed, Resource, needs_of_opening
from fenbu._node.telemetry import log
from fenbu.errors import UsageError

Open = Callable[..., Any]


class _Opening(NamedTuple):
    """What is opened: a function, with what fills in its parameters. Equal ones are opened once."""

    open: Open
    resources: tuple[tuple[str, Resource, _Opening], ...]
    """By parameter."""


class Resources:
    """Those of one node. `overrides` says what is opened in place of what."""

    def __init__(self, overrides: Mapping[Open, Open]) -> None:
        self._overrides = overrides
        self._opened: dict[_Opening, asyncio.Task[Any]] = {}
        """Opened, or being opened."""
        self._needs: dict[Open, tuple[Needed, ...]] = {}
        """Of what was opened, or is to be."""
        self._closing: list[tuple[Open, Callable[[], Awaitable[object]]]] = []
        """What closes those that are open, in the order in which they were opened."""

    async def fill_in(self, body: RunBody, threads: Executor) -> dict[str, Any]:
        """The arguments of a body, by name, with what it needs and was not given."""
        kwargs = dict(body.kwargs)
        for name, place, resource in body.work.needs:
            if name not in kwargs and place >= len(body.args):
                kwargs[name] = await self._get(resource, self._plan(resource), threads)
        return kwargs

    def _plan(self, resource: Resource, around: tuple[Resource, ...] = ()) -> _Opening:
        """What is to be opened for a resource. `around`: those that need it.

        Raises:
            UsageError: It needs itself.
            EncodingError: What opens it has a parameter that cannot be filled in.
        """
        open_ = self._overrides.get(resource.open, resource.open)
        needs = self._needs.get(open_)
        if needs is None:
            needs = self._needs[open_] = needs_of_opening(open_)
        if not needs:
            return _Opening(open_, ())
        if any(each.open is resource.open for each in around):
            circle = " needs ".join(repr(each) for each in (*around, resource))
            raise UsageError(f"resources need each other in a circle: {circle}")
        inner = (*around, resource)
        return _Opening(
            open_,
            tuple((each.name, each.resource, self._plan(each.resource, inner)) for each in needs),
        )

    async def _get(self, resource: Resource, opening: _Opening, threads: Executor) -> Any:
        task = self._opened.get(opening)
        if task is None:
            task = asyncio.create_task(self._open(opening, threads))
            self._opened[opening] = task
            task.add_done_callback(lambda done: self._forget(opening, done))
        try:
            # Whoever stops waiting does so alone.
            return await asyncio.shield(task)
        except Exception as error:
            note = f"This was raised while {resource!r} was opened."
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise

    def _forget(self, opening: _Opening, task: asyncio.Task[Any]) -> None:
        """If it could not be opened, the next one tries again."""
        if task.cancelled() or task.exception() is not None:
            self._opened.pop(opening, None)

    async def _open(self, opening: _Opening, threads: Executor) -> Any:
        open_ = opening.open
        kwargs = {
            name: await self._get(resource, inner, threads)
            for name, resource, inner in opening.resources
        }
        if inspect.isasyncgenfunction(open_):
            open_ = asynccontextmanager(open_)
        elif inspect.isgeneratorfunction(open_):
            open_ = contextmanager(open_)
        loop = asyncio.get_running_loop()
        if _is_async(open_):
            made = open_(**kwargs)
        else:
            made = await loop.run_in_executor(threads, functools.partial(open_, **kwargs))
        if inspect.isawaitable(made):
            made = await made
        from_contextlib = _module_of(made) == "contextlib"
        if isinstance(made, AbstractAsyncContextManager):
            manager = cast("AbstractAsyncContextManager[Any]", made)
            value = await manager.__aenter__()
            self._closing.append(
                (opening.open, functools.partial(manager.__aexit__, None, None, None))
            )
        elif isinstance(made, AbstractContextManager):
            plain = cast("AbstractContextManager[Any]", made)
            value = await loop.run_in_executor(threads, plain.__enter__)
            leave = functools.partial(plain.__exit__, None, None, None)
            self._closing.append((opening.open, lambda: asyncio.to_thread(leave)))
        else:
            return made
        if value is None and not from_contextlib:
            raise UsageError(
                f"{open_!r} makes a context manager that gives nothing when it is entered, as locks do: to "
                "have the object itself as a resource, `yield` it from a function"
            )
        return value

    async def close(self) -> None:
        """Close what was opened, in reverse order, each whatever happens to the others.

        What goes wrong there is logged: nobody is left who could do something about it.
        """
        tasks = [each for each in self._opened.values() if not each.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._opened.clear()
        stopped: asyncio.CancelledError | None = None
        while self._closing:
            open_, leave = self._closing.pop()
            # In a task of its own: one that ends with a CancelledError of its own does not stop the others.
            closing = asyncio.create_task(_await(leave))
            try:
                await asyncio.gather(closing, return_exceptions=True)
            except asyncio.CancelledError as error:
                stopped = error  # It cuts short the one that closes, and no other.
                continue
            if closing.cancelled():
                log.warning("%r could not be closed: it was cancelled", Resource(open_))
            elif (failed := closing.exception()) is not None:
                log.warning("%r could not be closed: %s", Resource(open_), failed, exc_info=failed)
        if stopped is not None:
            raise stopped


async def _await(leave: Callable[[], Awaitable[object]]) -> None:
    await leave()


def _is_async(open_: Open) -> bool:
    """Whether it wants to be called on the event loop."""
    function = inspect.unwrap(open_)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _module_of(value: object) -> str:
    return type(value).__module__
