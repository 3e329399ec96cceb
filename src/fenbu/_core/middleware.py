"""Middleware: what an app does around each start of a call, each question, and each run of a body or of code.

Without any it costs nothing but a look at an empty list. What it adds to a call's context is stored with the
call; nothing of it is an argument, and a replay does not compare it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal, cast

from msgspec import Struct

from fenbu._core.effect import RunBody
from fenbu._core.message import Call, Update
from fenbu._core.model import Invocation, Kind
from fenbu.errors import UsageError


class Starting(Struct, kw_only=True):
    """A call that is about to be started, or a running workflow that is about to be asked for something."""

    kind: Literal["call", "query", "update"] = "call"
    name: str
    """The handler's; the query's or update's."""
    id: str | None
    """The call's; the workflow's that is asked. None for a call that workflow and entity code starts, whose
    id is given later."""
    key: str | None
    """Of the entity, if it is an operation."""
    context: dict[str, str]
    """What it will carry: at first what its caller carries. May be changed."""


class Running(Struct, frozen=True, kw_only=True):
    """What is about to run."""

    kind: Literal["task", "step", "workflow", "operation", "query", "update"]
    name: str
    """The handler's; the step's, query's or update's."""
    id: str
    """Of the call; of the workflow that is asked."""
    key: str | None = None
    """Of the entity, if it is an operation."""
    attempt: int = 1
    """Of a task or step: 1 for the first."""
    context: Mapping[str, str]
    """What the call, the query or the update carries. That of an update is not known in a replay."""
    is_replay: bool = False
    """Code that has run before, and is now brought to where it was."""


class Middleware:
    """Base of what `@app.middleware` takes: override one of the two, or both.

    Each makes a context manager, which is entered before and left after; an error goes through it, and may be
    replaced there. Those registered first are the outermost.
    """

    def start(self, call: Starting) -> AbstractContextManager[object]:
        """Around a call on its caller's side: until it is durable, or, if it is awaited, until its result.

        So it is around queries and updates on the side of who asks. In workflow and entity code it is only
        around the command itself, and not entered in a replay.
        """
        del call
        return nullcontext()

    def run(self, what: Running) -> AbstractContextManager[object]:
        """Around each attempt of a task or step, and around the code of a workflow or operation.

        Also around the functions of workflows that serve queries and updates, inside of what is around their
        workflow: a query's where it is asked, an update's where its workflow runs.
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
def around_calls(
    middleware: Sequence[Middleware], calls: Iterable[Call | Update]
) -> Generator[None]:
    """Around starting calls, and asking for updates, outside workflow and entity code."""
    with ExitStack() as stack:
        for call in calls:
            invocation = call.invocation
            context = dict(invocation.context or {})
            if isinstance(call, Update):
                name = invocation.key or ""
                starting = Starting(kind="update", name=name, id=call.id, key=None, context=context)
            else:
                starting = Starting(
                    name=invocation.handler, id=invocation.id, key=invocation.key, context=context
                )
            for each in middleware:
                stack.enter_context(each.start(starting))
            invocation.context = _checked(starting.context, starting.name)
        yield


@contextmanager
def around_query(
    middleware: Sequence[Middleware],
    name: str,
    id: str,  # noqa: A002
    context: Mapping[str, str],
) -> Generator[dict[str, str]]:
    """Around asking a query: what it carries."""
    starting = Starting(kind="query", name=name, id=id, key=None, context=dict(context))
    with ExitStack() as stack:
        for each in middleware:
            stack.enter_context(each.start(starting))
        yield _checked(starting.context, name) or {}


def context_of_child(
    middleware: Sequence[Middleware], parent: Invocation, name: str, key: str | None
) -> dict[str, str]:
    """What a call carries that code starts; the empty one is not that of its parent."""
    return _context_of(
        middleware, Starting(name=name, id=None, key=key, context=dict(parent.context or {}))
    )


def context_of_update(
    middleware: Sequence[Middleware], parent: Invocation, name: str, workflow: str
) -> dict[str, str]:
    """The same for an update that code asks for."""
    context = dict(parent.context or {})
    return _context_of(
        middleware, Starting(kind="update", name=name, id=workflow, key=None, context=context)
    )


def _context_of(middleware: Sequence[Middleware], starting: Starting) -> dict[str, str]:
    with ExitStack() as stack:
        for each in middleware:
            stack.enter_context(each.start(starting))
    return _checked(starting.context, starting.name) or {}


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


def replayed(
    middleware: Sequence[Middleware],
    invocation: Invocation,
    kind: Kind,
    code: Coroutine[Any, Any, Any],
) -> Coroutine[Any, Any, Any]:
    """Code that is run through its journal to be looked at: what is around it may be what it sees."""
    if not middleware:
        return code
    return around_code(middleware, invocation, kind, code, is_replay=True)
