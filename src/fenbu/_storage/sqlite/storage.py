"""SQLite as a Storage and an Observer: which connection does what; the work itself is in the files beside.

Reads go through a connection of their own, so that they do not wait behind commits. A client is the same
class that has not called `join`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fenbu._core.batch import CommitBatch
from fenbu._core.message import Message
from fenbu._core.model import EntityState, Loaded, Outcome, Payload
from fenbu._storage.position import number_of
from fenbu._storage.protocol import (
    ONE_TRANSACTION,
    Commit,
    CommitOutcome,
    InboxPosition,
    InboxRead,
    Meta,
    Open,
    StepKey,
)
from fenbu._storage.sqlite import (
    commit,
    inbox,
    load,
    migrate,
    notify,
    retention,
)
from fenbu._storage.sqlite.connection import Connection
from fenbu._storage.sqlite.session import (
    LOOK_MILLISECONDS,
    SQL,
    Session,
    check_version,
    connect,
    run_script,
    use_wal,
)
from fenbu._storage.sqlite.shape import Statement
from fenbu._storage.sqlite.tree import Moves
from fenbu.errors import Unavailable, UnsupportedDatabase, UsageError


class SQLiteStorage(Moves):
    """See the module.

    Args:
        path: The database file.
        busy_seconds: How long a write waits for another process's lock.
        pages_max: The file may not grow beyond this many pages of 4 KiB; None: as far as the disk goes.
    """

    def __init__(
        self, path: str | Path, *, busy_seconds: float = 5.0, pages_max: int | None = None
    ) -> None:
        # SQLite follows links to find its log; the owner's lock must be as unambiguous.
        super().__init__(str(Path(path).resolve()))
        self.listener = f"{os.getpid()}-{id(self):x}"
        self._busy_seconds = busy_seconds
        self._pages_max = pages_max
        self._connections: tuple[Connection, Connection] | None = None
        self._watch = notify.ChangeWatch(self._path, self._version)
        self._meta: Meta | None = None
        self._pace = commit.Pace()
        self._refused: tuple[CommitBatch, list[Statement]] | None = None

    @property
    def _writer(self) -> Connection:
        return self._opened()[0]

    @property
    def _reader(self) -> Connection:
        return self._opened()[1]

    def _opened(self) -> tuple[Connection, Connection]:
        if self._connections is None:
            raise Unavailable(f"{self._path} is not open")
        return self._connections

    async def open(self, *, create: bool = True) -> Meta:
        if self._meta is not None:
            return self._meta
        check_version()
        self._prepare_file(create=create)
        writer = Connection(self._path, "writer", steps_aside=True)
        reader = Connection(self._path, "reader")
        try:
            await writer.open(lambda: self._connect(create=create))
            meta = await writer.run(self._set_up)
            await reader.open(self._connect)
            await reader.run(_only_read)
        except BaseException:
            await reader.close()
            await writer.close()
            raise
        self._connections = (writer, reader)
        self._meta = meta
        await self._watch.begin()
        return meta

    async def close(self) -> None:
        connections, self._connections, self._meta = self._connections, None, None
        if connections is None:
            return
        writer, reader = connections
        await reader.close()
        await writer.run(lambda _: self._leave())
        await writer.close()

    async def commit(self, batch: CommitBatch) -> Commit:
        refused, self._refused = self._refused, None
        todo = refused[1] if refused and refused[0] is batch else commit.prepare(batch)
        if not todo:
            return Commit(CommitOutcome.COMMITTED)
        done = None
        if self._pace.is_quick(todo):
            done = self._writer.run_here(self._pace.write, todo, self._path)
            # The caller's loop goes round at least once for each commit.
            await asyncio.sleep(0)
        if done is None or done.outcome is CommitOutcome.REFUSED:
            done = await self._writer.run(self._pace.write, todo, self._path)
        if done.outcome is CommitOutcome.REFUSED:
            self._refused = (batch, todo)
        return done

    async def run_step(
        self, step: StepKey, kind: str, work: Callable[[Any], Awaitable[Payload]]
    ) -> Payload:
        del step, kind, work
        raise UsageError(ONE_TRANSACTION)

    async def load_ready(self, cursors: Mapping[int, int], *, limit: int) -> list[Loaded]:
        return await self._reader.run(load.ready, cursors, limit)

    async def load_operations(
        self, entity: str, key: str, *, after: int, limit: int
    ) -> list[Loaded]:
        return await self._reader.run(load.operations, entity, key, after, limit)

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        return await self._reader.run(load.calls, ids)

    async def load_due(self, partitions: Sequence[int], now: float, *, limit: int) -> list[Loaded]:
        return await self._reader.run(load.due, partitions, now, limit)

    async def next_due(self, partitions: Sequence[int]) -> float | None:
        return await self._reader.run(load.next_due, partitions)

    async def last_sequences(self, partitions: Sequence[int]) -> dict[int, int]:
        return await self._reader.run(load.last_sequences, partitions)

    async def revive(self, handlers: Sequence[str], partitions: Sequence[int]) -> int:
        return await self._writer.run(retention.revive, list(handlers), list(partitions))

    async def find_unhandled(
        self, handlers: Sequence[tuple[str, int]], besides: Sequence[int], *, limit: int
    ) -> list[tuple[str, int]]:
        return await self._reader.run(load.unhandled, handlers, besides, limit)

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        return await self._reader.run(load.entities, keys)

    async def load_inbox(
        self,
        partitions: Sequence[int],
        after: InboxPosition | None,
        *,
        limit: int,
        until: InboxPosition | None = None,
    ) -> InboxRead:
        end = None if until is None else number_of(until)
        return await self._reader.run(inbox.read, partitions, number_of(after), end, limit)

    async def enqueue(self, messages: Sequence[Message]) -> None:
        todo = inbox.prepare(messages)
        if todo is None:
            await self._writer.run(inbox.place_and_put, list(messages))
        elif todo:
            await self._writer.run(inbox.put, todo)

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        return await self._reader.run(load.outcomes, ids)

    def hint(
        self,
        partitions: Collection[int] = (),
        clients: Collection[str] = (),
        nodes: Collection[int] = (),
    ) -> None:
        """Nothing to do: everybody looks at the files."""

    async def wait_for_change(self, seconds: float) -> bool:
        return await self._watch.wait(seconds, owner=self._lock.held)

    async def delete_finished(self, handler: str, before: float, *, limit: int) -> int:
        return await self._writer.run(retention.delete_finished, handler, before, limit)

    async def delete_chunks(self, id: str, stream: str, before: float, *, limit: int) -> int:  # noqa: A002
        return await self._writer.run(retention.delete_chunks, id, stream, before, limit)

    # Opening.

    def _prepare_file(self, *, create: bool) -> None:
        path = Path(self._path)
        if create:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UnsupportedDatabase(
                    f"the directory of {path} cannot be made ({error}): choose another place for the database"
                ) from error
        elif not path.exists():
            raise UsageError(
                f"there is no database {path}: start a node, which creates it, or correct the URL"
            )

    def _connect(self, *, create: bool = False) -> Session:
        return connect(
            self._path, create=create, busy_seconds=self._busy_seconds, pages_max=self._pages_max
        )

    def _set_up(self, session: Session) -> Meta:
        migrate.check_application(session, self._path)
        use_wal(session, self._path)
        run_script(session, SQL["configure"])
        meta = migrate.migrate(session, self._path)
        session.wait_inside_sqlite(LOOK_MILLISECONDS / 1000)
        return meta

    async def _version(self) -> notify.Version:
        return await self._reader.run(notify.version)


def _only_read(session: Session) -> None:
    run_script(session, SQL["configure"])
    session.execute(SQL["only_read"])
