"""A call comes with an id that another call has: which of them it means is said by its sender.

Who does not just take the one that exists hears what became of it from a call of its own, the *ticket*, which
has ended as soon as it is accepted. So that is found like every other outcome: from anywhere, and after every
crash. Guarantee: one-outcome. A call that is replaced has ended before the new one begins.
"""

from __future__ import annotations

from typing import Final

from fenbu._core.batch import Batch
from fenbu._core.effect import Accepted, Ended
from fenbu._core.failure import failure_of
from fenbu._core.handler import Registry
from fenbu._core.message import Call, IfExists, Reply
from fenbu._core.model import FINISHED, Invocation, Kind, Outcome, Status
from fenbu.errors import AlreadyExists

TICKET: Final = "fenbu.start"
"""The handler of tickets, which is none."""

TAKEN: Final = "true"
REFUSED: Final = "false"
"""Their results."""


def begins_anew(message: Call, before: Invocation) -> bool:
    """Whether the call takes the place of the one that exists."""
    match message.if_exists:
        case IfExists.REPLACE:
            return True
        case IfExists.AFTER_FAILURE:
            return before.status in FINISHED and before.status is not Status.COMPLETED
        case IfExists.AFTER_END:
            return before.status in FINISHED
        case IfExists.REUSE | IfExists.REJECT:
            return False


def succeed(call: Invocation, before: Invocation, registry: Registry) -> None:
    """The call takes the place of another: as a run of its own, whose steps and children have new ids."""
    spec = registry.get(call.handler, call.version)
    if spec is None or spec.kind is not Kind.TASK:  # Of a task, attempts are counted here.
        call.attempt = before.attempt + 1


def tell(batch: Batch, message: Call, now: float, *, existed: bool) -> None:
    """The sender hears what became of its call: the existing one stays, or this one begins."""
    call, id_ = message.invocation, message.ticket
    batch.effects.append(Accepted(call.id, existed))
    if id_ is None:
        return
    result = REFUSED if existed and message.if_exists is IfExists.REJECT else TAKEN
    ticket = Invocation(
        id=id_,
        partition=call.partition,
        handler=TICKET,
        args="[]",
        created_at=call.created_at,
        status=Status.COMPLETED,
        started_at=now,
        finished_at=now,
        result=result,
    )
    batch.rows.inserted.append(ticket)
    batch.effects.append(Ended(id_, Outcome(Status.COMPLETED, result)))


def refusal(message: Call) -> Reply | None:
    """What its parent hears of a call that was rejected, instead of the existing one's outcome."""
    call = message.invocation
    if message.if_exists is not IfExists.REJECT or call.parent is None:
        return None
    error = AlreadyExists(f"there is a call with the id {call.id!r} already")
    return Reply(call.parent, Outcome(Status.FAILED, failure=failure_of(error)))
