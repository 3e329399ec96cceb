from __future__ import annotations

from fenbu._core import ids
from fenbu._core.message import Retry
from fenbu._core.model import Address, EntityState, Status
from fenbu._storage.observer import CallFilter
from tests.fixture.row import call, finished, write


async def listed(storage, **where) -> list[str]:
    return [each.id for each in await storage.list_calls(CallFilter(**where))]


async def test_calls_are_listed_newest_first(storage):
    await write(
        storage,
        inserted=[
            call("a", 1, created_at=10.0),
            call("c", 2, created_at=30.0, handler="other", status=Status.STUCK),
            finished("b", 5.0, created_at=20.0),
            call("d", 3, created_at=30.0),
        ],
    )
    assert await listed(storage) == ["d", "c", "b", "a"]
    assert await listed(storage, limit=2) == ["d", "c"]
    assert await listed(storage, handler="checkout") == ["d", "b", "a"]
    assert await listed(storage, statuses=(Status.COMPLETED, Status.STUCK)) == ["c", "b"]
    assert await listed(storage, statuses=()) == []
    assert await listed(storage, created_after=10.0, created_before=30.0) == ["b"]
    assert await listed(storage, after=(30.0, "d"), limit=2) == ["c", "b"]
    assert await listed(storage, after=(20.0, "b")) == ["a"]
    assert await listed(storage, after=(10.0, "a")) == []


async def test_calls_are_counted_by_handler_and_status(storage):
    assert await storage.count_calls() == {}
    await write(
        storage,
        inserted=[
            call("a", 1),
            call("b", 2),
            call("c", 3, handler="other", wake_at=5.0),
            call("d", 4, status=Status.STUCK),
            finished("e", 5.0),
            finished("f", 6.0),
            finished("g", 6.0, Status.FAILED, handler="other"),
        ],
    )
    assert await storage.count_calls() == {
        ("checkout", Status.PENDING): 2,
        ("checkout", Status.STUCK): 1,
        ("checkout", Status.COMPLETED): 2,
        ("other", Status.PENDING): 1,
        ("other", Status.FAILED): 1,
    }


async def test_operations_before_one_are_those_in_its_way(storage):
    def operation(id, sequence, key="1", **fields):
        return call(id, sequence, entity="Stock", key=key, **fields)

    mine = operation("mine", 9)
    await write(
        storage,
        inserted=[
            operation("b", 5, status=Status.STUCK),
            operation("a", 3, status=Status.RUNNING),
            operation("done", 4, status=Status.COMPLETED, finished_at=1.0),
            operation("elsewhere", 4, key="2"),
            operation("behind", 10),
            mine,
        ],
    )
    assert [each.id for each in await storage.operations_before(mine, limit=9)] == ["a", "b"]
    assert [each.id for each in await storage.operations_before(mine, limit=1)] == ["a"]
    assert await storage.operations_before(call("x", 99), limit=9) == []


async def test_children_are_what_a_call_awaits_and_what_it_started(storage):
    long = "p" * 150
    await write(
        storage,
        inserted=[
            call("p", 1, partition=12, attempt=1),
            call(long, 2),
            call(ids.child_id("p", 1), 3, created_at=1.0),
            call(ids.child_id("p", 12), 4, created_at=2.0, parent=Address(12, "p", 12)),
            call(ids.child_id(ids.run_id("p", 1), 1), 5, created_at=3.0),
            call("own-name", 6, created_at=4.0, parent=Address(12, "p", 3)),
            call(
                ids.child_id(ids.child_id("p", 1), 4), 7, parent=Address(1, ids.child_id("p", 1), 4)
            ),
            call("other-parent", 8, parent=Address(12, "pp", 1)),
            call(ids.child_id("pp", 1), 9),
            call(ids.child_id(long, 1), 10),
            call("q", 11),
        ],
    )
    found = [each.id for each in await storage.children("p", limit=9)]
    assert found == ["p/1", "p/12", "p~1/1", "own-name"]
    assert [each.id for each in await storage.children("p", limit=2)] == ["p/1", "p/12"]
    assert [each.id for each in await storage.children(long, limit=9)] == [ids.child_id(long, 1)]
    assert await storage.children("q", limit=9) == []
    assert await storage.children("unknown", limit=9) == []


async def test_entities_are_listed_last_changed_first(storage):
    states = [
        EntityState("Stock", "1", 1, "{}", 1, 10.0),
        EntityState("Stock", "2", 1, "{}", 1, 30.0),
        EntityState("Cart", "1", 1, "{}", 1, 20.0),
    ]
    await write(storage, entities=states)
    assert await storage.list_entities(None, limit=9) == [states[1], states[2], states[0]]
    assert await storage.list_entities("Stock", limit=1) == [states[1]]
    assert await storage.list_entities("None", limit=9) == []


async def test_the_inbox_is_counted(storage):
    await storage.enqueue([Retry(1, "a"), Retry(1, "b")])
    assert await storage.inbox_count() == 2


async def test_a_healthy_database_passes_its_checks(disk, storage):
    found = await storage.check()
    assert found
    assert {what for what, fine, _ in found if not fine} <= disk.unsafe
