"""The storage of a simulated process: the one in memory, behind a network that fails like the one to PostgreSQL.

A node has a session, on which everything goes that its locks must cover. When it breaks, the server ends it
some time later, and only then are the locks free; until then the node's next session takes nothing of them.
All else goes through connections that last for one request. Hints are late, lost, doubled.
The semantics are those of `_storage/memory`, and the conformance suite runs against this storage as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from fenbu._core.batch import CommitBatch
from fenbu._core.message import Message, decode
from fenbu._core.model import EntityState, Invocation, Loaded, Outcome, Payload
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.protocol import (
    ASYNCPG,
    ONE_TRANSACTION,
    Beat,
    CallFilter,
    Commit,
    CommitOutcome,
    InboxPosition,
    InboxRead,
    Meta,
    NodeInfo,
    Open,
    StepKey,
)
from fenbu.errors import OwnershipLost, Unavailable, UsageError
from fenbu.testing.network import Connection, Network

LOOK_SECONDS = 5.0
"""Without a hint, look at least so often."""

STEP_PAUSE_SECONDS = 0.1


class Session(MemoryStorage):
    """One connection's view of the database; what a node owns is owned by its session."""

    def __init__(self, network: Network, *, ordered: bool = False) -> None:
        super().__init__(network.database)
        self._open = True
        self.connection = Connection(ordered=ordered)
        self.connection.ended = self.end

    def end(self) -> None:
        """The server closes it; all that it owned is free."""
        self.connection.is_closed = True
        self.lose_session()


class Transaction:
    """What the function of a transactional step gets in a simulation: a table of texts."""

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table
        self.written: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        """What stands there, None if nothing does."""
        await asyncio.sleep(0)
        return self.written.get(key, self._table.get(key))

    async def put(self, key: str, value: Any) -> None:
        """Write it, if the transaction commits."""
        await asyncio.sleep(0)
        self.written[key] = value


class SimulatedStorage:
    """See the module; the methods are those of `Storage` and `Observer`."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.listener = name
        self._session: Session | None = None
        self.sessions: list[Session] = []
        """All that it ever had; the server may still believe in some of them."""
        self._is_open = False
        self._news = True
        self._waiting: asyncio.Future[None] | None = None
        self._looked_at = 0.0

    # Connections.

    @property
    def session(self) -> Session | None:
        """That of a node, from `join` on."""
        return self._session

    def lose_session(self) -> None:
        """It breaks; the node hears of it when it uses it."""
        if self._session is not None:
            self.network.break_(self._session.connection)

    async def _read(self, make: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
        if not self._is_open:
            raise Unavailable("the storage is not open")
        session = Session(self.network)
        return await self.network.ask(make(session), session.connection)

    def _own(self) -> Session:
        session = self._session
        if session is None:
            raise OwnershipLost(
                "this is not a node of the simulated database: it has to join first"
            )
        if session.connection.is_broken:
            raise OwnershipLost("the session of this node has ended")
        return session

    async def _owned(self, make: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
        session = self._own()
        try:
            return await self.network.ask(make(session), session.connection)
        except Unavailable as error:
            raise OwnershipLost("the session of this node has ended") from error
        except OwnershipLost:
            session.connection.is_broken = True
            raise

    # Life.

    async def open(self, *, create: bool = True) -> Meta:
        del create
        session = Session(self.network)
        await self.network.ask(session.nodes(), session.connection)
        self._is_open = True
        self.network.database.storages[self] = None
        return self.network.database.meta

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._is_open = False
        self.network.database.storages.pop(self, None)
        self._session = None
        for session in self.sessions:
            session.connection.is_broken = True
            session.end()

    async def join(self, name: str, now: float) -> None:
        if not self._is_open:
            raise Unavailable("the storage is not open")
        if self._session is not None and not self._session.connection.is_broken:
            return
        session = Session(self.network, ordered=True)
        self.sessions.append(session)
        await self.network.ask(session.join(name, now), session.connection)
        self._session = session

    async def nodes(self) -> list[NodeInfo]:
        found: list[NodeInfo] = await self._read(lambda session: session.nodes())
        return found

    async def beat(self, read: InboxPosition | None = None, load: int = 0) -> Beat:
        heard: Beat = await self._owned(lambda session: session.beat(read, load))
        return heard

    async def retire(self) -> None:
        await self._owned(lambda session: session.retire())

    async def take(self, numbers: Sequence[int]) -> list[int]:
        taken: list[int] = await self._owned(lambda session: session.take(numbers))
        self.network.trace(self.listener, f"has taken {taken}")
        return taken

    async def release(self, numbers: Sequence[int]) -> None:
        self.network.trace(self.listener, f"releases {list(numbers)}")
        await self._owned(lambda session: session.release(numbers))

    # Writing.

    async def commit(self, batch: CommitBatch) -> Commit:
        session = self._own()
        if self.network.refusal > self.network.random.random():
            session.refusal = "the disk is full"
        try:
            done: Commit = await self.network.ask(
                self._with_hints(session.commit(batch)), session.connection
            )
        except Unavailable as error:
            return Commit(CommitOutcome.UNKNOWN, str(error))
        except OwnershipLost:
            session.connection.is_broken = True
            raise
        finally:
            session.refusal = None
        return done

    async def enqueue(self, messages: Sequence[Message]) -> None:
        await self._read(lambda session: self._with_hints(session.enqueue(messages)))

    async def _with_hints(self, request: Coroutine[Any, Any, Any]) -> Any:
        """A request, and then hints to the owners of what it has put into the inbox."""
        request.send(None)
        await asyncio.sleep(0)
        database = self.network.database
        first = database.last_number
        try:
            request.send(None)
        except StopIteration as done:
            numbers = range(first + 1, database.last_number + 1)
            self._hint({decode(database.inbox[each]).partition for each in numbers})
            return done.value
        raise AssertionError("a request to a storage in memory waits twice")

    async def run_step(
        self, step: StepKey, kind: str, work: Callable[[Any], Awaitable[Payload]]
    ) -> Payload:
        if kind != ASYNCPG:
            raise UsageError(ONE_TRANSACTION)
        database = self.network.database
        key = (step.id, step.run, step.command)
        session = self._own()
        epoch = database.epochs.get(step.partition, 0)
        while True:
            try:
                begun = await self._read(lambda session: _recorded(session, key))
                if begun is not None:
                    return str(begun)
                transaction = Transaction(database.table)
                payload = await work(transaction)
                committed = await self._read(
                    lambda each: self._finish(each, session, step, epoch, transaction, payload)
                )
            except Unavailable:
                await asyncio.sleep(STEP_PAUSE_SECONDS)
                continue
            if committed:
                return payload
            if committed is None:
                # The partition has another owner: nobody waits for an answer from here.
                await asyncio.Event().wait()

    async def _finish(
        self, each: Session, session: Session, step: StepKey, epoch: int,
        transaction: Transaction, payload: Payload,
    ) -> bool | None:  # fmt: skip
        """True if it is done, False if it was done before, None if the partition has another owner."""
        database = await each._database()
        del session
        key = (step.id, step.run, step.command)
        if database.epochs.get(step.partition, 0) != epoch:
            return None
        if key in database.step_results:
            return False
        database.step_results[key] = payload
        self.network.database.table.update(transaction.written)
        return True

    async def revive(self, handlers: Sequence[str], partitions: Sequence[int]) -> int:
        count: int = await self._owned(lambda session: session.revive(handlers, partitions))
        return count

    async def delete_finished(self, handler: str, before: float, *, limit: int) -> int:
        count: int = await self._read(
            lambda session: session.delete_finished(handler, before, limit=limit)
        )
        return count

    # Reading.

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

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        found: list[EntityState] = await self._read(lambda session: session.load_entities(keys))
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

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        found: dict[str, Outcome | Open] = await self._read(lambda session: session.outcomes(ids))
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

    # Hints.

    async def hint(
        self,
        partitions: Collection[int] = (),
        clients: Collection[str] = (),
        nodes: Collection[int] = (),
    ) -> None:
        self._hint(set(partitions), clients, nodes)

    def _hint(
        self, partitions: set[int], clients: Collection[str] = (), nodes: Collection[int] = ()
    ) -> None:
        """Now and then one is lost, and now and then it comes twice."""
        network = self.network
        for storage in network.database.storages:
            if not isinstance(storage, SimulatedStorage):
                continue
            node = network.database.nodes.get(storage._session) if storage._session else None
            wanted = storage.listener in clients or (
                node is not None
                and (node.id in nodes or not partitions.isdisjoint(node.partitions))
            )
            if wanted and network.random.random() >= network.hint_loss:
                network.later(network.delay(network.hint_latency), storage.notice)

    def notice(self) -> None:
        """A hint has come, perhaps for nothing."""
        self._news = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait_for_change(self, seconds: float) -> bool:
        if not self._is_open:
            raise Unavailable("the storage is not open")
        loop = self.network.loop
        if not self._news:
            look_at = self._looked_at + LOOK_SECONDS
            self._waiting = loop.create_future()
            wait = max(0.0, min(seconds, look_at - loop.time()))
            try:
                await asyncio.wait((self._waiting,), timeout=wait)
            finally:
                self._waiting = None
            if not self._news and loop.time() < look_at:
                return False
        self._news = False
        self._looked_at = loop.time()
        return True


async def _recorded(session: Session, key: tuple[str, str, int]) -> Payload | None:
    database = await session._database()
    return database.step_results.get(key)
