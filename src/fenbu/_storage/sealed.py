"""A storage behind a codec hook: whatever goes in is sealed, whatever comes out is opened.

So neither the core nor a database knows of hooks, and an app without one pays nothing. A batch that the hook
cannot seal is refused, as by a full disk: the node keeps it and tries again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from fenbu._core.batch import CommitBatch
from fenbu._core.codec import CodecHook
from fenbu._core.message import Message
from fenbu._core.model import EntityField, EntityState, Invocation, Loaded, Outcome, Payload
from fenbu._core.tree import Seen, Walk, opened
from fenbu._storage.observer import CallFilter
from fenbu._storage.protocol import (
    Commit,
    CommitOutcome,
    InboxPosition,
    InboxRead,
    Open,
    Received,
    StepKey,
    Storage,
)
from fenbu._storage.seal import Seal
from fenbu._storage.stream import StreamCursor, StreamPage
from fenbu.errors import EncodingError

S = TypeVar("S", bound=Storage)
T = TypeVar("T")


def sealed(storage: S, hook: CodecHook | None) -> S:
    """The storage behind the hook; without one, the storage itself."""
    if hook is None or isinstance(storage, SealedStorage):
        return storage
    return cast("S", SealedStorage(storage, hook))


class SealedStorage:
    """See the module. What is not here goes to the storage as it is."""

    def __init__(self, storage: Any, hook: CodecHook) -> None:
        self._storage = storage
        self._seal = Seal(hook)
        self._last: tuple[CommitBatch, CommitBatch] | None = None
        """A batch that was refused is given again, and then it is the same to the storage too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def commit(self, batch: CommitBatch) -> Commit:
        if self._last is None or self._last[0] is not batch:
            try:
                self._last = (batch, self._seal.batch(batch))
            except Exception as error:  # noqa: BLE001 - a hook is the user's, and may raise anything
                return Commit(CommitOutcome.REFUSED, f"the codec's hook failed: {error!r}")
        answer: Commit = await self._storage.commit(self._last[1])
        if answer.outcome is not CommitOutcome.REFUSED:
            self._last = None
        return answer

    async def enqueue(self, messages: Sequence[Message]) -> None:
        try:
            found = [self._seal.message(each) for each in messages]
        except Exception as error:
            raise EncodingError(f"the codec's hook failed: {error!r}") from error
        await self._storage.enqueue(found)

    async def enqueue_new(self, messages: Sequence[Message]) -> list[str]:
        try:
            found = [self._seal.message(each) for each in messages]
        except Exception as error:
            raise EncodingError(f"the codec's hook failed: {error!r}") from error
        existing: list[str] = await self._storage.enqueue_new(found)
        return existing

    async def snapshot(self, walk: Walk[T]) -> T:
        found: T = await self._storage.snapshot(opened(walk, self._seen))
        return found

    async def run_step(
        self, step: StepKey, kind: str, work: Callable[[Any], Awaitable[Payload]]
    ) -> Payload:
        async def seal(connection: Any) -> Payload:
            return self._seal.payload(await work(connection))

        payload: Payload = await self._storage.run_step(step, kind, seal)
        return self._seal.open(payload)

    def _opened(self, found: list[Loaded]) -> list[Loaded]:
        return [self._seal.open_loaded(each) for each in found]

    def _seen(self, seen: Seen) -> Seen:
        return Seen(
            self._opened(seen.calls),
            [self._seal.open_chunk(each) for each in seen.chunks],
            seen.children,
            [self._seal.open_state(each) for each in seen.states],
            [self._seal.open_message(each) for each in seen.messages],
            [self._open_field(each) for each in seen.fields],
        )

    def _open_field(self, field: EntityField) -> EntityField:
        return replace(field, value=self._seal.open(field.value))

    def _shown(self, found: list[Invocation]) -> list[Invocation]:
        return [self._seal.open_invocation(each) for each in found]

    async def load_ready(self, cursors: Mapping[int, int], *, limit: int) -> list[Loaded]:
        return self._opened(await self._storage.load_ready(cursors, limit=limit))

    async def load_operations(
        self, entity: str, key: str, *, after: int, limit: int
    ) -> list[Loaded]:
        found = await self._storage.load_operations(entity, key, after=after, limit=limit)
        return self._opened(found)

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        return self._opened(await self._storage.load_calls(ids))

    async def load_due(self, partitions: Sequence[int], now: float, *, limit: int) -> list[Loaded]:
        return self._opened(await self._storage.load_due(partitions, now, limit=limit))

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        return [self._seal.open_state(each) for each in await self._storage.load_entities(keys)]

    async def load_fields(self, places: Sequence[tuple[str, str, str]]) -> list[EntityField]:
        found: list[EntityField] = await self._storage.load_fields(places)
        return [self._open_field(each) for each in found]

    async def load_inbox(
        self,
        partitions: Sequence[int],
        after: InboxPosition | None,
        *,
        limit: int,
        until: InboxPosition | None = None,
    ) -> InboxRead:
        read: InboxRead = await self._storage.load_inbox(
            partitions, after, limit=limit, until=until
        )
        found = [
            Received(each.number, self._seal.open_message(each.message)) for each in read.found
        ]
        return InboxRead(found, read.position, read.complete)

    async def load_chunks(self, cursors: Sequence[StreamCursor], *, limit: int) -> list[StreamPage]:
        pages: list[StreamPage] = await self._storage.load_chunks(cursors, limit=limit)
        return [
            replace(page, chunks=[self._seal.open_chunk(each) for each in page.chunks])
            for page in pages
        ]

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        found: dict[str, Outcome | Open] = await self._storage.outcomes(ids)
        return {
            id_: self._seal.open_outcome(each) if isinstance(each, Outcome) else each
            for id_, each in found.items()
        }

    # For people.

    async def list_calls(self, where: CallFilter) -> list[Invocation]:
        return self._shown(await self._storage.list_calls(where))

    async def find_calls(self, beginning: str, *, limit: int) -> list[Invocation]:
        return self._shown(await self._storage.find_calls(beginning, limit=limit))

    async def operations_before(self, invocation: Invocation, *, limit: int) -> list[Invocation]:
        return self._shown(await self._storage.operations_before(invocation, limit=limit))

    async def children(self, id: str, *, limit: int) -> list[Invocation]:  # noqa: A002
        return self._shown(await self._storage.children(id, limit=limit))

    async def list_entities(self, entity: str | None, *, limit: int) -> list[EntityState]:
        found = await self._storage.list_entities(entity, limit=limit)
        return [self._seal.open_state(each) for each in found]

    async def scan_entities(self, after: tuple[str, str], *, limit: int) -> list[EntityState]:
        found = await self._storage.scan_entities(after, limit=limit)
        return [self._seal.open_state(each) for each in found]
