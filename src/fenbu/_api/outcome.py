"""From the outcome of a call to the value or error that its caller sees."""

from __future__ import annotations

from typing import Any

from fenbu._core.codec import TypeCodec
from fenbu._core.failure import error_of
from fenbu._core.model import COMPLETED, Entry, Outcome, Status
from fenbu.errors import CallCancelled, InternalError


def sent(entry: Entry, codec: TypeCodec) -> Any:
    """The value of a signal, decoded.

    Raises:
        Exception: The error that was sent in its place.
    """
    if entry.failure is not None:
        raise error_of(entry.failure)
    return None if entry.value is None else codec.decode(entry.value)


def value_of(outcome: Outcome | Entry, result: TypeCodec, what: str) -> Any:
    """The result, decoded.

    Raises:
        CallCancelled: The call was cancelled.
        Exception: The error that the call or step ended with.
    """
    if outcome.status is COMPLETED:
        return None if outcome.value is None else result.decode(outcome.value)
    if outcome.failure is not None:
        raise error_of(outcome.failure)
    if outcome.status is Status.CANCELLED:
        raise CallCancelled(f"{what} was cancelled")
    raise InternalError(f"{what} ended as {outcome.status} without a reason")
