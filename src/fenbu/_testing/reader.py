"""What a simulated process asks of its database without owning anything: each on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from fenbu._core.model import EntityField, EntityState, Invocation, Loaded, Outcome, Payload
from fenbu._core.tree import Walk
from fenbu._storage.expiry import EntityRange
from fenbu._storage.memory.database import Listener
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.observer import CallFilter
from fenbu._storage.protocol import Beat, InboxPosition, InboxRead, NodeInfo, Open, StepKey
from fenbu._storage.stream import StreamCursor, StreamPage
from fenbu._testing.database import SimulatedDatabase
from fenbu._testing.network import Connection, Network
from fenbu.errors import Unavailable

T = TypeVar("T")


class Transaction:
    """What the function of a transactional step gets in a simulation: a table of texts."""

    def __init__(self, database: SimulatedDatabase, step: tuple[str, str, int]) -> None:
        self._database = database
        self._step = step
        self._written: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        """What stands there, None if nothing does."""
        await asyncio.sleep(0)
        return self._written.get(key, self._database.table.get(key))

    async def put(self, key: str, value: Any) -> None:
        """Write it, if the transaction commits."""
        await asyncio.sleep(0)
        self._written[key] = value

    def commit(self) -> None:
        """What was written is there for others."""
        self._database.write_table(self._step, self._written)


BEATS_MAX = 100
"""More in a second are no beats, but a node that has lost its patience."""

GHOSTS_THAT_STAY = 0.25
"""Sessions that nobody has noticed to be broken, and that their node's next one cannot end."""


class Session(MemoryStorage):
    """One connection's view of the database; what a node owns is owned by its session."""

    def __init__(self, network: Network, *, ordered: bool = False) -> None:
        super().__init__(network.database)
        self._open = True
        self._network = network
        self._beats: tuple[int, int] = (0, 0)
        """The second in which it beat last, and how often it did in that."""
        self.connection = Connection(ordered=ordered)
        self.connection.ended = self.end

    def end(self) -> None:
        """The server closes it; all that it owned is free."""
        self.connection.is_closed = True
        self.lose_session()

    def _end_ghost(self, ghost: Listener) -> None:
        network = self._network
        if network.notice_seconds and network.random.random() < GHOSTS_THAT_STAY:
            return
        super()._end_ghost(ghost)

    async def beat(self, read: InboxPosition | None = None, load: int = 0) -> Beat:
        heard = await super().beat(read, load)
        second = int(self._network.loop.time())
        count = self._beats[1] + 1 if self._beats[0] == second else 1
        self._beats = (second, count)
        if count == BEATS_MAX:
            self._network.database.violation(f"a node beats {count} times in a second")
        return heard

    async def step_result(self, key: tuple[str, str, int]) -> Payload | None:
        """What a transactional step has left."""
        database = await self._database()
        return database.step_results.get(key)

    async def finish_step(
        self, *, step: StepKey, epoch: int, payload: Payload, done: Transaction
    ) -> bool | None:
        """True if it is done, False if it was done before, None if the partition has another owner.

        Guarantee: transaction-once.
        """
        database = await self._database()
        key = (step.id, step.run, step.command)
        if database.epochs.get(step.partition, 0) != epoch:
            return None
        if key in database.step_results:
            return False
        database.step_results[key] = payload
        done.commit()
        return True


class Reader:
    """The reading half of a SimulatedStorage."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._is_open = False

    async def _read(self, make: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
        if not self._is_open:
            raise Unavailable("the storage is not open")
        session = Session(self.network)
        return await self.network.ask(make(session), session.connection)

    async def nodes(self) -> list[NodeInfo]:
        found: list[NodeInfo] = await self._read(lambda session: session.nodes())
        return found

    async def delete_finished(self, handler: str, before: float, *, limit: int) -> int:
        count: int = await self._read(
            lambda session: session.delete_finished(handler, before, limit=limit)
        )
        return count

    async def delete_chunks(self, id: str, stream: str, before: float, *, limit: int) -> int:  # noqa: A002
        count: int = await self._read(
            lambda session: session.delete_chunks(id, stream, before, limit=limit)
        )
        return count

    async def load_ready(self, cursors: Mapping[int, int], *, limit: int) -> list[Loaded]:
        found: list[Loaded] = await self._read(
            lambda session: session.load_ready(cursors, limit=limit)
        )
        return found

    async def load_operations(
        self, entity: str, key: str, *, after: int, limit: int
    ) -> list[Loaded]:
        found: list[Loaded] = await self._read(
            lambda session: session.load_operations(entity, key, after=after, limit=limit)
        )
        return found

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        found: list[Loaded] = await self._read(lambda session: session.load_calls(ids))
        return found

    async def load_due(self, partitions: Sequence[int], now: float, *, limit: int) -> list[Loaded]:
        found: list[Loaded] = await self._read(
            lambda session: session.load_due(partitions, now, limit=limit)
        )
        return found

    async def next_due(self, partitions: Sequence[int]) -> float | None:
        found: float | None = await self._read(lambda session: session.next_due(partitions))
        return found

    async def last_sequences(self, partitions: Sequence[int]) -> dict[int, int]:
        found: dict[int, int] = await self._read(lambda session: session.last_sequences(partitions))
        return found

    async def find_unhandled(
        self, handlers: Sequence[tuple[str, int]], besides: Sequence[int], *, limit: int
    ) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = await self._read(
            lambda session: session.find_unhandled(handlers, besides, limit=limit)
        )
        return found

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        found: list[EntityState] = await self._read(lambda session: session.load_entities(keys))
        return found

    async def load_fields(self, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
        found: list[EntityField] = await self._read(lambda session: session.load_fields(places))
        return found

    async def expired_entities(
        self, entity: str, partitions: Sequence[int], now: float, *, limit: int
    ) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = await self._read(
            lambda session: session.expired_entities(entity, partitions, now, limit=limit)
        )
        return found

    async def misdated_entities(
        self, where: EntityRange
    ) -> tuple[list[tuple[str, int]], str | None]:
        found: tuple[list[tuple[str, int]], str | None] = await self._read(
            lambda session: session.misdated_entities(where)
        )
        return found

    async def load_inbox(
        self,
        partitions: Sequence[int],
        after: InboxPosition | None,
        *,
        limit: int,
        until: InboxPosition | None = None,
    ) -> InboxRead:
        found: InboxRead = await self._read(
            lambda session: session.load_inbox(partitions, after, limit=limit, until=until)
        )
        return found

    async def snapshot(self, walk: Walk[T]) -> T:
        found: T = await self._read(lambda session: session.snapshot(walk))
        return found

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        found: dict[str, Outcome | Open] = await self._read(lambda session: session.outcomes(ids))
        return found

    async def load_chunks(self, cursors: Sequence[StreamCursor], *, limit: int) -> list[StreamPage]:
        found: list[StreamPage] = await self._read(
            lambda session: session.load_chunks(cursors, limit=limit)
        )
        return found

    async def last_chunk(self, id: str, stream: str, before: float | None = None) -> int:  # noqa: A002
        found: int = await self._read(lambda session: session.last_chunk(id, stream, before))
        return found

    async def list_calls(self, where: CallFilter) -> list[Invocation]:
        found: list[Invocation] = await self._read(lambda session: session.list_calls(where))
        return found

    def __getattr__(self, name: str) -> Any:
        """The other methods of an Observer."""
        if name.startswith("_") or not hasattr(MemoryStorage, name):
            raise AttributeError(name)

        async def ask(*args: Any, **options: Any) -> Any:
            return await self._read(lambda session: getattr(session, name)(*args, **options))

        return ask
