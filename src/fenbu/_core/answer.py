"""What a workflow's code answers: the queries and updates that it has registered, and the updates under way.

Registered in the code's own body, so that they see its variables, and registered again by each replay.
An update's function runs as a task of the code; when it has ended, that is a command (`EndUpdate`), so the
journal says which updates are answered, and a replay that answers at another place is found out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from fenbu._core.anew import answering
from fenbu._core.codec import Codec
from fenbu._core.failure import failure_of
from fenbu._core.middleware import Middleware, Running, around
from fenbu._core.model import Invocation, Outcome, Payload, Status
from fenbu._core.retry import explained
from fenbu._core.signature import Signature
from fenbu.errors import EncodingError, UsageError

BY_POSITION: Final = ""
"""Stands where arguments have their names, for those that have none: no parameter can be called so."""


class _HasCodec(Protocol):
    @property
    def codec(self) -> Codec: ...

    middleware: Sequence[Middleware]


class Query(Struct, eq=False):
    """A function that reads a workflow's variables."""

    function: Callable[..., Any]
    signature: Signature


class UpdateHandler(Struct, eq=False):
    """A function that serves an update, and the one that may refuse it."""

    function: Callable[..., Any]
    signature: Signature
    validator: Callable[..., object] | None = None


class Answers:
    """Of one activation; see the module."""

    __slots__ = ("accepting", "context", "ended", "looking_up", "queries", "running", "updates")

    def __init__(self, context: _HasCodec, ended: Callable[[str, Outcome], None]) -> None:
        self.context = context
        self.ended = ended
        """Told the name of an update's entry, and what came of it."""
        self.queries: dict[str, Query] = {}
        self.updates: dict[str, UpdateHandler] = {}
        self.running: set[str] = set()
        """Names of the entries of updates that are not answered."""
        self.accepting: Invocation | None = None
        """The update whose row is in the batch that is open."""
        self.looking_up = False
        """It is being found out whether an update exists already: what comes after it waits."""

    def query(self, name: str, handler: str) -> Query:
        """A query by its name.

        Raises:
            UsageError: There is none; it names those that there are.
        """
        found = self.queries.get(name)
        if found is None:
            raise UsageError(_none("query", name, handler, self.queries))
        return found

    def update(self, name: str, handler: str) -> UpdateHandler:
        """What serves an update.

        Raises:
            UsageError: There is nothing; it names what there is.
        """
        found = self.updates.get(name)
        if found is None:
            raise UsageError(_none("update", name, handler, self.updates))
        return found

    def described(self, name: str, workflow: str, *, is_replay: bool) -> Running | None:
        """An update that is about to be served, as middleware sees it; None without any."""
        if not self.context.middleware:
            return None
        # The journal has not what it carries.
        context = {} if self.accepting is None else self.accepting.context or {}
        return Running(kind="update", name=name, id=workflow, context=context, is_replay=is_replay)

    async def serve(
        self, entry_name: str, handler: UpdateHandler, payload: Payload, what: Running | None
    ) -> None:
        """The task of an update; `what` is for middleware."""
        answering.set(True)  # In a context of its own.
        try:
            args, kwargs = arguments(self.context.codec, handler.signature, payload)
            if what is None:
                value = await _called(handler, args, kwargs)
            else:
                with around(self.context.middleware, what):
                    value = await _called(handler, args, kwargs)
            outcome = Outcome(Status.COMPLETED, handler.signature.result.encode(value))
        except GeneratorExit:
            raise
        except asyncio.CancelledError:
            outcome = Outcome(Status.CANCELLED)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is the update's outcome
            error = explained(error, f"update {entry_name.partition(' ')[0]}")
            outcome = Outcome(Status.FAILED, failure=failure_of(error))
        self.ended(entry_name, outcome)
        self.running.discard(entry_name)


async def _called(handler: UpdateHandler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = handler.function(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def arguments(
    codec: Codec, signature: Signature, payload: Payload
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a query or update. Who asks does not know the function, and sends a list, or names.

    If some go by position and some by name, the list stands beside the names, in the member `BY_POSITION`.

    Raises:
        UsageError: They do not fit the parameters.
    """
    given = codec.of(Any).decode(payload)
    args: Any = given
    kwargs: dict[str, Any] = {}
    if isinstance(given, dict):
        kwargs = dict(given)  # pyright: ignore[reportUnknownArgumentType]
        args = kwargs.pop(BY_POSITION, [])
    if not isinstance(args, list):
        raise EncodingError(f"{signature.name}: arguments are a list or an object, not {given!r}")
    return signature.decode(signature.encode(tuple(args), kwargs))  # pyright: ignore[reportUnknownArgumentType]


def _none(what: str, name: str, handler: str, known: dict[str, Any]) -> str:
    return f"{handler} has no {what} {name!r}; it has: {', '.join(sorted(known)) or 'none'}"
