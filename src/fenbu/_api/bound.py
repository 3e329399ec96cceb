"""Calls as values: a durable function with its arguments, for many that are started or made together."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from fenbu._api.context import activation
from fenbu._api.handle import Handle
from fenbu._api.options import CallOptions
from fenbu._api.runtime import Runtime
from fenbu._api.transaction import start_calls
from fenbu._core.activation import Activation
from fenbu._core.location import caller
from fenbu._core.message import Call
from fenbu._core.model import Payload
from fenbu.errors import UsageError

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Callee(Protocol[R_co]):
    """What is asked of a `DurableFunction`."""

    @property
    def chosen(self) -> CallOptions:
        """How calls are to be made."""
        ...

    def make(self, payload: Payload, location: str) -> Coroutine[Any, Any, R_co]:
        """Make the call and wait for its result."""
        ...

    def message(self, payload: Payload) -> Call:
        """The message that makes the call."""
        ...

    def start_inside(self, running: Activation, payload: Payload, location: str) -> Handle[Any]:
        """Start the call from workflow or entity code."""
        ...

    def handle_of(self, call: Call) -> Handle[Any]:
        """The handle of that call."""
        ...


class Bound(Struct, Generic[R_co], frozen=True, eq=False):
    """A call that has not been made yet: a function with its arguments, for `start_many` and `App.map`."""

    function: Callee[R_co]
    args: Payload

    @property
    def id(self) -> str | None:
        """What its caller has chosen."""
        return self.function.chosen.id

    def make(self, location: str) -> Coroutine[Any, Any, R_co]:
        """Used by `map`."""
        if self.function.chosen.transaction is not None:
            raise UsageError("map() waits for results, which come when a transaction has committed")
        return self.function.make(self.args, location)


async def start_many(runtime: Runtime, calls: Iterable[Bound[R]]) -> list[Handle[R]]:
    """See `App.start_many`."""
    running = activation()
    if running is not None:
        location = caller()
        return [each.function.start_inside(running, each.args, location) for each in calls]
    bound = list(calls)
    messages = [each.function.message(each.args) for each in bound]
    if messages:
        used = [each.function.chosen.transaction for each in bound]
        transactions = {id(each): each for each in used}
        if len(transactions) > 1:
            raise UsageError(
                "calls that are started together belong to one transaction, or to none"
            )
        await start_calls(runtime, messages, *transactions.values())
    return [each.function.handle_of(call) for each, call in zip(bound, messages, strict=True)]
