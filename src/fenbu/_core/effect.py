"""What the core asks of its node, to be done once the batch that carries it is durable.

Nothing leaves a node, neither a body's side effect nor a word to a client, before what led to it is on
disk. Loads wait for their batch too: so they never read a row that is about to change.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from fenbu._core.model import Heartbeat, Outcome
from fenbu._core.work import Work


class RunBody(Struct, eq=False, gc=False):
    """Run a task's body (command 0) or a step's function, and report `BodyEnded`."""

    partition: int
    id: str
    command: int
    attempt: int
    run: str
    """Names this run of the call: with the command it makes the idempotency key."""
    work: Work
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    chain: tuple[str, ...]
    heartbeat: Heartbeat | None = None
    """The last of an earlier attempt."""
    context: dict[str, str] | None = None
    """That of its call."""
    home: Any = None
    """Takes what it writes to streams: set by the node that runs it."""
    places: Any = None
    """How far it has come in each stream: kept there."""

    @property
    def name(self) -> str:
        """The handler's or the step's."""
        return self.work.name


class StopBody(Struct, frozen=True, gc=False):
    """Nobody waits for this body any longer: cancel it."""

    id: str
    command: int


class Accepted(Struct, frozen=True, gc=False):
    """The call with an id that its caller chose is durable; `existed` if it was there before."""

    id: str
    existed: bool


class Moved(Struct, frozen=True, gc=False):
    """A call goes on in another partition: who waits for it here finds it in the database."""

    id: str


class Ended(Struct, frozen=True, gc=False):
    """A call has its outcome."""

    id: str
    outcome: Outcome


class Written(Struct, frozen=True, gc=False):
    """A stream of a call has a chunk more."""

    id: str


class Begin(Struct, frozen=True, gc=False):
    """A loaded call is marked as begun: give it back as the event `MarkDurable`."""

    partition: int
    id: str


class LoadCalls(Struct, frozen=True, gc=False):
    """Answer with `CallsLoaded`. `batch` is the one that carries the request, here and below."""

    partition: int
    batch: int
    ids: tuple[str, ...]


class LoadEntity(Struct, frozen=True, gc=False):
    """Answer with `EntityLoaded`."""

    partition: int
    entity: str
    key: str


class LoadFields(Struct, frozen=True, gc=False):
    """Answer with `FieldsLoaded`."""

    partition: int
    batch: int
    entity: str
    key: str
    names: tuple[str, ...]


class LoadReady(Struct, frozen=True, gc=False):
    """Answer with `ReadyLoaded`."""

    partition: int
    batch: int
    after: int
    until: int


class LoadOperations(Struct, frozen=True, gc=False):
    """Answer with `OperationsLoaded`."""

    partition: int
    batch: int
    entity: str
    key: str
    after: int
    until: int


class WakeAt(Struct, frozen=True, gc=False):
    """A call outside memory is to be loaded at this instant."""

    at: float


class Warn(Struct, frozen=True, gc=False):
    """Something that people should know."""

    text: str


class ReadInbox(Struct, frozen=True, gc=False):
    """This batch put messages into an inbox of this node."""


Effect: TypeAlias = (
    RunBody | StopBody | Accepted | Moved | Ended | Written | Begin | LoadCalls | LoadEntity | LoadReady
    | LoadOperations | LoadFields | WakeAt | ReadInbox | Warn
)  # fmt: skip
