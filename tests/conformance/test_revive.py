from __future__ import annotations

import pytest
from msgspec.structs import replace

from fenbu._core.model import Status
from tests.fixture.row import FAILURE, PARTITIONS, call, names, stored, write


async def test_parked_calls_of_known_handlers_go_on(storage):
    await write(
        storage,
        inserted=[
            call("fresh", 1, status=Status.UNHANDLED, waiting="for a node"),
            call(
                "begun",
                2,
                status=Status.STUCK,
                started_at=1.0,
                waiting="…",
                failure=FAILURE,
                crashes=1,
            ),
            call("bad", 3, status=Status.QUARANTINED),
            call("foreign", 4, status=Status.STUCK, handler="other"),
            call("fine", 5, status=Status.SUSPENDED, started_at=1.0),
        ],
    )
    assert await storage.revive(["checkout", "unknown"], PARTITIONS) == 2
    assert (await stored(storage, "fresh")).invocation == replace(call("fresh", 1), sequence=6)
    running = call("begun", 2, status=Status.RUNNING, started_at=1.0, crashes=1)
    assert (await stored(storage, "begun")).invocation == running
    assert names(await storage.load_ready({1: 0}, limit=9)) == ["begun", "fresh"]
    assert await storage.revive(["checkout"], PARTITIONS) == 0
    assert await storage.revive([], PARTITIONS) == 0


async def test_those_that_nobody_could_run_come_behind_all_others_of_their_partition(storage):
    await write(
        storage,
        inserted=[
            call("b", 2, status=Status.UNHANDLED),
            call("a", 1, status=Status.UNHANDLED),
            call("later", 3),
            call("stuck", 4, status=Status.STUCK),
            call("asleep", 7, wake_at=50.0),
            call("there", 5, partition=2, status=Status.UNHANDLED),
        ],
    )
    assert await storage.revive(["checkout"], PARTITIONS) == 4
    found = names(await storage.load_ready({1: 0, 2: 0}, limit=9))
    assert found == ["later", "stuck", "a", "b", "there"]
    assert (await storage.last_sequences([1]))[1] > 8


async def test_a_stuck_call_that_keeps_its_place_leaves_no_gap_behind_the_last_one(storage):
    await write(
        storage,
        inserted=[
            call("stuck", 1, status=Status.STUCK),
            call("a", 2, status=Status.UNHANDLED),
            call("later", 3),
        ],
    )
    assert await storage.revive(["checkout"], PARTITIONS) == 2
    assert (await stored(storage, "a")).invocation.sequence == 4


async def test_a_delayed_call_keeps_its_time(storage):
    await write(storage, inserted=[call("a", 1, status=Status.UNHANDLED, wake_at=50.0)])
    assert await storage.revive(["checkout"], [0, 2]) == 0
    assert await storage.revive(["checkout"], [0, 1]) == 1
    assert await storage.load_ready({1: 0}, limit=9) == []
    assert await storage.next_due([1]) == 50.0


async def test_unhandled_calls_are_found_by_nodes_that_have_their_handlers(storage):
    def unhandled(id, sequence, partition=1, **fields):
        return call(id, sequence, partition=partition, status=Status.UNHANDLED, **fields)

    assert not (await storage.beat()).has_unhandled
    await write(
        storage,
        inserted=[
            unhandled("a", 1),
            unhandled("b", 2, partition=2),
            unhandled("newer", 3, version=2),
            unhandled("other", 4, handler="other"),
            unhandled("operation", 5, entity="Stock", key="1"),
            call("stuck", 6, partition=1, status=Status.STUCK),
            call("open", 7, partition=1),
        ],
    )

    async def find(handlers, besides=(), limit=9):
        return sorted(await storage.find_unhandled(handlers, besides, limit=limit))

    assert await find([("checkout", 1)]) == [("a", 1), ("b", 2)]
    assert await find([("checkout", 1)], [2, 3]) == [("a", 1)]
    assert await find([("checkout", 2), ("other", 1)]) == [("newer", 1), ("other", 1)]
    assert await find([("other", 2)]) == []
    assert await find([]) == []
    assert len(await find([("checkout", 1)], limit=1)) == 1


async def test_others_hear_what_code_a_node_has_and_that_calls_wait(disk, connect):
    if not disk.many_nodes:
        pytest.skip("one node at a time")
    one, other = await connect(), await connect()
    await one.join("one", 1.0, "abc")
    await other.join("other", 2.0)
    assert {each.name: each.code for each in (await one.beat()).nodes} == {
        "one": "abc",
        "other": "",
    }
    assert {each.code for each in await other.nodes()} == {"abc", ""}
    await one.take([1])
    await write(one, inserted=[call("a", 1, partition=1, status=Status.UNHANDLED)])
    assert (await other.beat()).has_unhandled
