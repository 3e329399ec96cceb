"""What a body needs beside its function and its arguments: limits of its time, and what a node opens for it.

`Resource` and `Limits` are made once for a handler or a step's options, and say nothing of a single call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct


class Limits(Struct, frozen=True, gc=False):
    """How long one attempt may take, in seconds, beside its hard limit."""

    soft_seconds: float | None = None
    """Then the body is told."""
    heartbeat_seconds: float | None = None
    """It must not be silent for longer."""


class Resource:
    """Marks a parameter of a task or step that the node fills in, with what `open` makes.

    It is opened once on each node, when it is first needed, and closed when the node stops, in reverse order.
    It is no argument of the call: callers leave it out, and nothing of it is recorded.

    `open` may be an async generator or generator function that yields once, a function decorated with
    `asynccontextmanager` or `contextmanager`, or any callable that returns the value or an awaitable of it;
    what is a context manager is entered, and left at the end. What is an `async def` runs on the node's event
    loop, anything plain in a thread. If opening fails, so does the attempt, and the next one opens again.

    Example:
        ```python
        async def open_db() -> AsyncIterator[Db]:
            async with Db("shop") as db:
                yield db

        @app.task
        async def send(order_id: int, db: Annotated[Db, Resource(open_db)] = INJECTED) -> None: ...

        await send(7)
        ```
    """

    __slots__ = ("open",)

    def __init__(self, open: Callable[[], Any]) -> None:  # noqa: A002 - as in `Resource(open=…)`
        self.open = open

    def __repr__(self) -> str:
        return f"Resource({getattr(self.open, '__qualname__', self.open)})"


class Needed(NamedTuple):
    """A parameter that is filled in."""

    name: str
    place: int
    """Among the function's parameters."""
    resource: Resource


class _Injected:
    def __repr__(self) -> str:
        return "INJECTED"


INJECTED: Any = _Injected()
"""The default of a parameter that a `Resource` fills in, so that callers may leave it out."""
