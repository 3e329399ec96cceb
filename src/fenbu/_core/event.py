"""What happens to a partition besides messages, in past tense: reported by its node."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fenbu._core.model import EntityState, Heartbeat, Loaded, Outcome, Payload
from fenbu._core.retry import Retry


class BodyEnded(Struct, frozen=True, gc=False):
    """A task's body (command 0) or a step ended."""

    partition: int
    id: str
    command: int
    attempt: int
    outcome: Outcome
    seconds: float
    retryable: bool = False
    """Its retry policy allows another attempt after this error."""
    random: float = 0.0
    """In [0, 1): spreads the delay before that attempt."""
    after: float | None = None
    """It asked for this delay itself, and has not spent an attempt."""
    run: str = ""
    """That of the body: a step of an earlier run of the call may have the same number."""

    @property
    def attempts_spent(self) -> int:
        """With this one."""
        return self.attempt - (self.after is not None)

    def next_at(self, retry: Retry, began: float, now: float) -> float | None:
        """When the next attempt begins, if there is to be one; the first one began at `began`."""
        if not self.retryable:
            return None
        after = retry.delay(self.attempt, self.random) if self.after is None else self.after
        if retry.total_seconds is not None and now + after > began + retry.total_seconds:
            return None
        return now + after

    def final(self, retry: Retry) -> Outcome:
        """Its outcome, if there is no next attempt: one that asked for that says why."""
        failure = self.outcome.failure
        if self.after is None or failure is None or retry.total_seconds is None:
            return self.outcome
        text = (
            f"{failure.message}: it asked to run again in {self.after:g} seconds, and that is later than "
            f"{retry.total_seconds:g} seconds after its first attempt (total_seconds)"
        )
        known = msgspec.json.decode(failure.attributes or "{}", type=dict[str, Any])
        attributes = msgspec.json.encode({**known, "is_over": True}).decode()
        told = replace(failure, message=text, args=None, attributes=attributes)
        return replace(self.outcome, failure=told)


class BodyBeat(Struct, frozen=True, gc=False):
    """A body that runs has said how far it is."""

    partition: int
    id: str
    attempt: int
    heartbeat: Heartbeat


class MarkDurable(Struct, frozen=True, gc=False):
    """The mark that a loaded call has begun is on disk."""

    partition: int
    id: str


class CallsLoaded(Struct, frozen=True, gc=False):
    """The answer to `LoadCalls`: what was asked for and what was found.

    `batch` is that of the request, here and below: what later batches changed is not in the answer.
    """

    partition: int
    batch: int
    ids: tuple[str, ...]
    found: list[Loaded]


class EntityLoaded(Struct, frozen=True, gc=False):
    """The answer to `LoadEntity`; `state` is None for an entity that does not exist."""

    partition: int
    entity: str
    key: str
    state: EntityState | None


class FieldsLoaded(Struct, frozen=True, gc=False):
    """The answer to `LoadFields`: values by name; those without a row are left out."""

    partition: int
    batch: int
    entity: str
    key: str
    names: tuple[str, ...]
    found: dict[str, Payload]


class ReadyLoaded(Struct, frozen=True, gc=False):
    """The answer to `LoadReady`; `complete` if nothing more was there up to `until`."""

    partition: int
    batch: int
    until: int
    found: list[Loaded]
    complete: bool


class OperationsLoaded(Struct, frozen=True, gc=False):
    """The answer to `LoadOperations`; `complete` if nothing more was there up to `until`."""

    partition: int
    batch: int
    entity: str
    key: str
    until: int
    found: list[Loaded]
    complete: bool


class DueLoaded(Struct, frozen=True, gc=False):
    """Calls outside memory whose time has come."""

    partition: int
    batch: int
    found: list[Loaded]


Event: TypeAlias = (
    MarkDurable | CallsLoaded | EntityLoaded | ReadyLoaded | OperationsLoaded
    | DueLoaded | FieldsLoaded
)  # fmt: skip
