"""What a running body can know of itself, and say: which call, which attempt, how far it is, how long it may.

`current` is all that is set for each body. Whatever else it asks for is found by way of its host, the
executor that runs it: so it costs nothing where nobody asks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar, overload
from weakref import WeakSet

from msgspec import Struct

from fenbu._core.codec import Codec
from fenbu._core.effect import RunBody
from fenbu._node.time_limit import Allowance
from fenbu.errors import CallCancelled

T = TypeVar("T")


class Host(Protocol):
    """What runs bodies."""

    @property
    def codec(self) -> Codec:
        """How heartbeats are stored."""
        ...

    def has(self, body: RunBody) -> bool:
        """Whether this body runs here. From any thread."""
        ...

    def beat(self, body: RunBody, value: object) -> None:
        """It says how far it is. From any thread."""
        ...

    def time_limit(self, body: RunBody) -> Allowance | None:
        """How long it may run, if anything limits it. From any thread."""
        ...


hosts: WeakSet[Host] = WeakSet()
"""Of this process; in a simulation, those of all of its nodes."""


class Attempt(Struct, frozen=True, gc=False):
    """One run of a task's body or of a step."""

    id: str
    """The invocation's id."""
    name: str
    """The handler's or the step function's name."""
    number: int
    """1 for the first attempt."""
    idempotency_key: str
    """The same for each attempt of this step, different for each other step: hand it to services
    that can tell a repeated request by it."""
    _body: RunBody | None = None

    def __repr__(self) -> str:
        return f"Attempt(id={self.id!r}, name={self.name!r}, number={self.number})"

    @property
    def context(self) -> Mapping[str, str]:
        """What middleware has given the call to carry."""
        return {} if self._body is None else self._body.context or {}

    def heartbeat(self, value: object = None) -> None:
        """Say that the body is alive, and how far it is. From any thread; call it as often as you like.

        The value is stored about once a second, and once more when the attempt ends, together with whatever
        else the node writes then. The next attempt finds it with `last_heartbeat`, on whichever node it runs,
        and whoever waits for a task with `handle.progress()`.

        Raises:
            EncodingError: The value cannot be encoded.
            CallCancelled: The attempt is over: it was cancelled, or its time was up. A plain function, which
                nobody can interrupt, ends by this.

        Example:
            ```python
            @app.task(retry=Retry(), heartbeat_timeout=30)
            async def copy(table: str) -> None:
                start = fenbu.current_attempt().last_heartbeat(int) or 0
                for number in range(start, await count(table)):
                    await copy_row(table, number)
                    fenbu.heartbeat(number + 1)
            ```
        """
        self._host().beat(self._required(), value)

    @overload
    def last_heartbeat(self) -> Any: ...
    @overload
    def last_heartbeat(self, type: type[T]) -> T | None: ...
    def last_heartbeat(self, type: Any = Any) -> Any:  # noqa: A002
        """What an earlier attempt of this body has said last; None if it said nothing.

        Args:
            type: What it is decoded to; without it, to plain data.

        Raises:
            EncodingError: It is no such value.
        """
        body = self._required()
        last = None if body.heartbeat is None else body.heartbeat.value
        return None if last is None else self._host().codec.of(type).decode(last)

    @property
    def remaining_seconds(self) -> float | None:
        """Until its soft limit, and when that has passed until its hard one; None without either."""
        limit = self._host().time_limit(self._required())
        return None if limit is None else limit.remaining_seconds()

    @property
    def deadline(self) -> datetime | None:
        """The same as an instant, in UTC."""
        remaining = self.remaining_seconds
        return None if remaining is None else datetime.now(UTC) + timedelta(seconds=remaining)

    @property
    def time_is_up(self) -> threading.Event:
        """An event that is set at the first of them, for plain functions: nothing can be raised there."""
        limit = self._host().time_limit(self._required())
        return threading.Event() if limit is None else limit.event()

    def _required(self) -> RunBody:
        if self._body is None:
            raise CallCancelled(f"{self.name} {self.id}: this attempt does not run")
        return self._body

    def _host(self) -> Host:
        body = self._required()
        for each in list(hosts):
            if each.has(body):
                return each
        raise CallCancelled(
            f"{self.name} {self.id}: attempt {self.number} is over: it was cancelled, its time was up, or "
            "its node has stopped; nobody waits for it"
        )


def attempt_of(body: RunBody) -> Attempt:
    """What a body can know of itself."""
    key = f"{body.run}:{body.command}"
    return Attempt(body.id, body.name, body.attempt, key, body)


current: ContextVar[RunBody | None] = ContextVar("fenbu_body", default=None)
"""The body that is running; an `Attempt` is made of it only when it is asked for."""
