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
from typing import Any, cast

from fenbu._core.effect import RunBody
from fenbu._core.need import Resource
from fenbu._node.telemetry import log
from fenbu.errors import UsageError

Open = Callable[[], Any]


class Resources:
    """Those of one node. `overrides` says what is opened in place of what."""

    def __init__(self, overrides: Mapping[Open, Open]) -> None:
        self._overrides = overrides
        self._opened: dict[Open, asyncio.Task[Any]] = {}
        """Opened, or being opened."""
        self._closing: list[tuple[Open, Callable[[], Awaitable[object]]]] = []
        """What closes those that are open, in the order in which they were opened."""

    async def fill_in(self, body: RunBody, threads: Executor) -> dict[str, Any]:
        """The arguments of a body, by name, with what it needs and was not given."""
        kwargs = dict(body.kwargs)
        for name, place, resource in body.needs:
            if name not in kwargs and place >= len(body.args):
                kwargs[name] = await self._get(resource, threads)
        return kwargs

    async def _get(self, resource: Resource, threads: Executor) -> Any:
        open_ = self._overrides.get(resource.open, resource.open)
        task = self._opened.get(open_)
        if task is None:
            task = asyncio.create_task(self._open(open_, threads))
            self._opened[open_] = task
            task.add_done_callback(lambda done: self._forget(open_, done))
        try:
            # Whoever stops waiting does so alone.
            return await asyncio.shield(task)
        except Exception as error:
            note = f"This was raised while {resource!r} was opened."
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise

    def _forget(self, open_: Open, task: asyncio.Task[Any]) -> None:
        """If it could not be opened, the next one tries again."""
        if task.cancelled() or task.exception() is not None:
            self._opened.pop(open_, None)

    async def _open(self, open_: Open, threads: Executor) -> Any:
        if inspect.isasyncgenfunction(open_):
            open_ = asynccontextmanager(open_)
        elif inspect.isgeneratorfunction(open_):
            open_ = contextmanager(open_)
        loop = asyncio.get_running_loop()
        if _is_async(open_):
            made = open_()
        else:
            made = await loop.run_in_executor(threads, open_)
        if inspect.isawaitable(made):
            made = await made
        from_contextlib = _module_of(made) == "contextlib"
        if isinstance(made, AbstractAsyncContextManager):
            manager = cast("AbstractAsyncContextManager[Any]", made)
            value = await manager.__aenter__()
            self._closing.append((open_, functools.partial(manager.__aexit__, None, None, None)))
        elif isinstance(made, AbstractContextManager):
            plain = cast("AbstractContextManager[Any]", made)
            value = await loop.run_in_executor(threads, plain.__enter__)
            leave = functools.partial(plain.__exit__, None, None, None)
            self._closing.append((open_, lambda: asyncio.to_thread(leave)))
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
