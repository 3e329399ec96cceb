"""Positions of inboxes whose numbers are the order of commits: where one process at a time can write."""

from __future__ import annotations

from fenbu._storage.protocol import InboxPosition, InboxRead, Received
from fenbu.errors import InternalError


class NumberPosition(InboxPosition, frozen=True):
    """Everything up to this number has been read."""

    number: int


def number_of(position: InboxPosition | None) -> int:
    """Up to where has been read."""
    if position is None:
        return 0
    if not isinstance(position, NumberPosition):
        raise InternalError(f"an inbox is read from another storage's position: {position}")
    return position.number


def read_of(found: list[Received], *, complete: bool, last: int) -> InboxRead:
    """What was found up to the number `last`, or, if not complete, up to the last one found."""
    return InboxRead(found, NumberPosition(last if complete else found[-1].number), complete)
