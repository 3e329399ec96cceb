"""The first run of a call that was forked: where its own history begins. See `fork.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fenbu._core import dispatch, fork, journal
from fenbu._core.command import RunStep, StartTimer
from fenbu._core.message import Call, Update

if TYPE_CHECKING:
    from fenbu._core.activation import Activation
    from fenbu._core.engine import Engine
    from fenbu._core.model import Entry


def branch(engine: Engine, activation: Activation, entries: list[Entry], now: float) -> None:
    """The code has been replayed up to the fork; what it asks for there goes into the journal.

    Steps and timers are left to whoever resumes it, which asks for all that are waited for.
    """
    asked, mark, batch = activation.issued, entries[-1], engine.batch
    invocation = activation.invocation
    if invocation.deadline_at is None:
        # Who has forked it need not know its handler, and the node that has accepted it neither.
        invocation.deadline_at = engine.deadline(
            invocation.handler, invocation.version, None, invocation.created_at
        )
    mark.attempt, mark.at = 1, now
    mark.commands = journal.record(asked)
    batch.forget(invocation)
    batch.rows.entries.extend(entries)
    for number in fork.unanswered(activation, entries):
        command = activation.waiting[number][1]
        message = dispatch.message_of(engine, activation, number, command, now)
        if isinstance(message, Call | Update):
            # It may be there already: then its outcome, past or to come, is this call's too.
            message = replace(message, fresh=False)
        engine.send(message)
    activation.issued = [each for each in asked if not isinstance(each[1], RunStep | StartTimer)]
