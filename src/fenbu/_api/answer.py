"""Inside workflow code: queries and updates that it answers while it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from fenbu._api.context import required_activation
from fenbu._core.activation import Activation, answers_of
from fenbu._core.answer import Answers, Query
from fenbu._core.answer import UpdateHandler as Handler
from fenbu._core.handler import Registry
from fenbu._core.signature import Signature
from fenbu.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


class UpdateHandler(Generic[P, R]):
    """What `on_update` makes of a function; the workflow's own code may call it like the function."""

    def __init__(self, function: Callable[P, R], handler: Handler) -> None:
        self._function = function
        self._handler = handler
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; nothing is recorded, and its validator is not asked."""
        return self._function(*args, **kwargs)

    def validator(self, function: Callable[P, None]) -> Callable[P, None]:
        """Let a function look at each update first: by raising it refuses the update.

        It gets the update's arguments, and only looks: what it asks for is an error, and what it changes is
        not repeated. A refused update fails with the error, and leaves no trace in the workflow's journal.

        Raises:
            UsageError: It is an `async def`.
        """
        _check_plain(function, "a validator")
        self._handler.validator = function
        return function


@overload
def on_query(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def on_query(*, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def on_query(function: Any = None, /, *, name: str | None = None) -> Any:
    """Let a function of a workflow's body answer queries: it returns what it sees in the body's variables.

    Register it at the top of the body, before the first `await`. It is a plain `def` and only looks. It is
    asked with `handle.query(name, …)`, from anywhere, and also when the workflow has ended.

    Args:
        function: A plain function; its annotations say how arguments and result are stored.
        name: What it is asked by; default: the function's name.

    Raises:
        UsageError: This is not the code of a workflow, or the name is taken.

    Example:
        ```python
        @app.workflow
        async def cart(user: str) -> int:
            items: list[str] = []

            @on_query
            def count() -> int:
                return len(items)
            ...
        ```
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _check_plain(function, "a query")
        answers, known, signature = _place("on_query", function, name)
        _check_free("query", known, answers.queries)
        answers.queries[known] = Query(function, signature)
        return function

    return register if function is None else register(function)


@overload
def on_update(function: Callable[P, R], /) -> UpdateHandler[P, R]: ...
@overload
def on_update(*, name: str) -> Callable[[Callable[P, R]], UpdateHandler[P, R]]: ...
def on_update(function: Any = None, /, *, name: str | None = None) -> Any:
    """Let a function of a workflow's body serve updates: it may change the body's variables, and answers.

    Register it at the top of the body, before the first `await`. As an `async def` it may await steps, calls
    and timers, beside the body and other updates. What it returns or raises is what who asked gets. It is
    asked with `handle.update(name, …)`, and each update is carried into the journal once, in order of
    acceptance. When the workflow ends, updates that are not answered fail with `CallEnded`; to let them end
    first, wait for `updates_running() == 0`.

    Args:
        function: Its annotations say how arguments and result are stored.
        name: What it is asked by; default: the function's name.

    Raises:
        UsageError: This is not the code of a workflow, or the name is taken.

    Example:
        ```python
        @on_update
        async def add(sku: str) -> int:
            await step(reserve, sku)
            items.append(sku)
            return len(items)

        @add.validator
        def check(sku: str) -> None:
            if sku in items:
                raise ValueError("it is in the cart already")
        ```
    """

    def register(function: Callable[..., Any]) -> UpdateHandler[..., Any]:
        answers, known, signature = _place("on_update", function, name)
        _check_free("update", known, answers.updates)
        handler = answers.updates[known] = Handler(function, signature)
        return UpdateHandler(function, handler)

    return register if function is None else register(function)


def updates_running() -> int:
    """How many updates of this workflow have been taken and are not answered yet.

    Raises:
        UsageError: This is not the code of a workflow.

    Example:
        ```python
        await wait_until(lambda: closed and updates_running() == 0)
        ```
    """
    answers = _workflow("updates_running()").answers
    return 0 if answers is None else len(answers.running)


def _workflow(what: str) -> Activation:
    running = required_activation(what)
    if running.invocation.key is not None:
        raise UsageError(f"{what} belongs into a workflow: an entity answers with its operations")
    return running


def _place(
    what: str, function: Callable[..., Any], name: str | None
) -> tuple[Answers, str, Signature]:
    running = _workflow(what)
    known = name or getattr(function, "__name__", "")
    if not known.isprintable() or not known or " " in known:
        raise UsageError(
            f"{what}: {known!r} is no name: it needs printable characters and no space"
        )
    codec = cast("Registry", running.context).codec
    return answers_of(running), known, Signature(function, codec)


def _check_free(what: str, name: str, known: dict[str, Any]) -> None:
    if name in known:
        raise UsageError(f"{what} {name!r} is registered twice; give one of them `name=…`")


def _check_plain(function: Callable[..., Any], what: str) -> None:
    if inspect.iscoroutinefunction(function) or not callable(function):
        raise UsageError(f"{what} only looks, so it is a plain `def`, not {function!r}")
