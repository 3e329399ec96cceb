from __future__ import annotations

from fenbu._core.model import Status
from tests.fixture.row import call, entry, finished, names, write


async def test_due_calls_come_earliest_first(storage):
    await write(
        storage,
        inserted=[
            call("c", 1, wake_at=30.0),
            call("b", 2, wake_at=20.0, status=Status.SUSPENDED),
            call("a", 3, wake_at=20.0, partition=2),
            call("later", 4, wake_at=30.5),
            call("elsewhere", 5, wake_at=10.0, partition=3),
            call("awake", 6),
        ],
        entries=[entry("b")],
    )
    found = await storage.load_due([1, 2], 30.0, limit=9)
    assert names(found) == ["a", "b", "c"]
    assert found[1].entries == [entry("b")]
    assert names(await storage.load_due([1, 2], 30.0, limit=2)) == ["a", "b"]
    assert await storage.load_due([1, 2], 19.9, limit=9) == []
    assert await storage.load_due([], 99.0, limit=9) == []


async def test_the_next_due_instant_is_the_earliest(storage):
    assert await storage.next_due([1, 2]) is None
    await write(
        storage,
        inserted=[
            call("a", 1, wake_at=30.25),
            call("b", 2, wake_at=20.5, partition=2),
            call("c", 3),
        ],
    )
    assert await storage.next_due([1, 2]) == 20.5
    assert await storage.next_due([1]) == 30.25
    assert await storage.next_due([3]) is None


async def test_parked_and_finished_calls_are_not_due(storage):
    """Otherwise the node would wake for them again and again, and do nothing."""
    parked = (Status.STUCK, Status.QUARANTINED, Status.UNHANDLED)
    await write(
        storage,
        inserted=[
            *(call(each, 1, wake_at=5.0, status=each) for each in parked),
            finished("done", 1.0, wake_at=5.0),
        ],
    )
    assert await storage.load_due([1], 99.0, limit=9) == []
    assert await storage.next_due([1]) is None


async def test_a_call_that_has_been_woken_is_no_longer_due(storage):
    sleeping = call("a", 1, wake_at=5.0, status=Status.SUSPENDED)
    await write(storage, inserted=[sleeping])
    sleeping.wake_at, sleeping.status = None, Status.RUNNING
    await write(storage, updated=[sleeping])
    assert await storage.next_due([1]) is None
    assert names(await storage.load_ready({1: 0}, limit=9)) == ["a"]
