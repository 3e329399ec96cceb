"""Where code runs, and what it may ask there: the time, chance and names that a replay repeats."""

from __future__ import annotations

import random as random_module
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from fenbu._core.activation import Activation
from fenbu._core.activation import current as current_activation
from fenbu._node.attempt import Attempt, attempt_of, current
from fenbu.errors import UsageError


def activation() -> Activation | None:
    """The workflow or operation whose code is running, if that is what runs."""
    return current_activation.get()


def required_activation(what: str) -> Activation:
    """The running workflow or operation.

    Raises:
        UsageError: Something else is running.
    """
    found = current_activation.get()
    if found is None:
        raise UsageError(f"{what} belongs into the code of a workflow or an entity's operation")
    return found


def now() -> datetime:
    """The time, in UTC. In workflow and entity code: the time of the last event, the same at each replay.

    Example:
        ```python
        if fenbu.now() > order.expires_at: ...
        ```
    """
    running = activation()
    if running is None:
        return datetime.now(UTC)
    return datetime.fromtimestamp(running.loop.now, UTC)


def rng() -> random_module.Random:
    """A source of random numbers; in workflow and entity code the same ones at each replay."""
    running = activation()
    return random_module.Random() if running is None else running.random  # noqa: S311


def random() -> float:
    """A random number in [0, 1); in workflow and entity code the same at each replay."""
    return rng().random()


def uuid4() -> uuid.UUID:
    """A random UUID; in workflow and entity code the same at each replay."""
    running = activation()
    if running is None:
        return uuid.uuid4()
    return uuid.UUID(int=running.random.getrandbits(128), version=4)


def patched(name: str) -> bool:
    """Whether this call takes the new way of a change to the code of a workflow or operation.

    True for a call that comes here for the first time, and at each replay of it; False for one that came by
    before the change was there, which goes on in the old way to its end. When none of those is left
    (`fenbu check-deploy` says so), the old way and the mark may go.

    Args:
        name: Names the change; each change has its own, and the same name means the same decision.

    Raises:
        UsageError: Something else than the code of a workflow or operation is running.

    Example:
        ```python
        if patched("fraud-check"):
            await step(check_fraud, order)
        await step(charge, order)
        ```
    """
    return required_activation("patched()").patched(name)


def journal_length() -> int:
    """How many entries the journal of the running workflow or operation has; the same at each replay.

    A long one is slow to replay, and 50,000 are refused: let a workflow that lives long continue as new after
    some thousands.

    Raises:
        UsageError: Something else than the code of a workflow or operation is running.

    Example:
        ```python
        if fenbu.journal_length() > 5_000:
            watch.continue_as_new(seen)
        ```
    """
    return required_activation("journal_length()").position


def current_id() -> str:
    """The id of the call whose code, step or task body is running.

    Raises:
        UsageError: No call's code is running.
    """
    running = activation()
    if running is not None:
        return running.invocation.id
    return _required_attempt("current_id()").id


def current_attempt() -> Attempt:
    """The running attempt of a step or task body: its number, its idempotency key.

    Raises:
        UsageError: This is not the body of a step or task.

    Example:
        ```python
        async def charge(card: str, cents: int) -> str:
            key = fenbu.current_attempt().idempotency_key
            return await bank.charge(card, cents, idempotency_key=key)
        ```
    """
    return _required_attempt("current_attempt()")


def _required_attempt(what: str) -> Attempt:
    body = current.get()
    if body is None or activation() is not None:
        raise UsageError(f"{what} belongs into the body of a step or a task")
    return attempt_of(body)


def heartbeat(value: object = None) -> None:
    """Say that the running task or step is alive, and how far it is. See `Attempt.heartbeat`.

    Raises:
        UsageError: This is not the body of a step or task.
        EncodingError: The value cannot be encoded.
        CallCancelled: The attempt is over: it was cancelled, or its time was up.

    Example:
        ```python
        for number, row in enumerate(rows):
            copy(row)
            fenbu.heartbeat(number)
        ```
    """
    _required_attempt("heartbeat()").heartbeat(value)


def current_context() -> Mapping[str, str]:
    """What middleware has given the running call to carry; empty outside calls. See `Middleware`."""
    running, body = activation(), current.get()
    if running is not None:
        return running.invocation.context or {}
    return {} if body is None else body.context or {}
