"""The nouns: Invocation, Outcome, Failure, Entry, EntityState, and the states a call can be in.

Instants are seconds since 1970 (float), durations are seconds. A payload is JSON text or, with
MessagePack or a codec hook, bytes; the core never looks inside one.

Structs here and in the neighbouring files are made by the million and can be in no reference cycle,
so they are left out of the garbage collector (`gc=False`): its passes were a fifth of the time of a
busy node.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from fenbu._core.ids import home_of

if TYPE_CHECKING:
    Payload: TypeAlias = str | bytes
else:
    # msgspec cannot decode a union of text and bytes; MessagePack itself tells them apart.
    Payload = Any


class Unreadable(bytes):
    """A payload as it is stored, which this process cannot read. It is written back as it is."""

    reason = ""
    """Why not, in words."""
    stored: Payload = ""
    """As it is stored, which may be text."""


class Kind(StrEnum):
    """What a handler is."""

    TASK = "task"
    WORKFLOW = "workflow"
    OPERATION = "operation"


class Status(StrEnum):
    """Where a call is in its life.

    pending → running ⇄ suspended → completed | failed | cancelled | timed_out.
    From pending, running or suspended also → stuck | quarantined | unhandled | paused, and back by a
    fixed deploy, `fenbu retry` or `fenbu resume`.
    """

    PENDING = "pending"
    """Accepted; its code has not begun, or waits for `wake_at` before the next attempt."""
    RUNNING = "running"
    """Its code has begun and is, or was at the crash, in a node's memory."""
    SUSPENDED = "suspended"
    """Waits for a timer, signal or call, and is in no node's memory."""
    STUCK = "stuck"
    """Its code no longer matches its journal, or can never go on; a fixed deploy picks it up."""
    QUARANTINED = "quarantined"
    """It took its process down again and again; `fenbu retry` lets it try again."""
    UNHANDLED = "unhandled"
    """No node has registered its handler; one that does picks it up."""
    PAUSED = "paused"
    """An operator has paused it; it goes on when it is resumed."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


TASK: Final = Kind.TASK
OPERATION: Final = Kind.OPERATION
RUNNING: Final = Status.RUNNING
COMPLETED: Final = Status.COMPLETED
"""By names of their own, because every call asks for them: on Python 3.11 a member of an enum is looked up
through its metaclass, at about 900 machine instructions."""


FINISHED: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT})
TERMINATED: Final = "terminated: "
"""How the reason begins of a cancellation that has not asked the call's code."""
PARENT_ENDED: Final = "its parent has ended"
"""The reason of a cancellation by what the parent said about its end."""

PARKED: Final = frozenset({Status.STUCK, Status.QUARANTINED, Status.UNHANDLED, Status.PAUSED})


class Failure(Struct, frozen=True, gc=False):
    """An error as data: enough to raise it again where its type is known, and to read it where not."""

    type: str
    """`module:QualifiedName` of the class."""
    message: str
    traceback: str = ""
    args: str | None = None
    """JSON of the error's `args`, where they can be encoded."""
    attributes: str | None = None
    """JSON of the error's `__dict__`, as far as it can be encoded."""


class UnreadableFailure(Failure, frozen=True, gc=False):
    """One as it is stored, whose words this process cannot read."""

    reason: str = ""


class Outcome(Struct, frozen=True, gc=False):
    """How a call or a step ended. `status` is one of FINISHED."""

    status: Status
    value: Payload | None = None
    failure: Failure | None = None


class Address(Struct, frozen=True, array_like=True, gc=False):
    """Where a reply goes: a command of an invocation in a partition."""

    partition: int
    id: str
    command: int
    run: int = 0
    """Of the invocation, whose next run numbers its commands from 1 again."""


class Heartbeat(Struct, frozen=True, array_like=True, gc=False):
    """The last that the body of a task, or of a step, has said of how far it is."""

    command: int
    """0 for a task's body."""
    at: float
    text: str | None = None
    data: bytes | None = None
    """In place of `text`, where payloads are bytes."""

    @property
    def value(self) -> Payload | None:
        return self.text if self.data is None else self.data


class Invocation(Struct, kw_only=True, omit_defaults=True, gc=False):
    """One durable call: what its row holds. Mutable: only its partition changes it.

    Where it is encoded, a field that has its default is left out: what these defaults are is for good.
    """

    id: str
    partition: int
    handler: str
    """`checkout`, or `Stock.reserve` for an operation."""
    version: int = 1
    entity: str | None = None
    key: str | None = None
    args: Payload = ""
    created_at: float = 0.0
    sequence: int = 0
    """Order of acceptance within the partition; only meaningful while the call is open."""
    parent: Address | None = None
    """The command that waits for it, if any."""
    waiters: tuple[Address, ...] = ()
    """Further commands that wait for it."""
    chain: tuple[str, ...] = ()
    """The entities (`Stock/sku-1`) that the callers hold while they wait for this call."""
    deadline_at: float | None = None
    status: Status = Status.PENDING
    attempt: int = 0
    """Attempts of the body that have ended in an error (tasks only)."""
    crashes: int = 0
    """Loads after a crash without progress since."""
    started_at: float | None = None
    finished_at: float | None = None
    wake_at: float | None = None
    """When to look at it again: a delayed start, a retry, or the earliest timer of a suspended call."""
    waiting: str | None = None
    """In words, what a call that is in no memory waits for."""
    cancel_reason: str | None = None
    commands: str | None = None
    """JSON of the commands that the code issued before its first event."""
    result: Payload | None = None
    failure: Failure | None = None
    """Why it failed, why it is stuck, or the error of the last attempt."""
    heartbeats: tuple[Heartbeat, ...] = ()
    """Of its bodies that have no outcome yet, and of a task the last one for good."""
    context: dict[str, str] | None = None
    """What middleware has given it to carry, and its children after it."""
    attributes: str | None = None
    """JSON of its search attributes, see `attribute.py`."""

    def home(self, partition_count: int) -> int:
        """The partition in which it was accepted, and to which all that it is told goes: see `home_of`."""
        return home_of(self.id, self.entity, self.key, partition_count)


class EntryKind(StrEnum):
    """What a journal entry records."""

    STEP_COMPLETED = "step_completed"
    STEP_FAILED = "step_failed"
    STEP_RETRYING = "step_retrying"
    """An attempt failed and another follows at `retry_at`; resolves nothing."""
    TIMER_FIRED = "timer_fired"
    CALL_FINISHED = "call_finished"
    SIGNAL_RECEIVED = "signal_received"
    CANCEL_REQUESTED = "cancel_requested"
    INNER_BEGAN = "inner_began"
    """A reentrant operation, `name`, runs in its turn, and it stands still. `value` tells the state by itself
    that its entity had when it had its turn (`nest.py`)."""
    INNER_SET = "inner_set"
    """It leaves `value` in the lazy field `name`: comes before its end."""
    INNER_ENDED = "inner_ended"
    """`value` is the state that it leaves, if it has changed it."""
    FIELD_READ = "field_read"
    """The value of a lazy field has come; it is not here, because nothing changes it meanwhile."""
    UPDATE_RECEIVED = "update_received"
    """Its `name` is that of the update, a space, and the id of its call."""
    FORKED = "forked"
    """What comes before is from the run `name` of another call, and so are the commands up to `command`."""


STEP_COMPLETED: Final = EntryKind.STEP_COMPLETED
"""For the same reason as `COMPLETED`."""


class Entry(Struct, omit_defaults=True, gc=False):
    """One journal row: an event and the commands that the code issued in answer to it.

    Its defaults are left out like those of an `Invocation`.
    """

    id: str
    position: int
    kind: EntryKind
    at: float
    command: int = 0
    """The command that the event answers; 0 for signals and cancellation."""
    name: str | None = None
    """The signal's name, or that of an update and its id."""
    attempt: int = 0
    seconds: float | None = None
    """How long the step's attempt ran."""
    status: Status | None = None
    """The outcome of a step or call."""
    value: Payload | None = None
    failure: Failure | None = None
    retry_at: float | None = None
    commands: str | None = None
    """JSON: [kind, name, location] for each command issued in answer, in order."""


class Chunk(Struct, frozen=True, gc=False):
    """One value of a stream: a row that is written once, in the order of the numbers.

    `run`, `command` and `position` say where it comes from: what a second attempt of the same body writes at
    the same position is the same chunk.
    """

    id: str
    stream: str
    run: int
    """Of a workflow or operation that was retried: the number of its run. A task has one only."""
    command: int
    """0 for a task's body, a step's number for its body, else the command that wrote it."""
    position: int
    """How many came before it from the same body."""
    at: float
    value: Payload | None = None
    ends: bool = False
    """It is no value, but the end of the stream."""
    number: int = 0
    """Given by the database: grows from chunk to chunk of a call."""


class EntityState(Struct, frozen=True, gc=False):
    """The state of one entity between two operations."""

    entity: str
    key: str
    partition: int
    state: Payload
    version: int = 1
    changed_at: float = 0.0
    alarms: str | None = None
    """JSON: by operation, the id of the call that waits for the instant of its alarm."""
    expires_at: float | None = None
    """When it may be forgotten if nothing changes it until then."""
    fields: str | None = None
    """JSON: the names of its lazy fields that have a row."""


class EntityField(Struct, frozen=True, gc=False):
    """The value of one lazy field of an entity."""

    entity: str
    key: str
    name: str
    value: Payload


Stored: TypeAlias = Invocation | Entry | EntityState | EntityField | Chunk
"""A row with payloads."""


class Loaded(Struct, gc=False):
    """A call as the database holds it, with its journal in order of position."""

    invocation: Invocation
    entries: list[Entry]


def outcome_of(invocation: Invocation) -> Outcome:
    """The outcome of a finished call."""
    return Outcome(invocation.status, invocation.result, invocation.failure)
