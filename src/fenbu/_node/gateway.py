"""How a client reaches the engine: the node in its own process, or the database alone.

Both sides of `Gateway` give the same guarantees: when `start_calls` returns, the calls are durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from fenbu._core.conflict import REFUSED
from fenbu._core.handler import Registry
from fenbu._core.message import Call, Cancel, Pause, Restore, Retry, Signal, Update
from fenbu._core.model import EntityState, Loaded, Outcome, Status
from fenbu._node.clock import Clock
from fenbu._node.hearing import Hearing
from fenbu._node.outcomes import LOOK_SECONDS_MAX, OutcomeWatch
from fenbu._node.states import EntityCursor, EntityWatch
from fenbu._node.streams import StreamWatch
from fenbu._storage.protocol import Storage
from fenbu._storage.sealed import sealed
from fenbu._storage.stream import StreamPage
from fenbu.errors import AlreadyExists, CallNotFound, Unavailable


class Gateway(Protocol):
    """What the API asks for."""

    @property
    def registry(self) -> Registry:
        """The handlers that are known here."""
        ...

    @property
    def clock(self) -> Clock:
        """Where instants and new ids come from."""
        ...

    @property
    def storage(self) -> Storage:
        """The database."""
        ...

    async def start_calls(self, calls: Sequence[Call | Signal | Update]) -> None:
        """Make the calls durable, with what is sent to them, all or none, in order.

        Raises:
            AlreadyExists: One is there already whose sender wanted a new one.
        """
        ...

    async def call(self, call: Call) -> Outcome:
        """Make one call durable and wait for its outcome."""
        ...

    async def outcome(self, id: str, partition: int) -> Outcome:  # noqa: A002
        """Wait for the outcome of a call; `partition` is -1 where it is not known.

        Raises:
            CallNotFound: There is no such call.
        """
        ...

    async def status(self, id: str) -> Status:  # noqa: A002
        """Where a call is in its life.

        Raises:
            CallNotFound: There is no such call.
        """
        ...

    async def read_stream(self, id: str, stream: str, after: int) -> StreamPage:  # noqa: A002
        """What comes in a stream of a call after a chunk: waits for one more, or for the call's end.

        Raises:
            CallNotFound: There is no such call.
        """
        ...

    async def read_state(self, cursor: EntityCursor) -> EntityState | None:
        """The state of an entity as soon as it is another than its watcher has seen; None if it has none."""
        ...

    async def send(self, message: Signal | Cancel | Retry | Pause | Update) -> None:
        """Make a signal, cancellation, retry or update durable.

        Raises:
            CallNotFound: There is no such call.
        """
        ...

    async def send_many(
        self, messages: Sequence[Cancel | Retry | Pause | Restore | Signal]
    ) -> None:
        """Make what is for calls whose places are known durable, all or none."""
        ...

    async def load(self, id: str) -> Loaded | None:  # noqa: A002
        """A call with its journal, as the database has it."""
        ...


class RemoteGateway:
    """A client without a node: its calls go into the inbox, outcomes are read when the database changes."""

    def __init__(self, registry: Registry, clock: Clock, storage: Storage) -> None:
        self.registry = registry
        self.clock = clock
        self.storage = storage = sealed(storage, registry.hook)
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._hearing = Hearing(storage, self._look, self._is_waited_for)
        listen = self._hearing.listen
        self._watch = OutcomeWatch(storage, self._found, self._failed, listen=listen)
        self._streams = StreamWatch(storage, pause_seconds=LOOK_SECONDS_MAX, listen=listen)
        self._states = EntityWatch(storage, pause_seconds=LOOK_SECONDS_MAX, listen=listen)

    def _look(self) -> None:
        self._watch.look()
        self._streams.look()
        self._states.look()

    def _is_waited_for(self) -> bool:
        return self._watch.is_wanted or bool(self._streams.waiting or self._states.waiting)

    async def start_calls(self, calls: Sequence[Call | Signal | Update]) -> None:
        await self.storage.enqueue(calls)
        for call in calls:
            if isinstance(call, Call) and call.ticket is not None:
                check_accepted(call, await self._outcome(call.ticket, must_exist=False))

    async def call(self, call: Call) -> Outcome:
        if call.ticket is not None:
            await self.start_calls([call])
            return await self._outcome(call.invocation.id, must_exist=True)
        await self.storage.enqueue([replace(call, listener=self.storage.listener)])
        # Its owner hints at this client when it has ended.
        return await self._outcome(call.invocation.id, must_exist=False, is_new=True)

    async def outcome(self, id: str, partition: int) -> Outcome:  # noqa: A002
        del partition
        return await self._outcome(id, must_exist=True)

    async def _outcome(self, id_: str, *, must_exist: bool, is_new: bool = False) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id_, []).append(future)
        self._watch.add(id_, must_exist=must_exist, is_new=is_new)
        try:
            return await future
        finally:
            futures = self._waiting.get(id_)
            if futures is not None and future in futures:
                futures.remove(future)
                if not futures:
                    del self._waiting[id_]
                    self._watch.discard(id_)

    def _found(self, id_: str, outcome: Outcome) -> None:
        for future in self._waiting.pop(id_, ()):
            if not future.done():
                future.set_result(outcome)

    def _failed(self, id_: str, error: Exception) -> None:
        for future in self._waiting.pop(id_, ()):
            if not future.done():
                future.set_exception(error)

    async def status(self, id: str) -> Status:  # noqa: A002
        return await read_status(self.storage, id)

    async def send(self, message: Signal | Cancel | Retry | Pause | Update) -> None:
        if isinstance(message, Update):
            message = replace(message, listener=self.storage.listener)
        await self.storage.enqueue([message])

    async def send_many(
        self, messages: Sequence[Cancel | Retry | Pause | Restore | Signal]
    ) -> None:
        await self.storage.enqueue(messages)

    async def read_stream(self, id: str, stream: str, after: int) -> StreamPage:  # noqa: A002
        return await self._streams.read(id, stream, after)

    async def read_state(self, cursor: EntityCursor) -> EntityState | None:
        return await self._states.wait(cursor)

    async def load(self, id: str) -> Loaded | None:  # noqa: A002
        return await load_call(self.storage, id)

    async def close(self) -> None:
        """Stop watching."""
        await self._hearing.stop()
        await self._watch.stop()
        for each in (self._streams, self._states):
            await each.stop(Unavailable("this client has been closed"))


def check_accepted(call: Call, verdict: Outcome) -> None:
    """What the ticket of a call says.

    Raises:
        AlreadyExists: It was not accepted.
    """
    if verdict.value == REFUSED:
        raise AlreadyExists(f"there is a call with the id {call.invocation.id!r} already")


async def load_call(storage: Storage, id_: str) -> Loaded | None:
    """A call with its journal as the database has it; None if there is none."""
    found = await storage.load_calls([id_])
    return found[0] if found else None


async def read_status(storage: Storage, id_: str) -> Status:
    """The status of a call as the database has it."""
    found = (await storage.outcomes([id_])).get(id_)
    if found is None:
        raise CallNotFound(f"no call has the id {id_!r}, or its retention is over")
    return found.status
