"""States of entities, seen from outside: listed page by page, and watched as they change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct

from fenbu._api.context import activation
from fenbu._api.entity import named_by, spec_of
from fenbu._api.runtime import Runtime
from fenbu._core import ids
from fenbu._core import limit as limits
from fenbu._core.handler import EntitySpec
from fenbu._core.model import EntityState
from fenbu._node.states import EntityCursor
from fenbu._storage.observer import Observer
from fenbu.errors import UsageError

E = TypeVar("E")


class EntityInfo(Generic[E]):
    """An entity as it was at one moment.

    Attributes:
        key: Its key.
        version: The `__version__` of the class that has written the state.
        changed_at: When an operation changed it last, in UTC, by the clock of its node.
        expires_at: When it may be forgotten if nothing changes it until then; None for never.
    """

    __slots__ = ("_row", "_spec", "_state", "changed_at", "expires_at", "key", "version")

    def __init__(self, spec: EntitySpec, row: EntityState) -> None:
        self._spec = spec
        self._row = row
        self._state: Any = None
        self.key = row.key
        self.version = row.version
        self.changed_at = datetime.fromtimestamp(row.changed_at, UTC)
        self.expires_at = (
            None if row.expires_at is None else datetime.fromtimestamp(row.expires_at, UTC)
        )

    def __repr__(self) -> str:
        return (
            f"<EntityInfo {self._spec.name}({self.key!r}) of {self.changed_at:%Y-%m-%d %H:%M:%S}>"
        )

    @property
    def state(self) -> E:
        """Its fields, as the class declares them. It is a copy: it has no operations, and changes nothing.

        Raises:
            EncodingError: What is stored does not fit the class; `PayloadUnreadable` if a key is missing.
            UsageError: It was written by a newer class, or `__upgrade__` failed.
        """
        if self._state is None:
            row = self._row
            self._state = self._spec.fields(row.key, row.state, row.version)
        return cast("E", self._state)


class EntityPage(Struct, Generic[E], frozen=True):
    """Some entities of a class, in order of their keys.

    Attributes:
        entities: They.
        next: Give it as `after` for the page that follows; None if there is none.
    """

    entities: list[EntityInfo[E]]
    next: str | None


async def list_entities(
    runtime: Runtime, cls: type[E], *, limit: int, after: str | None
) -> EntityPage[E]:
    """See `App.list_entities`."""
    _check_outside("list_entities()")
    if not 1 <= limit <= limits.LIST_ENTITIES_MAX:
        raise UsageError(f"limit must be from 1 to {limits.LIST_ENTITIES_MAX:,}, not {limit!r}")
    spec = spec_of(runtime, cls)
    storage = cast("Observer", runtime.gateway.storage)
    rows = await storage.scan_entities((spec.name, after or ""), limit=limit + 1)
    found = [each for each in rows if each.entity == spec.name]
    page: list[EntityInfo[E]] = [EntityInfo(spec, each) for each in found[:limit]]
    return EntityPage(page, page[-1].key if len(found) > limit else None)


class EntityWatcher(Generic[E]):
    """An entity, to watch: `async for info in watcher`. Made by `App.watch`.

    It gives the state that is there, None if there is none, and then each later one that it sees, for ever.
    What changes while nobody asks is seen as one change: a state may be left out, but the last one never, and
    none comes after a newer one.
    """

    __slots__ = ("_key", "_runtime", "_spec")

    def __init__(self, runtime: Runtime, reference: E) -> None:
        self._runtime = runtime
        self._spec, self._key = named_by(runtime, reference)

    def __repr__(self) -> str:
        return f"EntityWatcher({self._spec.name}({self._key!r}))"

    async def __aiter__(self) -> AsyncIterator[EntityInfo[E] | None]:
        cursor = self.begin()
        while True:
            cursor = await self.follow(cursor)
            yield self.info(cursor)

    def begin(self) -> EntityCursor:
        """Where a watcher begins."""
        _check_outside("watch()")
        count = self._runtime.registry.partition_count
        place = ids.partition_of_entity(self._spec.name, self._key, count)
        return EntityCursor(self._spec.name, self._key, place, None, is_first=True)

    async def follow(self, cursor: EntityCursor) -> EntityCursor:
        """The cursor of one who has seen what comes next; waits for it."""
        state = await self._runtime.gateway.read_state(cursor)
        return EntityCursor(cursor.entity, cursor.key, cursor.partition, state)

    def info(self, cursor: EntityCursor) -> EntityInfo[E] | None:
        """What it has seen."""
        return None if cursor.seen is None else EntityInfo(self._spec, cursor.seen)

    @property
    def sync(self) -> SyncEntityWatcher[E]:
        """The same for code that does not use `await`."""
        return SyncEntityWatcher(self._runtime, self)


class SyncEntityWatcher(Generic[E]):
    """`EntityWatcher` without `await`: `for info in watcher`."""

    __slots__ = ("_runtime", "_watcher")

    def __init__(self, runtime: Runtime, watcher: EntityWatcher[E]) -> None:
        self._runtime = runtime
        self._watcher = watcher

    def __repr__(self) -> str:
        return f"Sync{self._watcher!r}"

    def __iter__(self) -> Iterator[EntityInfo[E] | None]:
        cursor = self._watcher.begin()
        while True:
            now = cursor
            cursor = self._runtime.run(lambda now=now: self._watcher.follow(now))
            yield self._watcher.info(cursor)


def _check_outside(what: str) -> None:
    if activation() is not None:
        raise UsageError(f"{what} changes from moment to moment: ask for it in a step")
