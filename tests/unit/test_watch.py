"""Who watches an entity on the node where it lives costs a look for each change, and nothing in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from fenbu._core.batch import CommitBatch
from fenbu._core.model import EntityState
from fenbu._node.states import EntityCursor, EntityWatch
from fenbu._storage.protocol import Storage
from fenbu.errors import Unavailable


class OneState:
    """A database with one entity."""

    def __init__(self) -> None:
        self.state: EntityState | None = None
        self.looks = 0
        self.is_away = False

    async def load_entities(self, keys: Sequence[tuple[str, str]]) -> list[EntityState]:
        assert list(keys) == [("Stock", "a")]
        self.looks += 1
        if self.is_away:
            raise Unavailable("away")
        return [] if self.state is None else [self.state]


def stock(units: int, at: float = 1.0) -> EntityState:
    return EntityState("Stock", "a", 3, f'{{"units":{units}}}', 1, at)


def cursor(seen: EntityState | None = None, *, is_first: bool = False) -> EntityCursor:
    return EntityCursor("Stock", "a", 3, seen, is_first=is_first)


def watching(database: Any, *, here: bool = True) -> EntityWatch:
    return EntityWatch(
        cast("Storage", database),
        pause_seconds=0.05,
        owned=lambda: [3] if here else [],
    )


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_first_look_answers_at_once_also_that_there_is_nothing() -> None:
    async def main() -> None:
        database = OneState()
        watch = watching(database)
        assert await watch.wait(cursor(is_first=True)) is None
        database.state = stock(1)
        assert await watch.wait(cursor(is_first=True)) == stock(1)
        assert database.looks == 2
        assert not watch.waiting

    asyncio.run(main())


def test_who_is_told_looks_when_told_and_is_answered_when_it_is_news() -> None:
    async def main() -> None:
        database = OneState()
        database.state = stock(1)
        watch = watching(database)
        waiting = [asyncio.create_task(watch.wait(cursor(stock(1)))) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert database.looks == 1
        database.state = stock(1, at=2.0)
        watch.committed(CommitBatch(entities=[database.state]))
        watch.committed(CommitBatch(entities=[EntityState("Stock", "b", 3, "{}")]))
        await turns()
        assert (database.looks, [each.done() for each in waiting]) == (2, [False] * 3)
        database.state = None
        watch.committed(CommitBatch(entities_deleted=[("Stock", "a")]))
        assert await asyncio.gather(*waiting) == [None] * 3
        assert database.looks == 3

    asyncio.run(main())


def test_who_is_not_told_looks_again_and_one_who_goes_away_looks_no_more() -> None:
    async def main() -> None:
        database = OneState()
        database.state = stock(1)
        watch = watching(database, here=False)
        first, second = (asyncio.create_task(watch.wait(cursor(stock(1)))) for _ in range(2))
        while database.looks < 4:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        database.is_away = True
        await asyncio.sleep(0.1)
        database.is_away, database.state = False, stock(2)
        assert await second == stock(2)
        await watch.stop(Unavailable("over"))
        assert not watch.waiting

    asyncio.run(main())


def test_all_are_told_when_it_stops() -> None:
    async def main() -> None:
        watch = watching(OneState())
        waiting = asyncio.create_task(watch.wait(cursor()))
        await turns()
        await watch.stop(Unavailable("over"))
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], Unavailable)

    asyncio.run(main())


def test_what_was_asked_before_a_partition_was_taken_is_asked_again() -> None:
    async def main() -> None:
        database, here = OneState(), list[int]()
        watch = EntityWatch(cast("Storage", database), pause_seconds=0.05, owned=lambda: here)
        asked, answer, load = asyncio.Event(), asyncio.Event(), database.load_entities

        async def slow(keys: Sequence[tuple[str, str]]) -> list[EntityState]:
            found = await load(keys)
            asked.set()
            await answer.wait()
            return found

        database.load_entities = slow  # type: ignore[method-assign]
        database.state = stock(1)
        waiting = asyncio.ensure_future(watch.wait(cursor(stock(1))))
        await asked.wait()
        # Its owner changes it once more, and it is this one's before the answer has come.
        database.state = stock(2, 2.0)
        here.append(3)
        answer.set()
        assert await waiting == stock(2, 2.0)
        await watch.stop(Unavailable("the end"))

    asyncio.run(main())
