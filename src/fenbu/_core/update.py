"""The calls of updates: an update is a row like every other call, and its workflow's code is what runs it.

Until the code has taken it, it is a message in the inbox and nothing else, in order with the workflow's
signals. The batch in which the code takes it writes its row together with the journal entry, and if it is
answered there too, the row has its outcome at once. If later, the batch with the answer sends it to the row,
as a `Reply`: so an update needs no place in memory, and stays where it is when its workflow moves on.
Guarantee: one-outcome. A refused update is a row that has failed, and no entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fenbu._core import ids
from fenbu._core.effect import Ended
from fenbu._core.failure import failure_of
from fenbu._core.message import Reply, guarded
from fenbu._core.model import Address, Invocation, Kind, Outcome, Payload, Status
from fenbu.errors import CallEnded, UsageError

if TYPE_CHECKING:
    from fenbu._core.engine import Engine

HANDLER: Final = "fenbu.update"
"""Stands in the rows of updates where other calls have their handler; `key` is the update's name."""


def call_of(
    workflow: str,
    id: str,  # noqa: A002
    *,
    partition: int,
    name: str,
    args: Payload,
    now: float,
    parent: Address | None = None,
    context: dict[str, str] | None = None,
) -> Invocation:
    """The call of an update that is given this id."""
    return Invocation(
        id=ids.update_id(workflow, id),
        partition=partition,
        handler=HANDLER,
        key=name,
        args=args,
        created_at=now,
        parent=parent,
        context=context,
    )


def entry_name(call: Invocation) -> str:
    """Names an update in its workflow's journal."""
    return f"{call.key} {call.id}"


def insert(engine: Engine, call: Invocation, partition: int) -> None:
    """Write the row of an update with the open batch.

    Its sequence is below all others, so that it is never loaded to be run.
    """
    call.partition, call.version = partition, 1
    restore(engine, call)


def restore(engine: Engine, call: Invocation) -> None:
    """The same for one that comes from elsewhere, as it is."""
    call.sequence = 0
    engine.batch.rows.inserted.append(call)
    engine.loads.changed(call.id, engine.batch.number)


def end(engine: Engine, call: Invocation, outcome: Outcome, now: float) -> None:
    """It has its outcome: for its row, which the open batch writes, and for all who wait."""
    call.status = outcome.status
    call.result, call.failure = outcome.value, outcome.failure
    call.finished_at = now
    call.waiting = None
    if call.started_at is None:
        call.started_at = now
    engine.batch.effects.append(Ended(call.id, outcome))
    for address in (call.parent, *call.waiters):
        if address is not None:
            engine.send(guarded(Reply(address, outcome)))


def ended_first(workflow: str) -> Outcome:
    """What becomes of an update whose workflow ends, or begins anew, before it has answered."""
    error = CallEnded(f"call {workflow} has ended, or continued as new, without an answer")
    return Outcome(Status.FAILED, failure=failure_of(error))


def not_for(kind: Kind, id: str) -> UsageError:  # noqa: A002
    """Why a call that is no workflow answers nothing."""
    return UsageError(f"{id} is of kind {kind}: only workflows answer queries and updates")
