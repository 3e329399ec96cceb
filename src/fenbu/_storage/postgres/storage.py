"""PostgreSQL as a Storage and an Observer: which session does what; the work itself is in the files beside.

A node has one session for its locks and commits, one for hints, and with clients in common a small pool for
reads and messages. A client is the same class that has not called `join`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from fenbu._core.batch import CommitBatch
from fenbu._core.message import Message
from fenbu._core.model import EntityState, Loaded, Outcome, Stored
from fenbu._storage.postgres import commit, inbox, load, retention, rewrite, streams
from fenbu._storage.postgres.driver import Connection
from fenbu._storage.postgres.hint import Hints
from fenbu._storage.postgres.migrate import open_schema
from fenbu._storage.postgres.session import Pool, is_pooled
from fenbu._storage.postgres.step import StepRunner
from fenbu._storage.postgres.tree import Moves
from fenbu._storage.postgres.url import target_of
from fenbu._storage.protocol import (
    Commit,
    CommitOutcome,
    InboxPosition,
    InboxRead,
    Meta,
    Open,
)
from fenbu._storage.stream import StreamCursor, StreamPage
from fenbu.errors import Unavailable


class _Opened(Struct, eq=False):
    """What there is between `open` and `close`."""

    meta: Meta
    pool: Pool
    sender: inbox.Sender
    hints: Hints
    steps: StepRunner


class PostgresStorage(Moves):
    """See the module; the URL's parameters are in `url.py`.

    Args:
        url: Where the database is.
        lock_seconds: How long a write waits for a lock that another transaction holds.
    """

    def __init__(self, url: str, *, lock_seconds: float = 10.0) -> None:
        super().__init__(target_of(url))
        self.listener = secrets.token_hex(6)
        self._lock_seconds = lock_seconds
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()

    def _get(self) -> _Opened:
        if self._opened is None:
            raise Unavailable(f"{self._target.place} is not open")
        return self._opened

    @property
    def _pool(self) -> Pool:
        return self._get().pool

    @property
    def _meta(self) -> Meta:
        return self._get().meta

    @property
    def _hints(self) -> Hints:
        return self._get().hints

    @property
    def _steps(self) -> StepRunner:
        return self._get().steps

    async def open(self, *, create: bool = True) -> Meta:
        async with self._opening:
            if self._opened is not None:
                return self._opened.meta
            pooled = self._target.pooled or await is_pooled(self._target, self._target.url)
            pool = Pool(self._target, self._lock_seconds, pooled=pooled)
            try:
                meta = await self._open_schema(pool, create=create)
            except BaseException:
                await pool.close()
                raise
            self._opened = _Opened(
                meta,
                pool,
                inbox.Sender(pool, self._target, meta.partition_count),
                Hints(self._target, pool, meta.cluster, self.listener),
                StepRunner(self._target, pooled=pooled),
            )
            return meta

    async def _open_schema(self, pool: Pool, *, create: bool) -> Meta:
        async def work(connection: Connection) -> Meta:
            return await open_schema(connection, self._target, create=create)

        return await pool.run(work)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        membership, self._membership = self._membership, None
        if opened is None:
            return
        await opened.sender.close()
        await opened.hints.close()
        await opened.steps.close()
        if membership is not None:
            await membership.writer.close()
        await opened.pool.close()

    async def commit(self, batch: CommitBatch) -> Commit:
        refused, self._refused = self._refused, None
        todo = refused[1] if refused and refused[0] is batch else commit.prepare(batch)
        membership = self._member()
        done = await membership.commits.write(todo)
        if done.outcome is CommitOutcome.REFUSED:
            self._refused = (batch, todo)
        if done.outcome is CommitOutcome.COMMITTED and self._opened is not None:
            elsewhere = todo.partitions - membership.held.keys()
            if elsewhere:
                self._opened.hints.give(elsewhere, ())
            if todo.ends:
                self._opened.hints.tell_clients()
        return done

    async def load_ready(self, cursors: Mapping[int, int], *, limit: int) -> list[Loaded]:
        return await load.ready(self._pool, cursors, limit)

    async def load_operations(
        self, entity: str, key: str, *, after: int, limit: int
    ) -> list[Loaded]:
        return await load.operations(self._pool, entity, key, after, limit)

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        return await load.calls(self._pool, ids)

    async def load_due(self, partitions: Sequence[int], now: float, *, limit: int) -> list[Loaded]:
        return await load.due(self._pool, partitions, now, limit)

    async def next_due(self, partitions: Sequence[int]) -> float | None:
        return await load.next_due(self._pool, partitions)

    async def last_sequences(self, partitions: Sequence[int]) -> dict[int, int]:
        return await load.last_sequences(self._pool, partitions)

    async def revive(self, handlers: Sequence[str], partitions: Sequence[int]) -> int:
        return await retention.revive(self._member().writer, handlers, partitions)

    async def find_unhandled(
        self, handlers: Sequence[tuple[str, int]], besides: Sequence[int], *, limit: int
    ) -> list[tuple[str, int]]:
        return await load.unhandled(self._pool, handlers, besides, limit)

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        return await load.entities(self._pool, keys)

    async def load_inbox(
        self,
        partitions: Sequence[int],
        after: InboxPosition | None,
        *,
        limit: int,
        until: InboxPosition | None = None,
    ) -> InboxRead:
        owned = inbox.owned_bytes(partitions, self._meta.partition_count)
        read = await inbox.read(self._pool, owned, after, until, limit)
        if read.found:
            self._hints.busy()
        return read

    async def enqueue(self, messages: Sequence[Message]) -> None:
        opened = self._get()
        opened.hints.give(await opened.sender.send(messages), ())
        opened.hints.busy()

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        opened, loop = self._get(), asyncio.get_running_loop()
        began = loop.time()
        found = await load.outcomes(opened.pool, ids)
        opened.hints.looked(loop.time() - began)
        return found

    async def load_chunks(self, cursors: Sequence[StreamCursor], *, limit: int) -> list[StreamPage]:
        opened, loop = self._get(), asyncio.get_running_loop()
        began = loop.time()
        found = await streams.pages(opened.pool, cursors, limit)
        opened.hints.looked(loop.time() - began)
        return found

    def hint(
        self,
        partitions: Collection[int] = (),
        clients: Collection[str] = (),
        nodes: Collection[int] = (),
    ) -> None:
        if self._opened is not None:
            self._opened.hints.give(partitions, clients, nodes)

    async def wait_for_change(self, seconds: float) -> bool:
        return await self._hints.wait(seconds)

    async def delete_finished(self, handler: str, before: float, *, limit: int) -> int:
        return await retention.delete_finished(self._pool, handler, before, limit)

    async def rewrite(self, changes: Sequence[tuple[Stored, Stored]]) -> int:
        return await rewrite.rewrite(self._pool, changes)
