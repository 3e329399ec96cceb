from __future__ import annotations

import pytest

from fenbu._core.model import EntityState, Status
from tests.fixture.row import PARTITIONS, call, entry, finished, names, write

OPEN_BUT_NOT_READY = [
    call("asleep", 20, wake_at=500.0),
    call("suspended", 21, status=Status.SUSPENDED),
    call("timer", 22, status=Status.SUSPENDED, wake_at=500.0),
    call("stuck", 23, status=Status.STUCK),
    call("quarantined", 24, status=Status.QUARANTINED),
    call("unhandled", 25, status=Status.UNHANDLED),
]


async def test_ready_calls_are_those_with_something_to_do(storage):
    ready = [call("a", 1), call("b", 2, status=Status.RUNNING, started_at=1.0)]
    await write(storage, inserted=[*ready, *OPEN_BUT_NOT_READY, finished("done", 5.0)])
    found = await storage.load_ready({1: 0}, limit=100)
    assert [each.invocation for each in found] == ready


async def test_ready_calls_come_in_order_from_each_cursor_on(storage):
    calls = [call(f"{p}-{s}", s, partition=p) for s in (3, 1, 2, 4) for p in (2, 1, 3)]
    await write(storage, inserted=calls)
    found = await storage.load_ready({1: 0, 2: 2, 9: 0}, limit=3)
    assert names(found) == ["1-1", "1-2", "1-3", "2-3", "2-4"]
    assert names(await storage.load_ready({1: 3}, limit=3)) == ["1-4"]
    assert await storage.load_ready({1: 4}, limit=3) == []
    assert await storage.load_ready({}, limit=3) == []


async def test_the_limit_counts_ready_calls_of_each_partition(storage):
    await write(
        storage,
        inserted=[
            call(f"{p}-{s}", s, partition=p, wake_at=9.0 if s % 2 else None)
            for s in range(10)
            for p in (1, 2)
        ],
    )
    found = await storage.load_ready({1: 0, 2: 0}, limit=2)
    assert names(found) == ["1-2", "1-4", "2-2", "2-4"]


async def test_calls_come_with_their_journals(storage):
    await write(
        storage,
        inserted=[call("a", 1), call("b", 2), call("c", 3)],
        entries=[entry("c", 1), entry("a", 10), entry("a", 2), entry("c", 0), entry("x", 0)],
    )
    found = await storage.load_ready({1: 0}, limit=9)
    assert [(each.invocation.id, [row.position for row in each.entries]) for each in found] == [
        ("a", [2, 10]),
        ("b", []),
        ("c", [0, 1]),
    ]


async def test_calls_are_found_by_id_whatever_their_state(storage):
    calls = [*OPEN_BUT_NOT_READY, finished("done", 5.0)]
    await write(storage, inserted=calls)
    found = await storage.load_calls([*(each.id for each in calls), "unknown", "done"])
    assert sorted(names(found)) == sorted(each.id for each in calls)
    assert await storage.load_calls([]) == []


async def test_operations_of_one_entity_come_in_order(storage):
    def operation(id, sequence, key="1", **fields):
        return call(id, sequence, entity="Stock", key=key, handler="Stock.reserve", **fields)

    await write(
        storage,
        inserted=[
            operation("c", 3),
            operation("a", 1),
            operation("b", 2, status=Status.RUNNING),
            operation("other", 2, key="2"),
            operation("asleep", 4, wake_at=9.0),
            operation("stuck", 5, status=Status.STUCK),
            operation("done", 6, status=Status.FAILED, finished_at=1.0),
            operation("d", 7),
        ],
    )
    assert names(await storage.load_operations("Stock", "1", after=0, limit=2)) == ["a", "b"]
    assert names(await storage.load_operations("Stock", "1", after=2, limit=9)) == ["c", "d"]
    assert await storage.load_operations("Stock", "3", after=0, limit=9) == []


async def test_the_last_sequence_is_that_of_any_open_call(storage):
    assert await storage.last_sequences(PARTITIONS) == {}
    await write(
        storage,
        inserted=[
            call("a", 5, partition=0),
            call("b", 7, partition=0, wake_at=9.0),
            call("c", 3, partition=255, status=Status.STUCK),
            call("d", 4, partition=8),
            call("e", 9, partition=8, status=Status.CANCELLED, finished_at=1.0),
            call("f", 9, partition=9, status=Status.CANCELLED, finished_at=1.0),
        ],
    )
    assert await storage.last_sequences(PARTITIONS) == {0: 7, 255: 3, 8: 4}
    assert await storage.last_sequences([0, 9]) == {0: 7}


async def test_entities_are_found_by_pair(storage):
    states = [EntityState(*name, 1, "{}") for name in (("A", "1"), ("A", "2"), ("B", "1"))]
    await write(storage, entities=states)
    found = await storage.load_entities([("A", "1"), ("B", "1"), ("B", "2")])
    assert sorted(each.entity for each in found) == ["A", "B"]
    assert await storage.load_entities([]) == []


@pytest.mark.guarantee("accepted-never-lost")
async def test_a_finished_call_that_starts_anew_is_ready(storage):
    again = finished("a", 5.0, Status.FAILED, sequence=1)
    await write(storage, inserted=[again])
    again.status, again.finished_at, again.started_at, again.sequence = (
        Status.PENDING,
        None,
        None,
        8,
    )
    await write(storage, updated=[again])
    assert names(await storage.load_ready({1: 7}, limit=9)) == ["a"]
    assert await storage.last_sequences(PARTITIONS) == {1: 8}
    assert await storage.delete_finished("checkout", 1000.0, limit=9) == 0
