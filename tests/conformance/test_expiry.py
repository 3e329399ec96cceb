from __future__ import annotations

from fenbu._core.model import EntityState, Status
from fenbu._storage.expiry import EntityRange
from tests.fixture.row import call, write


def expiring(
    key: str, at: float | None, *, entity: str = "Cart", partition: int = 1
) -> EntityState:
    return EntityState(entity, key, partition, "{}", 1, 1.0, None, at)


async def test_entities_whose_time_has_come_are_found_the_first_ones_first(storage):
    states = [
        expiring("late", 30.0),
        expiring("first", 10.0),
        expiring("second", 20.0, partition=2),
        expiring("never", None),
        expiring("elsewhere", 10.0, partition=3),
        expiring("other", 10.0, entity="Stock"),
    ]
    await write(storage, entities=states)
    find = storage.expired_entities
    assert await find("Cart", [1, 2], 20.0, limit=9) == [("first", 1), ("second", 2)]
    assert await find("Cart", [1, 2], 30.0, limit=1) == [("first", 1)]
    assert await find("Cart", [2, 3], 19.0, limit=9) == [("elsewhere", 3)]
    assert await find("Cart", [], 99.0, limit=9) == []
    assert await find("None", [1], 99.0, limit=9) == []
    assert await storage.load_entities([("Cart", "late")]) == [states[0]]


async def test_entities_with_open_operations_are_passed_over(storage):
    open_calls = [
        call("pending", 1, entity="Cart", key="a"),
        call("asleep", 2, entity="Cart", key="b", wake_at=500.0),
        call("stuck", 3, entity="Cart", key="c", status=Status.STUCK),
        call("done", 4, entity="Cart", key="d", status=Status.COMPLETED, finished_at=1.0),
        call("other", 5, entity="Stock", key="d"),
    ]
    states = [expiring(key, 10.0) for key in "abcd"]
    await write(storage, inserted=open_calls, entities=states)
    assert await storage.expired_entities("Cart", [1], 99.0, limit=9) == [("d", 1)]


async def test_an_instant_is_taken_back_by_what_is_written_later(storage):
    await write(storage, entities=[expiring("a", 10.0), expiring("b", 10.0)])
    await write(storage, entities=[expiring("a", None), expiring("b", 20.0)])
    assert await storage.expired_entities("Cart", [1], 15.0, limit=9) == []
    assert await storage.expired_entities("Cart", [1], 20.0, limit=9) == [("b", 1)]


async def test_those_whose_instant_is_not_what_the_ttl_says_are_found_page_by_page(storage):
    """They were last changed at 1.0."""
    states = [
        expiring("", None),
        expiring("a", None),
        expiring("älter", 1.0 + 60.0),
        expiring("b", 1.0 + 30.0),
        expiring("c", 1.0 + 0.1),
        EntityState("Cart", "d", 1, "{}", 1, 1.0, '{"add":"x"}', None),
        expiring("e", None, partition=3),
        expiring("f", None, partition=2),
        expiring("other", None, entity="Stock"),
    ]
    asked = call("asked", 1, handler="Cart._forget", entity="Cart", key="f", partition=2)
    other = call("other", 2, handler="Cart.add", entity="Cart", key="a", partition=1)
    await write(storage, inserted=[asked, other], entities=states)
    find = storage.misdated_entities
    found, last = await find(EntityRange("Cart", [1, 2], 30.0, "", 99))
    assert (found, last) == ([("", 1), ("a", 1), ("älter", 1)], None)
    assert await find(EntityRange("Cart", [1, 2], 30.0, "", 2)) == ([("", 1), ("a", 1)], "a")
    assert await find(EntityRange("Cart", [1, 2], 30.0, "a", 3)) == ([("a", 1)], "c")
    found, last = await find(EntityRange("Cart", [1, 2, 3], 0.1, "b", 99))
    assert (found, last) == ([("b", 1), ("e", 3), ("älter", 1)], None)
    assert await find(EntityRange("None", [1], 30.0, "", 9)) == ([], None)
    assert await find(EntityRange("Cart", [], 30.0, "", 99)) == ([], None)
