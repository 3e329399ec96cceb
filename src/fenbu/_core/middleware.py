"""Middleware: what an app does around each start of a call, and around each run of a body or of code.

Without any it costs nothing but a look at an empty list. What it adds to a call's context is stored with the
call; nothing of it is an argument, and a replay does not compare it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal, cast

from msgspec import Struct

from fenbu._core.effect import RunBody
from fenbu._core.message import Call
from fenbu._core.model import Invocation, Kind
from fenbu.errors import UsageError


class Starting(Struct, kw_only=True):
    """A call that is about to be started."""

    name: str
    """The handler's."""
    id: str | None
    """None in workflow and entity code, where it is given later."""
    key: str | None
    """Of the entity, if it is an operation."""
    context: dict[str, str]
    """What it will carry: at first what its caller carries. May be changed."""


class Running(Struct, frozen=True, kw_only=True):
    """What is about to run."""

    kind: Literal["task", "step", "workflow", "operation"]
    name: str
    """The handler's, or the step's."""
    id: str
    """Of the call."""
    key: str | None = None
    """Of the entity, if it is an operation."""
    attempt: int = 1
    """Of a task or step: 1 for the first."""
    context: Mapping[str, str]
    """What the call carries."""
    is_replay: bool = False
    """Code that has run before, and is now brought to where it was."""


class Middleware:
    """Base of what `@app.middleware` takes: override one of the two, or both.

    Each makes a context manager, which is entered before and left after; an error goes through it, and may be
    replaced there. Those registered first are the outermost.
    """

    def start(self, call: Starting) -> AbstractContextManager[object]:
        """Around a call on its caller's side: until it is durable, or, if it is awaited, until its result.

        In workflow and entity code it is only around the command itself, and not entered in a replay.
        """
        del call
        return nullcontext()

    def run(self, what: Running) -> AbstractContextManager[object]:
        """Around each attempt of a task or step, and around the code of a workflow or operation.

        The body of a plain function sees context variables that are set here; that of `cpu=True` only the
        call's context. Code is entered again each time that it comes to memory, with `is_replay`, and left
        with `GeneratorExit` when it is dropped from there. It must not ask for anything durable.
        """
        del what
        return nullcontext()


def _checked(context: dict[str, str], name: str) -> dict[str, str] | None:
    """A context that can be stored.

    Raises:
        UsageError: It has something else than texts.
    """
    pairs = cast("dict[Any, Any]", context).items()
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in pairs):
        raise UsageError(f"{name}: the context of a call has texts only, and not {context!r}")
    return context or None


@contextmanager
def around_calls(middleware: Sequence[Middleware], calls: Iterable[Call]) -> Generator[None]:
    """Around starting calls outside workflow and entity code."""
    with ExitStack() as stack:
        for call in calls:
            invocation = call.invocation
            starting = Starting(
                name=invocation.handler, id=invocation.id, key=invocation.key,
                context=dict(invocation.context or {}),
            )  # fmt: skip
            for each in middleware:
                stack.enter_context(each.start(starting))
            invocation.context = _checked(starting.context, invocation.handler)
        yield


def context_of_child(
    middleware: Sequence[Middleware], parent: Invocation, name: str, key: str | None
) -> dict[str, str]:
    """What a call carries that code starts; the empty one is not that of its parent."""
    starting = Starting(name=name, id=None, key=key, context=dict(parent.context or {}))
    with ExitStack() as stack:
        for each in middleware:
            stack.enter_context(each.start(starting))
    return _checked(starting.context, name) or {}


@contextmanager
def around(middleware: Sequence[Middleware], what: Running) -> Generator[None]:
    """Around whatever runs."""
    with ExitStack() as stack:
        for each in middleware:
            stack.enter_context(each.run(what))
        yield


def described(effect: RunBody) -> Running:
    """A body, as middleware sees it."""
    return Running(
        kind="step" if effect.command else "task",
        name=effect.name,
        id=effect.id,
        attempt=effect.attempt,
        context=effect.context or {},
    )


async def around_code(
    middleware: Sequence[Middleware],
    invocation: Invocation,
    kind: Kind,
    code: Coroutine[Any, Any, Any],
    *,
    is_replay: bool,
) -> Any:
    """The code of a workflow or operation, with what is around it."""
    what = Running(
        kind="operation" if kind is Kind.OPERATION else "workflow",
        name=invocation.handler,
        id=invocation.id,
        key=invocation.key,
        context=invocation.context or {},
        is_replay=is_replay,
    )
    with around(middleware, what):
        return await code
