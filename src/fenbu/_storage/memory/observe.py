"""The fake's reads for people, and of streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fenbu._core import ids
from fenbu._core.attribute import holds
from fenbu._core.message import Making, decode
from fenbu._core.model import Chunk, Invocation, Status, Stored
from fenbu._storage.memory.entities import EntityReads
from fenbu._storage.observer import CallFilter
from fenbu._storage.stream import StreamCursor, StreamInfo, StreamPage


class Observation(EntityReads):
    """The half of the storage that is an Observer."""

    def _copies(self, found: Iterable[Invocation]) -> list[Invocation]:
        return [self.database.copy(each.id) for each in found]

    async def list_calls(self, where: CallFilter) -> list[Invocation]:
        database = await self._database()
        found = [
            each
            for each in database.invocations.values()
            if (where.statuses is None or each.status in where.statuses)
            and (where.handler is None or each.handler == where.handler)
            and (where.created_after is None or each.created_at > where.created_after)
            and (where.created_before is None or each.created_at < where.created_before)
            and all(holds(wanted, each.attributes) for wanted in where.where)
            and (where.after is None or (each.created_at, each.id) < where.after)
        ]
        found.sort(key=lambda each: (each.created_at, each.id), reverse=True)
        return self._copies(found[: where.limit])

    async def find_calls(self, beginning: str, *, limit: int) -> list[Invocation]:
        database = await self._database()
        waiting = {
            each.invocation.id: each.invocation
            for each in map(decode, database.inbox.values())
            if isinstance(each, Making)
        }
        found = sorted(
            id_
            for id_ in {*database.invocations, *waiting}
            if id_.startswith(beginning) and "/" not in id_[len(beginning) :]
        )
        return [
            database.copy(id_) if id_ in database.rows else waiting[id_] for id_ in found[:limit]
        ]

    async def count_calls(self) -> dict[tuple[str, Status], int]:
        database = await self._database()
        count: dict[tuple[str, Status], int] = {}
        for each in database.invocations.values():
            name = (each.handler, each.status)
            count[name] = count.get(name, 0) + 1
        return count

    async def operations_before(self, invocation: Invocation, *, limit: int) -> list[Invocation]:
        database = await self._database()
        if invocation.entity is None:
            return []
        found = [
            each
            for each in database.open_calls()
            if (each.entity, each.key) == (invocation.entity, invocation.key)
            and each.sequence < invocation.sequence
        ]
        found.sort(key=lambda each: each.sequence)
        return self._copies(found[:limit])

    async def children(self, id: str, *, limit: int) -> list[Invocation]:  # noqa: A002
        database = await self._database()
        parent = database.invocations.get(id)
        if parent is None:
            return []
        runs = [ids.run_id(id, run) for run in range(parent.attempt + 1)]
        prefixes = [ids.child_id(run, 0)[:-1] for run in runs]
        found = [
            each
            for each in database.invocations.values()
            if (
                each.parent is not None
                and (each.parent.partition, each.parent.id) == (parent.partition, id)
            )
            or any(
                each.id.startswith(prefix) and each.id[len(prefix) :].isdecimal()
                for prefix in prefixes
            )
        ]
        found.sort(key=lambda each: (each.created_at, each.id))
        return self._copies(found[:limit])

    async def load_chunks(self, cursors: Sequence[StreamCursor], *, limit: int) -> list[StreamPage]:
        cursors = list(cursors)
        database = await self._database()
        return database.pages(cursors, limit)

    async def last_chunk(self, id: str, stream: str, before: float | None = None) -> int:  # noqa: A002
        database = await self._database()
        for each in reversed(database.chunks.get(id, {}).get(stream, [])):
            if before is None or each.at < before:
                return each.number
        return 0

    async def delete_chunks(self, id: str, stream: str, before: float, *, limit: int) -> int:  # noqa: A002
        database = await self._database()
        return database.cut(id, stream, before, limit)

    async def list_streams(self, id: str) -> list[StreamInfo]:  # noqa: A002
        database = await self._database()
        return [
            StreamInfo(
                name,
                sum(not each.ends for each in chunks),
                any(each.ends for each in chunks),
                max(each.at for each in chunks),
            )
            for name, chunks in sorted(database.chunks.get(id, {}).items())
        ]

    async def scan_chunks(self, after: int, *, limit: int) -> list[Chunk]:
        database = await self._database()
        streams = (each for call in database.chunks.values() for each in call.values())
        found = (chunk for each in streams for chunk in each if chunk.number > after)
        return sorted(found, key=lambda each: each.number)[:limit]

    async def inbox_count(self) -> int:
        database = await self._database()
        return len(database.inbox)

    async def owner(self) -> str | None:
        database = await self._database()
        return None if not database.nodes else "a node of this process"

    async def check(self) -> list[tuple[str, bool, str]]:
        database = await self._database()
        return [
            ("storage", True, f"in memory only: {len(database.rows)} calls, lost with the process")
        ]

    async def rewrite(self, changes: Sequence[tuple[Stored, Stored]]) -> int:
        changes = list(changes)
        database = await self._database()
        return sum(database.rewrite(before, after) for before, after in changes)
