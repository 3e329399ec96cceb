"""What a body needs beside its function and its arguments: limits of its time, and what a node opens for it.

`Resource` and `Limits` are made once for a handler or a step's options, and say nothing of a single call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct

from fenbu._core.hint import hints_of
from fenbu.errors import EncodingError, UsageError

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""The kinds of parameters that can be given by name."""


NOT_IN_CODE: Final = (
    "the code of workflows and operations is replayed, and has no resources: give this parameter to a step's "
    "function"
)
NOT_IN_A_PROCESS: Final = (
    "cpu=True runs it in another process, where the resources of this one cannot go: open there what this "
    "parameter stands for"
)


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

    def __init__(self, open: Callable[..., Any]) -> None:  # noqa: A002 - as in `Resource(open=…)`
        if not callable(open):
            raise UsageError(f"Resource(open) takes what is called to open it, not {open!r}")
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


def needs_of(
    function: Callable[..., Any],
    hints: Mapping[str, Any],
    name: str,
    whole: Callable[[], inspect.Signature],
    *,
    is_code: bool = False,
) -> tuple[Needed, ...]:
    """The parameters of a function that the node fills in.

    Args:
        function: The function.
        hints: Its annotations, see `hints_of`.
        name: Its name, for errors.
        whole: Its signature, without `self`; asked only if there may be such a parameter, because `inspect`
            is slow for functions that are made anew each time.
        is_code: It is the code of a workflow or an operation.

    Raises:
        EncodingError: One of them cannot be filled in.
    """
    if not any(getattr(each, "__metadata__", ()) for each in hints.values()) and not _is_marked(
        function
    ):
        return ()
    found: list[Needed] = []
    for index, each in enumerate(whole().parameters.values()):
        resource = _resource_of(hints.get(each.name))
        if resource is None:
            if each.default is INJECTED:
                raise EncodingError(
                    f"{name}({each.name}): INJECTED is the default of a parameter that a Resource "
                    "fills in: annotate it as `Annotated[…, Resource(open)]`, with types that can be "
                    "found at run time"
                )
            continue
        if is_code:
            raise EncodingError(f"{name}({each.name}): {NOT_IN_CODE}")
        if each.kind not in NAMED:
            raise EncodingError(
                f"{name}({each.name}): a Resource needs a parameter that has a name"
            )
        found.append(Needed(each.name, index, resource))
    return tuple(found)


def check_needs_nothing(function: Callable[..., Any], why: str) -> None:
    """For the moment of registration, when annotations may name what is defined later: as far as is known.

    Args:
        function: The function.
        why: Why it can have no resources.

    Raises:
        UsageError: A parameter of it is one that a node would fill in.
    """
    found = [name for name, hint in hints_of(function).items() if _resource_of(hint) is not None]
    if not found and _is_marked(function):
        parameters = inspect.signature(function).parameters.values()
        found = [each.name for each in parameters if each.default is INJECTED]
    if found:
        raise UsageError(f"{_name(function)}({found[0]}): {why}")


def needs_of_opening(open_: Callable[..., Any]) -> tuple[Needed, ...]:
    """What a function that opens a resource needs itself.

    Raises:
        EncodingError: One of its parameters cannot be filled in.
    """

    def whole() -> inspect.Signature:
        try:
            return inspect.signature(open_)
        except ValueError:  # Some functions written in C do not say what they take.
            return inspect.Signature()

    return needs_of(open_, hints_of(open_), _name(open_), whole)


def _name(function: Callable[..., Any]) -> str:
    name: str = getattr(function, "__qualname__", "") or type(function).__qualname__
    return name.rpartition("<locals>.")[2]


def _is_marked(function: Callable[..., Any]) -> bool:
    """Whether a default says that there is something to fill in."""
    function = inspect.unwrap(function)
    if isinstance(function, type):
        function = function.__init__
    by_place: tuple[Any, ...] = getattr(function, "__defaults__", None) or ()
    by_name: dict[str, Any] = getattr(function, "__kwdefaults__", None) or {}
    return any(each is INJECTED for each in (*by_place, *by_name.values()))


def _resource_of(hint: object) -> Resource | None:
    marks = getattr(hint, "__metadata__", ())
    return next((each for each in marks if isinstance(each, Resource)), None)
