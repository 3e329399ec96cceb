"""A call in memory gets a message that it can receive now.

Guarantee: message-once-in-order. It leaves the inbox with the batch that has what comes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fenbu._core import update
from fenbu._core.message import (
    Adopt,
    Call,
    Cancel,
    Claim,
    Deadlock,
    Message,
    Pause,
    Probe,
    Reply,
    Restore,
    Retry,
    Signal,
    Subscribe,
    Update,
    Withheld,
    within,
)
from fenbu._core.model import PARKED, Kind, Loaded
from fenbu._core.serving import Serving

if TYPE_CHECKING:
    from fenbu._core.partition import Partition
    from fenbu._core.resident import Resident


def deliver(
    partition: Partition, resident: Resident, message: Message, now: float, number: int
) -> None:
    """Hand it over; `number` is its number in the inbox, or 0."""
    if isinstance(message, Withheld):
        if resident.spec.kind is Kind.WORKFLOW:
            raise AssertionError(message)  # It must wait.
        message = within(message)
    if isinstance(message, Call | Update):
        _ask(partition, resident, message, now, number)
        return
    partition.consume(number)
    match message:
        case Reply() | Signal() if resident.spec.kind is Kind.TASK:
            pass  # Its body cannot see it.
        case Reply():
            resident.reply(message, now)
        case Signal():
            resident.signal(message, now)
        case Cancel():
            resident.cancel(message.reason, now, at_once=message.at_once)
        case Subscribe():
            resident.subscribe(message.reply_to)
        case Retry():
            if resident.invocation.status in PARKED:
                partition.absent.retry(Loaded(resident.invocation, []))
        case Pause() if not message.resumes:
            resident.pause(message.reason)
        case Pause():
            pass  # It runs.
        case Adopt() | Claim() | Restore():
            pass  # It has come to memory another way.
        case Probe() | Deadlock() | Withheld():
            raise AssertionError(message)


def _ask(
    partition: Partition, resident: Resident, message: Call | Update, now: float, number: int
) -> None:
    """What is a call itself leaves the inbox when it is known what becomes of it."""
    if isinstance(message, Call):
        partition.receive(message, now, number)
    elif isinstance(resident, Serving) and resident.spec.kind is Kind.WORKFLOW:
        resident.update(message, now, number)
    else:
        error = update.not_for(resident.spec.kind, message.id)
        partition.absent.refuse(message, number, error, now)
