"""What workflow and operation code asks for, numbered 1, 2, 3, … in the order in which it asks.

A command is recorded as (kind, name, location), and what a replay compares are kind and name: the arguments
may change with a fix, what is asked for may not. The location is for people. Behind it stands what is needed
of a call that is to end with its caller, when that cannot be asked: see `StartCall.tie`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, TypeAlias

from msgspec import Struct

from fenbu._core.message import IfExists
from fenbu._core.model import Failure, Outcome, Payload
from fenbu._core.work import Work


class RunStep(Struct, gc=False):
    """Run a function outside and record its outcome."""

    name: str
    location: str
    work: Work
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    kind = "step"


class StartTimer(Struct, gc=False):
    """Wake at an instant."""

    when: float
    location: str
    kind = "timer"
    name = ""


class ParentEnd(StrEnum):
    """What becomes of a call when the one that started it ends, or continues as new."""

    ABANDON = "abandon"
    """It goes on."""
    CANCEL = "cancel"
    """It is asked to stop."""
    WAIT = "wait"
    """The parent ends after it. If the parent is cancelled, so is it."""


ABANDON: Final = ParentEnd.ABANDON
"""See `model.COMPLETED` for why."""

AWAITED: Final = "awaited"
"""How a call is tied to the one that waits for it; others are by their `ParentEnd`."""


class StartCall(Struct, gc=False):
    """Start a call; with `wait`, its outcome comes back."""

    name: str
    version: int
    location: str
    entity: str | None
    key: str | None
    args: Payload
    id: str | None
    delay_seconds: float
    timeout_seconds: float | None
    wait: bool
    parent_end: ParentEnd = ParentEnd.ABANDON
    if_exists: IfExists = IfExists.REUSE
    context: dict[str, str] | None = None
    """What it carries, if not what its caller does."""
    attributes: str | None = None
    kind = "call"

    @property
    def tie(self) -> tuple[str, ...]:
        """What is recorded of a call that is to end with its caller: how, its id, its entity and key."""
        how = AWAITED if self.wait else self.parent_end.value
        if how == ParentEnd.ABANDON.value:
            return ()
        if self.entity is not None:
            return (how, self.id or "", self.entity, self.key or "")
        return (how,) if self.id is None else (how, self.id)


class AwaitCall(Struct, gc=False):
    """Wait for the outcome of a call that exists."""

    name: str
    location: str
    partition: int
    kind = "await"


class SendSignal(Struct, gc=False):
    """Send a named value to a call."""

    name: str
    location: str
    partition: int
    id: str
    value: Payload | None
    failure: Failure | None = None
    kind = "signal"


class SendUpdate(Struct, gc=False):
    """Ask a workflow for something, and wait for what comes of it."""

    name: str
    location: str
    partition: int
    id: str
    """The workflow."""
    args: Payload
    update_id: str | None
    context: dict[str, str] | None = None
    """See `StartCall`."""
    kind = "update"


class EndUpdate(Struct, gc=False):
    """The code has answered an update. `name` is as in the entry that brought it.

    It has no number: nothing ever answers it.
    """

    name: str
    outcome: Outcome
    location = ""
    kind = "updated"


class OpenCallback(Struct, gc=False):
    """Somebody outside is to complete something: its number is in the token that he gets."""

    location: str
    name = ""
    kind = "callback"


class CancelCall(Struct, gc=False):
    """Ask a call to stop, or end it `at_once`. `name` is its id."""

    name: str
    location: str
    partition: int
    reason: str
    at_once: bool = False
    kind = "cancel"


class WriteChunk(Struct, gc=False):
    """Append a value to a stream of the call. `name` is the stream's."""

    name: str
    location: str
    value: Payload
    kind = "write"


class CloseStream(Struct, gc=False):
    """End a stream of the call before the call ends. `name` is the stream's."""

    name: str
    location: str
    kind = "close"


class AppendEvent(Struct, gc=False):
    """Append to a topic's log, which is a stream that belongs to no call. `name` is the log's id."""

    name: str
    location: str
    number: int
    """How many events came before it."""
    value: Payload
    kind = "append"


class AbandonStep(Struct, gc=False):
    """The code no longer waits for a step: its body may stop. `name` is the step's number."""

    name: str
    location: str
    command: int
    kind = "abandon"


class SetAttributes(Struct, gc=False):
    """Change the call's search attributes. `name` is their names."""

    name: str
    location: str
    changes: str
    """JSON, see `attribute.py`."""
    kind = "attributes"


class ReadField(Struct, gc=False):
    """Read the row of a lazy field of the entity. `name` is the field's."""

    name: str
    location: str
    kind = "field"


class SeeField(Struct, gc=False):
    """The code sees a lazy field that is in memory: it is recorded, so that a replay has it there, too.

    Answered at once. It has a number, so that all others are the same whether it was in memory or not.
    """

    name: str
    location: str
    kind = "sees"


class MarkPatch(Struct, gc=False):
    """The code has taken the new way of a change: it is recorded, nothing else is done.

    It has no number, so that all others keep theirs when the mark goes from the code.
    """

    name: str
    location: str
    kind = "patch"


UNNUMBERED: Final = frozenset({MarkPatch.kind, EndUpdate.kind})
"""The kinds of commands that have no number."""

Command: TypeAlias = (
    RunStep | StartTimer | StartCall | AwaitCall | SendSignal | SendUpdate | EndUpdate | OpenCallback
    | CancelCall | AbandonStep | MarkPatch | WriteChunk | CloseStream | AppendEvent | SetAttributes
    | ReadField | SeeField
)  # fmt: skip
