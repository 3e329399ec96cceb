"""The storage of a simulated process: the one in memory, behind a network that fails.

A node has a session, on which everything goes that its locks must cover. When it breaks, the server ends it
some time later, and only then are the locks free; until then the node's next session takes nothing of them.
What it sends goes through one more, all else through connections that last for one request. Hints are late,
lost, doubled. The semantics are those of `_storage/memory`, and the conformance suite runs here as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

from fenbu._core.batch import CommitBatch
from fenbu._core.message import Message, decode
from fenbu._core.model import Payload
from fenbu._storage.protocol import (
    ASYNCPG,
    ONE_TRANSACTION,
    Beat,
    Commit,
    CommitOutcome,
    InboxPosition,
    Meta,
    StepKey,
)
from fenbu._testing.network import Network
from fenbu._testing.reader import Reader, Session, Transaction
from fenbu.errors import OwnershipLost, Unavailable, UsageError

LOOK_SECONDS = 5.0
"""Without a hint, look at least so often."""

STEP_PAUSE_SECONDS = 0.1


class SimulatedStorage(Reader):
    """See the module; the methods are those of `Storage` and `Observer`."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network)
        self.listener = name
        self._session: Session | None = None
        self.sessions: list[Session] = []
        """All that it ever had; the server may still believe in some of them."""
        self.written: Callable[[int], None] = lambda _: None
        """Told, on the server, the number of each batch that has been written."""
        self.before_commit: Callable[[], None] = lambda: None
        """Told when the function of a transactional step has ended, before its transaction does."""
        self._batches = 0
        self._sender = Session(network, ordered=True)
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

    async def join(self, name: str, now: float, code: str = "") -> None:
        if not self._is_open:
            raise Unavailable("the storage is not open")
        if self._session is not None and not self._session.connection.is_broken:
            return
        session = Session(self.network, ordered=True)
        self.sessions.append(session)
        await self.network.ask(session.join(name, now, code), session.connection)
        self._session = session

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
                self._counted(self._with_hints(session.commit(batch))), session.connection
            )
        except Unavailable as error:
            return Commit(CommitOutcome.UNKNOWN, str(error))
        except OwnershipLost:
            session.connection.is_broken = True
            raise
        finally:
            session.refusal = None
        return done

    async def _counted(self, request: Coroutine[Any, Any, Any]) -> Any:
        """A commit; somebody may want to know."""
        request.send(None)
        await asyncio.sleep(0)
        try:
            request.send(None)
        except StopIteration as done:
            if done.value.outcome is CommitOutcome.COMMITTED:
                self._batches += 1
                self.written(self._batches)
            return done.value
        raise AssertionError("a request to a storage in memory waits twice")

    async def enqueue(self, messages: Sequence[Message]) -> None:
        """Those of one storage stay in order, as long as its connection holds."""
        if not self._is_open:
            raise Unavailable("the storage is not open")
        if self._sender.connection.is_broken:
            self._sender = Session(self.network, ordered=True)
        session = self._sender
        await self.network.ask(self._with_hints(session.enqueue(messages)), session.connection)

    async def enqueue_new(self, messages: Sequence[Message]) -> list[str]:
        if not self._is_open:
            raise Unavailable("the storage is not open")
        session = Session(self.network)
        request = self._with_hints(session.enqueue_new(messages))
        existing: list[str] = await self.network.ask(request, session.connection)
        return existing

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
        # At which this node took it, not today's: the node may have lost it, and not know so yet.
        epoch = self._own().taken.get(step.partition, -1)
        while True:
            try:
                recorded: Payload | None = await self._read(
                    lambda session: session.step_result(key)
                )
                if recorded is not None:
                    return recorded
                transaction = Transaction(database, key)
                payload = await work(transaction)
                self.before_commit()
                await asyncio.sleep(0)
                finish = partial(
                    Session.finish_step, step=step, epoch=epoch, payload=payload, done=transaction
                )
                committed = await self._read(finish)
            except Unavailable:
                await asyncio.sleep(STEP_PAUSE_SECONDS)
                continue
            if committed:
                return payload
            if committed is None:
                # The partition has another owner: nobody waits for an answer from here.
                await asyncio.Event().wait()

    async def revive(self, handlers: Sequence[str], partitions: Sequence[int]) -> int:
        count: int = await self._owned(lambda session: session.revive(handlers, partitions))
        return count

    # Hints.

    def hint(
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
            session = storage.session
            node = network.database.nodes.get(session) if session is not None else None
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
