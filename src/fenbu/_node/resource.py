"""What a node opens for its bodies: each resource once, when it is first needed, closed in reverse order.

It outlives the loss of a session: what a resource stands for has nothing to do with fenbu's database.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
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
        self._stack = AsyncExitStack()

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
            self._stack.push_async_exit(manager.__aexit__)
        elif isinstance(made, AbstractContextManager):
            plain = cast("AbstractContextManager[Any]", made)
            value = await loop.run_in_executor(threads, plain.__enter__)

            async def leave() -> None:
                await asyncio.to_thread(plain.__exit__, None, None, None)

            self._stack.push_async_callback(leave)
        else:
            return made
        if value is None and not from_contextlib:
            raise UsageError(
                f"{open_!r} makes a context manager that gives nothing when it is entered, as locks do: to "
                "have the object itself as a resource, `yield` it from a function"
            )
        return value

    async def close(self) -> None:
        """Close what was opened, in reverse order; what goes wrong there is logged."""
        tasks = [each for each in self._opened.values() if not each.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._opened.clear()
        try:
            await self._stack.aclose()
        except Exception as error:  # noqa: BLE001 - nobody is left who could do something about it
            log.warning("a resource could not be closed: %s", error, exc_info=error)


def _is_async(open_: Open) -> bool:
    """Whether it wants to be called on the event loop."""
    function = inspect.unwrap(open_)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _module_of(value: object) -> str:
    return type(value).__module__
