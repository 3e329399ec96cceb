"""Entities that are forgotten when nothing has changed them for long: by an operation that takes its turn.

A node asks the database for those whose time has come and calls this operation on each. So nothing has to be
locked or compared: when its turn has come it sees the state as the operations before it have left it, and
forgets it only if its time is over by then.
Guarantee: entity-linear.
"""

from __future__ import annotations

from typing import Any, Final

from fenbu._core.message import Call
from fenbu._core.model import Invocation

OPERATION: Final = "_forget"
"""No operation of a user has such a name."""


async def forget(entity: Any = None) -> None:
    """The code of the operation: what it does stands in `Mailbox.keep`, for it needs no instance."""


def forget_call(
    id: str,  # noqa: A002
    entity: str,
    key: str,
    partition: int,
    now: float,
) -> Call:
    """The message that starts it."""
    call = Invocation(
        id=id,
        partition=partition,
        handler=f"{entity}.{OPERATION}",
        entity=entity,
        key=key,
        args="{}",
        created_at=now,
    )
    return Call(call, fresh=True)
