"""Signals: named values that reach a running workflow or operation and wait in a queue until it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast, overload

from fenbu._api.context import required_activation
from fenbu._api.outcome import sent
from fenbu._core.activation import Activation
from fenbu._core.codec import TypeCodec
from fenbu._core.handler import Registry

T = TypeVar("T")


@overload
def wait_signal(name: str, type: type[T]) -> Coroutine[Any, Any, T]: ...
@overload
def wait_signal(name: str, type: Any = Any) -> Coroutine[Any, Any, Any]: ...
def wait_signal(name: str, type: Any = Any) -> Coroutine[Any, Any, Any]:  # noqa: A002
    """The next value sent to this call under a name; values that came earlier come first.

    Args:
        name: The signal's name.
        type: What the value is decoded as.

    Raises:
        UsageError: This is not the code of a workflow or operation.
        EncodingError: The value does not fit the type.

    Example:
        ```python
        async with asyncio.timeout(3 * 86400):
            approved = await wait_signal("approval", bool)
        ```
    """
    running = required_activation("wait_signal()")
    codec = cast("Registry", running.context).codec.of(type)
    return _wait(running, name, codec)


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, over what the workflow has in its variables.

    It is looked at after everything that happens to the call: a signal, a step's end, a timer. It must do
    nothing but look.

    Raises:
        UsageError: This is not the code of a workflow or operation.
        Exception: What the condition raises.

    Example:
        ```python
        paid: list[int] = []

        async def collect() -> None:
            while True:
                paid.append(await wait_signal("payment", int))

        collecting = asyncio.create_task(collect())
        async with asyncio.timeout(86400):
            await wait_until(lambda: sum(paid) >= price)
        ```
    """
    running = required_activation("wait_until()")
    if not condition():
        await running.until(condition)


async def _wait(running: Activation, name: str, codec: TypeCodec) -> Any:
    future = running.next_signal(name)
    try:
        entry = await future
    except asyncio.CancelledError:
        running.return_signal(name, future)
        raise
    return sent(entry, codec)
