"""Who runs which partitions: advisory locks of the node's one session, through which it also commits.

The server frees them at once when the session ends, however it ends, and a node that stalls while that
happens cannot commit: there is nothing left to commit through. A node's life is such a lock too.
Guarantee: no-split-brain.

Advisory locks belong to the database and not to a schema, so their first number is made of the cluster's id.
"""

from __future__ import annotations

import os
import platform
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fenbu._core.batch import CommitBatch
from fenbu._core.model import Payload
from fenbu._storage.postgres.commit import CommitWriter, Todo
from fenbu._storage.postgres.driver import DRIVER_ERRORS, Connection, Row
from fenbu._storage.postgres.error import POOLER_ADVICE, translated
from fenbu._storage.postgres.hint import Hints
from fenbu._storage.postgres.inbox import owned_bytes, seen_by
from fenbu._storage.postgres.observe import Observation
from fenbu._storage.postgres.session import Pool, Writer, is_pooled
from fenbu._storage.postgres.statement import statements
from fenbu._storage.postgres.step import Fenced, StepRunner
from fenbu._storage.postgres.url import Target
from fenbu._storage.protocol import Beat, InboxPosition, Meta, NodeInfo, StepKey
from fenbu.errors import OwnershipLost, UnsupportedDatabase

LIVENESS: Final = 1_000_000
"""The second number of a node's own lock, plus its id; that of a partition's lock is its number."""


def lock_class(cluster: str) -> int:
    """The first number of every lock of a cluster: 31 bits, so that it is positive as int4 and as oid."""
    return int(cluster[:8], 16) & 0x7FFF_FFFF


class Membership:
    """What a node has, from joining until its session ends."""

    def __init__(self, writer: Writer, id_: int) -> None:
        self.writer = writer
        self.commits = CommitWriter(writer)
        self.id = id_
        self.held: dict[int, int] = {}
        """The epoch of each partition that it owns."""


async def join(
    target: Target, meta: Meta, this: tuple[str, float, str], lock_seconds: float
) -> Membership:
    """Open the session and take the lock that says that this node lives: its name, the time, its code."""
    name, now, code = this
    class_ = lock_class(meta.cluster)
    sql = statements(target.schema)
    writer = await Writer.open(target, f"fenbu node {name}", lock_seconds)

    async def enter(connection: Connection) -> int:
        found = await connection.fetchrow(
            sql["node.insert"], class_, name, platform.node(), os.getpid(), now, LIVENESS,
            code,
        )  # fmt: skip
        if found is None or not found["locked"]:
            raise UnsupportedDatabase(
                f"{target.place}: somebody else holds a new node's lock: does another application use "
                "advisory locks of two numbers there?"
            )
        await connection.fetch(sql["node.end_ghosts"], class_, LIVENESS, name, found["id"])
        await connection.execute(sql["node.delete_dead"], class_, LIVENESS)
        return found["id"]

    try:
        with translated(target):
            return Membership(writer, await writer.run(enter))
    except BaseException:
        writer.end("joining failed")
        raise


class Ownership(Observation):
    """The part of the storage that is an Ownership."""

    _membership: Membership | None = None
    _lock_seconds: float
    _refused: tuple[CommitBatch, Todo] | None = None

    @property
    @abstractmethod
    def _hints(self) -> Hints: ...

    @property
    @abstractmethod
    def _steps(self) -> StepRunner: ...

    @property
    @abstractmethod
    def _meta(self) -> Meta: ...

    async def join(self, name: str, now: float, code: str = "") -> None:
        if self._membership is not None and self._membership.writer.is_open:
            return
        meta = self._meta
        await self._check_session()
        self._membership = await join(self._target, meta, (name, now, code), self._lock_seconds)
        # What an earlier session refused belongs to memory that is void now.
        self._refused = None
        await self._hints.become_node(self._membership.id)

    async def _check_session(self) -> None:
        """A lock is worth something only in a session that nobody else is given."""
        if self._target.pooled:
            pooled = await is_pooled(self._target, self._target.session_url)
        else:
            pooled = self._pool.pooled
        if pooled:
            raise UnsupportedDatabase(
                f"{self._target.place} is reached through a proxy that pools transactions, which gives a "
                f"node's session, and with it its locks, to others. {POOLER_ADVICE}"
            )

    async def nodes(self) -> list[NodeInfo]:
        meta = self._meta
        rows = await self._pool.fetch("node.list", lock_class(meta.cluster), LIVENESS)
        return _nodes(rows)

    async def beat(self, read: InboxPosition | None = None, load: int = 0) -> Beat:
        meta, membership = self._meta, self._member()
        seen, owned = seen_by(read), owned_bytes(membership.held, meta.partition_count)

        async def ask(connection: Connection) -> list[Row]:
            return await connection.fetch(
                membership.writer.sql["node.beat"], lock_class(meta.cluster), LIVENESS,
                str(seen.next), [str(each) for each in seen.running], owned, load, membership.id,
            )  # fmt: skip

        with translated(self._target):
            rows = await membership.writer.run(ask)
        has_messages, has_unhandled = rows[0][-2:] if rows else (False, False)
        nodes = _nodes([each[:-2] for each in map(tuple, rows)])
        return Beat(membership.id, nodes, has_messages, has_unhandled)

    async def retire(self) -> None:
        membership = self._member()
        sql = membership.writer.sql["node.retire"]
        with translated(self._target):
            await membership.writer.run(lambda connection: connection.execute(sql, membership.id))

    async def take(self, numbers: Sequence[int]) -> list[int]:
        meta, membership = self._meta, self._member()
        sql, held = membership.writer.sql, membership.held
        class_ = lock_class(meta.cluster)
        wanted = sorted(set(numbers) - held.keys())

        async def take(connection: Connection) -> None:
            try:
                rows = await connection.fetch(sql["node.take"], class_, wanted, membership.id)
            except DRIVER_ERRORS:
                # Locks outlive the transaction that took them.
                await connection.fetch(sql["node.unlock"], class_, wanted)
                raise
            held.update((number, epoch) for number, epoch in rows if epoch is not None)
            busy = [number for number, epoch in rows if epoch is None]
            if busy:
                await connection.fetch(sql["node.unlock"], class_, busy)

        if wanted:
            with translated(self._target):
                await membership.writer.run(take)
        return sorted(held.keys() & set(numbers))

    async def release(self, numbers: Sequence[int]) -> None:
        meta, membership = self._meta, self._member()
        sql = membership.writer.sql
        given_up = sorted(membership.held.keys() & set(numbers))

        async def give_up(connection: Connection) -> None:
            # The row first: once the lock is free, the next owner writes it.
            await connection.execute(sql["node.leave"], given_up, membership.id)
            await connection.fetch(sql["node.unlock"], lock_class(meta.cluster), given_up)
            for number in given_up:
                del membership.held[number]

        if given_up:
            with translated(self._target):
                await membership.writer.run(give_up)

    async def run_step(
        self, step: StepKey, kind: str, work: Callable[[Any], Awaitable[Payload]]
    ) -> Payload:
        membership = self._member()
        try:
            epoch = membership.held.get(step.partition, -1)
            return await self._steps.run(step, epoch, kind, work)
        except Fenced:
            # Only a session that is over without its node's knowledge can have lost it.
            membership.writer.end("a partition of this node has changed hands")
            membership.writer.check()
            raise

    def _member(self) -> Membership:
        """This node.

        Raises:
            OwnershipLost: It has not joined, or its session is over.
        """
        if self._membership is None:
            raise OwnershipLost(f"this is not a node of {self._target.place}: it has to join first")
        self._membership.writer.check()
        return self._membership

    @property
    @abstractmethod
    def _pool(self) -> Pool: ...


def _nodes(rows: list[Row]) -> list[NodeInfo]:
    return [
        NodeInfo(id_, name, host, pid, started_at, tuple(partitions), leaving, load, code)
        for id_, name, host, pid, started_at, partitions, leaving, load, code in rows
    ]
