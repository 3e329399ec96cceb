"""The inbox: how messages come in, and how the owner of a partition reads them, each once.

Two senders commit in another order than that in which their rows were numbered, so "everything above the last
number" would miss messages. A position is therefore a snapshot: the set of transactions whose rows have been
read. Each row names its transaction, and the next reading takes what the present snapshot sees and that one
did not: rows of transactions that were under way then, a list that is in the snapshot, and of those that
began later, a range of the index. So an old transaction that somebody holds open makes no reading slower,
and what has been read and deleted is not walked over again. One sender's later transaction has the higher
number, which keeps its order.

A snapshot means something to one server only. When the tables have been restored elsewhere, the rows bear
numbers of transactions that are yet to come; `migrate.py` then gives them one that has passed.

Guarantees: accepted-never-lost, message-once-in-order. What a client sends is one transaction, durable when
it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from fenbu._core.ids import home_of
from fenbu._core.message import Call, Message, Reply
from fenbu._storage.postgres.driver import DRIVER_ERRORS, Connection
from fenbu._storage.postgres.error import classify
from fenbu._storage.postgres.rows import inbox_columns, message_of
from fenbu._storage.postgres.session import Pool
from fenbu._storage.postgres.url import Target
from fenbu._storage.protocol import UNPLACED, InboxPosition, InboxRead, Received
from fenbu.errors import CallNotFound, FenbuError, InternalError

TRANSACTION_MAX: Final = 2**64 - 1

MESSAGES_MAX: Final = 10_000
"""Of one transaction of waiting senders; a single sender's messages stay together whatever their number."""


class Snapshot(Struct, frozen=True):
    """Which transactions it sees: those below `next` that are not `running`."""

    next: int
    running: tuple[int, ...]

    def __str__(self) -> str:
        lowest = min(self.running, default=self.next)
        return f"{lowest}:{self.next}:{','.join(map(str, self.running))}"


class SnapshotPosition(InboxPosition, frozen=True):
    """See the module."""

    seen: Snapshot
    """Everything that this one sees has been read, …"""
    reading: Snapshot | None = None
    """… and of what this one sees, everything up to `last`."""
    last: tuple[int, int] = (0, 0)
    """Transaction and number of a row."""

    def parameters(self, reading: Snapshot | None) -> list[object]:
        """What the statement `load` asks for: where it begins, and in `reading` it ends."""
        later, number = max((self.seen.next, 0), self.last)
        return [
            str(later),
            number,
            [str(each) for each in self.seen.running],
            str(self.last[0]),
            self.last[1],
            None if reading is None else str(reading),
            str(TRANSACTION_MAX if reading is None else reading.next),
        ]


_BEGINNING: Final = SnapshotPosition(Snapshot(0, ()))


def _snapshot_of(text: str) -> Snapshot:
    _, following, running = text.split(":")
    return Snapshot(int(following), tuple(map(int, running.split(","))) if running else ())


def _position(given: InboxPosition | None) -> SnapshotPosition:
    if given is None:
        return _BEGINNING
    if not isinstance(given, SnapshotPosition):
        raise InternalError(f"an inbox is read from another storage's position: {given}")
    return given


def seen_by(position: InboxPosition | None) -> Snapshot:
    """What has been read for certain."""
    return _position(position).seen


def owned_bytes(partitions: Collection[int], count: int) -> bytes:
    """A byte for each of so many partitions, 1 for these, for statements that look a row's up in it.

    Half as long as with an array, where every element is an object for the driver and the server.
    """
    owned = bytearray(count)
    for number in partitions:
        owned[number] = 1
    return bytes(owned)


async def read(
    pool: Pool,
    owned: bytes,
    after: InboxPosition | None,
    until: InboxPosition | None,
    limit: int,
) -> InboxRead:
    """See `Storage.load_inbox`."""
    position = _position(after)
    reading = position.reading
    if reading is None and until is not None:
        reading = _position(until).seen
    rows = await pool.fetch("inbox.load", *position.parameters(reading), owned, limit)
    reading = reading or _snapshot_of(rows[0][0])
    found = [
        Received(number, message_of(text, data))
        for _, _, number, text, data, _ in rows
        if number is not None
    ]
    if len(found) < limit:
        return InboxRead(found, SnapshotPosition(reading), complete=True)
    last = (int(rows[-1][1]), rows[-1][2])
    return InboxRead(found, SnapshotPosition(position.seen, reading, last), complete=False)


class _Letter(Struct, eq=False):
    """What one sender wants to be put into the inbox."""

    messages: list[Message]
    sent: asyncio.Future[None]


class Sender:
    """Puts messages into the inbox in the order of the calls, those that wait together in one transaction."""

    def __init__(self, pool: Pool, target: Target, partition_count: int) -> None:
        self._pool = pool
        self._target = target
        self._partition_count = partition_count
        self._waiting: list[_Letter] = []
        self._task: asyncio.Task[None] | None = None

    async def send(self, messages: Sequence[Message]) -> set[int]:
        """See `Storage.enqueue`; the partitions that they are for. A cancelled caller does not stop it."""
        if not messages:
            return set()
        letter = _Letter(list(messages), asyncio.get_running_loop().create_future())
        self._waiting.append(letter)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        await asyncio.shield(letter.sent)
        return {each.partition for each in letter.messages}

    async def close(self) -> None:
        """Finish what was asked for."""
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._put_some()
        finally:
            self._task = None

    async def _put_some(self) -> None:
        letters = [self._waiting.pop(0)]
        count = len(letters[0].messages)
        while self._waiting and count + len(self._waiting[0].messages) <= MESSAGES_MAX:
            letters.append(self._waiting.pop(0))
            count += len(letters[-1].messages)
        try:
            await self._place(letters)
            messages = [
                each for letter in letters if not letter.sent.done() for each in letter.messages
            ]
            if messages:
                await self._put(messages)
        except BaseException as error:
            for letter in letters:
                if not letter.sent.done():
                    letter.sent.set_exception(self._error_for(error))
                    # Whoever sent it may have been cancelled.
                    letter.sent.exception()
            if not isinstance(error, Exception):
                raise
        for letter in letters:
            if not letter.sent.done():
                letter.sent.set_result(None)

    def _error_for(self, error: BaseException) -> FenbuError:
        """One for each sender: an exception object is raised in one place."""
        if isinstance(error, FenbuError):
            return type(error)(*error.args)
        if isinstance(error, DRIVER_ERRORS):
            return classify(error, self._target)
        return InternalError(f"messages could not be sent: {type(error).__name__}: {error}")

    async def _place(self, letters: list[_Letter]) -> None:
        """Find the partitions that senders do not know."""
        unplaced = {
            each.id
            for letter in letters
            for each in letter.messages
            if not isinstance(each, Call | Reply) and each.partition == UNPLACED
        }
        if not unplaced:
            return
        rows = await self._pool.fetch("invocation.places", list(unplaced))
        found: dict[str, int] = {
            id_: partition if is_there else home_of(id_, None, None, self._partition_count)
            for id_, partition, is_there in rows
        }
        for letter in letters:
            new = {
                each.invocation.id: each.partition
                for each in letter.messages
                if isinstance(each, Call)
            }
            try:
                letter.messages = [_placed(each, new | found) for each in letter.messages]
            except CallNotFound as error:
                letter.sent.set_exception(error)
                letter.sent.exception()
            else:
                found = new | found

    async def _put(self, messages: list[Message]) -> None:
        columns = inbox_columns(messages)

        async def insert(connection: Connection) -> None:
            await connection.execute(self._pool.sql["inbox.insert"], *columns)

        await self._pool.run(insert)


def _placed(message: Message, found: dict[str, int]) -> Message:
    if isinstance(message, Call | Reply) or message.partition != UNPLACED:
        return message
    partition = found.get(message.id)
    if partition is None:
        raise CallNotFound(f"no call has the id {message.id!r}, or its retention is over")
    return msgspec.structs.replace(message, partition=partition)
