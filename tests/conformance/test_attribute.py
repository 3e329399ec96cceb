"""Calls are found by their search attributes, as these are now."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from fenbu._core.attribute import OPERATORS, condition, encoded, holds
from fenbu._core.model import Status
from fenbu._storage.observer import CallFilter
from tests.fixture.row import call, finished, write

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
VALUES = [
    "", "Oslo", "oslo", "Ærø", "7", 7, 7.0, 7.5, -1, 0, 2**53 + 1, 2**63 - 1, 0.1, 1e300, True, False, NOON,
]  # fmt: skip


async def found(storage, *where, **more) -> list[str]:
    calls = await storage.list_calls(CallFilter(where=tuple(where), **{"limit": 999, **more}))
    return [each.id for each in calls]


@pytest.mark.parametrize("operator", OPERATORS)
async def test_every_kind_of_value_is_compared_as_in_memory(storage, operator):
    calls = [
        call(f"c{number:02}", number, attributes=encoded({"a": value, "b": number}))
        for number, value in enumerate(VALUES)
    ]
    await write(storage, inserted=calls)
    for value in VALUES:
        wanted = condition("a", operator, value)
        expected = [each.id for each in reversed(calls) if holds(wanted, each.attributes)]
        assert await found(storage, wanted) == expected, value


async def test_several_conditions_and_filters_must_hold(storage):
    await write(
        storage,
        inserted=[
            call("a", 1, attributes=encoded({"customer": 7, "total": 50})),
            call("b", 2, attributes=encoded({"customer": 7, "total": 150})),
            finished("c", 3.0, sequence=3, attributes=encoded({"customer": 7, "total": 250.5})),
            call("d", 4, attributes=encoded({"customer": 8, "total": 150})),
            call("e", 5, attributes=encoded({"customer": 7, "city": "x"})),
            call("f", 6),
        ],
    )
    customer, total = condition("customer", "=", 7), condition("total", ">", 100)
    assert set(await found(storage, customer)) == {"a", "b", "c", "e"}
    assert set(await found(storage, customer, total)) == {"b", "c"}
    assert set(await found(storage, total, customer)) == {"b", "c"}
    assert await found(storage, customer, total, statuses=(Status.COMPLETED,)) == ["c"]
    assert await found(storage, customer, handler="other") == []
    assert await found(storage, condition("city", "=", "x"), total) == []


async def test_pages_follow_one_another(storage):
    await write(
        storage,
        inserted=[call(f"c{n}", n, attributes=encoded({"a": n % 2})) for n in range(10)],
    )
    seen, after = [], None
    while page := await storage.list_calls(
        CallFilter(where=(condition("a", "=", 1),), limit=2, after=after)
    ):
        seen += [each.id for each in page]
        after = (page[-1].created_at, page[-1].id)
    assert seen == ["c9", "c7", "c5", "c3", "c1"]


async def test_attributes_change_with_their_row_and_go_with_it(storage):
    first = call("a", attributes=encoded({"stage": "new", "n": 1}))
    await write(storage, inserted=[first, call("b")])
    new, paid = condition("stage", "=", "new"), condition("stage", "=", "paid")
    await write(storage, updated=[replace(first, attributes=encoded({"stage": "paid"}))])
    assert (await found(storage, new), await found(storage, paid)) == ([], ["a"])
    assert await found(storage, condition("n", ">=", 0)) == []
    (loaded,) = await storage.load_calls(["a"])
    assert loaded.invocation.attributes == '{"stage":"paid"}'
    await write(storage, updated=[replace(first, attributes=None)])
    assert await found(storage, paid) == []
    await write(storage, updated=[first, call("b", attributes=encoded({"stage": "new"}))])
    assert set(await found(storage, new)) == {"a", "b"}
    await write(storage, deleted=["a"])
    assert await found(storage, new) == ["b"]
    # An id that comes again has what it is given then.
    await write(storage, inserted=[call("a")])
    assert await found(storage, new) == ["b"]


async def test_those_of_calls_that_are_forgotten_go(storage):
    await write(storage, inserted=[finished("a", 1.0, attributes=encoded({"n": 1}))])
    assert await storage.delete_finished("checkout", 5.0, limit=10) == 1
    await write(storage, inserted=[call("a")])
    assert await found(storage, condition("n", "=", 1)) == []
