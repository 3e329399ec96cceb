"""How calls that were exported come into a database: as messages, of one transaction.

Every call is a `Restore`, and behind them stands what was on its way to them, in order; so it is applied
after them, each to its receiver. Callers come last, so that what they wait for is there before they are.
Guarantee: message-once-in-order. Whoever sends the messages again by `enqueue_new` sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from fenbu._core.history import Histories, History
from fenbu._core.ids import UPDATE, home_of
from fenbu._core.message import (
    Call,
    Message,
    Pause,
    Reply,
    Restore,
    Retry,
    Subscribe,
    Update,
    within,
)
from fenbu._core.model import FINISHED, Address, Invocation, Status
from fenbu.errors import UsageError

IMPORTED: Final = "an operator: it was imported, and `fenbu retry` lets it go on"
"""What an open call waits for that was imported without being told to go on."""


def arrivals(
    histories: Histories,
    partition_count: int,
    *,
    id_: str | None = None,
    goes_on: bool = False,
    alone: bool = False,
    restart_operations: bool = False,
) -> list[Message]:
    """The messages that bring calls into a database.

    Args:
        histories: The calls.
        partition_count: That of the database.
        id_: A new id for the first of them, which comes without the others. It has ended or not begun.
        goes_on: Open calls run at once; else they are parked until an operator lets them.
        alone: Only the first comes.
        restart_operations: Operations that have begun begin anew on the state that their entity has here.

    Raises:
        UsageError: The calls cannot be brought in like that.
    """
    root = histories.root
    if id_ is not None and id_ != root.loaded.invocation.id:
        calls, messages = [_renamed(root, id_)], []
    elif alone:
        calls, messages = [root], histories.messages
    else:
        calls, messages = histories.calls, histories.messages
    if restart_operations:
        calls = list(_without_restarted(calls))
    elif begun := [each.loaded.invocation for each in calls if _is_begun_operation(each)]:
        names = ", ".join(f"{each.handler} {each.id} on {each.key!r}" for each in begun)
        raise UsageError(
            f"{names} is an operation that has not ended, and belongs to the state of its entity at that "
            "moment: export again when it has ended, or let it begin anew here with --restart-operations"
        )
    places = _Places(calls, partition_count)
    made = [places.restore(each, goes_on=goes_on) for each in reversed(calls)]
    return [*made, *places.placed(messages, goes_on=goes_on)]


def _renamed(history: History, id_: str) -> History:
    call = replace(history.loaded.invocation, id=id_, parent=None)
    if call.status not in FINISHED and call.started_at is not None:
        raise UsageError(
            f"{call.handler} {history.loaded.invocation.id} has begun: its random numbers, the ids of its "
            "calls and its idempotency keys come from its id, so it goes on under that id alone"
        )
    entries = [replace(each, id=id_) for each in history.loaded.entries]
    chunks = [replace(each, id=id_) for each in history.chunks]
    return replace(
        history, loaded=replace(history.loaded, invocation=call, entries=entries), chunks=chunks
    )


def _is_begun_operation(history: History) -> bool:
    call = history.loaded.invocation
    is_open = call.entity is not None and call.status not in FINISHED
    return is_open and call.started_at is not None


def _without_restarted(calls: Iterable[History]) -> Iterator[History]:
    """Operations that have begun, as if they had not; and nothing of what they have started."""
    anew: set[str] = set()
    for each in calls:
        call = each.loaded.invocation
        if each.found_by in anew:
            anew.add(call.id)
        elif _is_begun_operation(each):
            anew.add(call.id)
            # It is another run: what it starts has other ids than what it had started there.
            begun = replace(
                call, attempt=call.attempt + 1, status=Status.PENDING, started_at=None, wake_at=None,
                commands=None, heartbeats=(), cancel_reason=None, failure=None,
            )  # fmt: skip
            yield History(
                replace(each.loaded, invocation=begun, entries=[]), found_by=each.found_by
            )
        else:
            yield each


class _Places:
    """Where everything belongs in the database to which it comes."""

    def __init__(self, calls: Iterable[History], partition_count: int) -> None:
        self._count = partition_count
        self._places = {
            call.id: call.home(self._count) for call in (each.loaded.invocation for each in calls)
        }

    def _address(self, address: Address) -> Address:
        place = self._places.get(address.id)
        if place is None:
            place = home_of(address.id, None, None, self._count)
        return replace(address, partition=place)

    def restore(self, history: History, *, goes_on: bool) -> Restore:
        """The message that makes a call."""
        call = history.loaded.invocation
        call = replace(
            call,
            partition=self._places[call.id],
            crashes=0,
            parent=None if call.parent is None else self._address(call.parent),
            # Nobody who waits elsewhere is told of its end.
            waiters=tuple(self._address(each) for each in call.waiters if each.id in self._places),
        )
        if (
            call.status not in FINISHED
            and UPDATE not in call.id
            and call.status is not Status.PAUSED
        ):
            _open(call, goes_on=goes_on)
        entries = [replace(each) for each in history.loaded.entries]
        return Restore(call, entries, tuple(history.chunks))

    def placed(self, messages: Iterable[Message], *, goes_on: bool) -> Iterator[Message]:
        """What was on its way to the calls that come."""
        for message in map(within, messages):
            match message:
                case Reply():
                    if message.to.id in self._places:
                        yield replace(message, to=self._address(message.to))
                case Call():
                    # Its id exists: whoever sent it waits for that call as well, or is told of it.
                    if message.invocation.id in self._places:
                        call = self._moved(message.invocation)
                        yield replace(message, invocation=call, listener=None, ticket=None)
                case Update():
                    if message.id in self._places:
                        place, call = self._places[message.id], self._moved(message.invocation)
                        yield replace(message, partition=place, invocation=call, listener=None)
                case Subscribe():
                    if message.id in self._places and message.reply_to.id in self._places:
                        address = self._address(message.reply_to)
                        yield replace(message, partition=self._places[message.id], reply_to=address)
                case _:
                    lets_go = isinstance(message, Retry) or (
                        isinstance(message, Pause) and message.resumes
                    )
                    # Where nothing is to go on, nobody has said that it should.
                    if message.id in self._places and (goes_on or not lets_go):
                        yield replace(message, partition=self._places[message.id])

    def _moved(self, call: Invocation) -> Invocation:
        parent = None if call.parent is None else self._address(call.parent)
        return replace(call, partition=call.home(self._count), parent=parent)


def _open(call: Invocation, *, goes_on: bool) -> None:
    """It has not ended: it goes on from its journal, or is parked."""
    waits_to_begin = call.started_at is None or call.status is Status.PENDING
    call.waiting = None
    if not waits_to_begin:
        call.status, call.failure = Status.RUNNING, None
        call.wake_at = None  # Its timers are armed again from its journal.
    else:
        call.status = Status.PENDING
    if not goes_on:
        call.status, call.waiting, call.wake_at = Status.QUARANTINED, IMPORTED, None
