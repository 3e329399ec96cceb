"""What a running body can know of itself: which call, which attempt, its idempotency key."""

from __future__ import annotations

from contextvars import ContextVar

from msgspec import Struct

from fenbu._core.effect import RunBody


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


def attempt_of(body: RunBody) -> Attempt:
    """What a body can know of itself."""
    key = f"{body.run}:{body.command}"
    return Attempt(body.id, body.name, body.attempt, key)


current: ContextVar[RunBody | None] = ContextVar("fenbu_body", default=None)
"""The body that is running; an `Attempt` is made of it only when it is asked for."""
