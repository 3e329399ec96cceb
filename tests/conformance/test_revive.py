from __future__ import annotations

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
    assert (await stored(storage, "fresh")).invocation == call("fresh", 1)
    running = call("begun", 2, status=Status.RUNNING, started_at=1.0, crashes=1)
    assert (await stored(storage, "begun")).invocation == running
    assert names(await storage.load_ready({1: 0}, limit=9)) == ["fresh", "begun"]
    assert await storage.revive(["checkout"], PARTITIONS) == 0
    assert await storage.revive([], PARTITIONS) == 0


async def test_a_delayed_call_keeps_its_time(storage):
    await write(storage, inserted=[call("a", 1, status=Status.UNHANDLED, wake_at=50.0)])
    assert await storage.revive(["checkout"], [0, 2]) == 0
    assert await storage.revive(["checkout"], [0, 1]) == 1
    assert await storage.load_ready({1: 0}, limit=9) == []
    assert await storage.next_due([1]) == 50.0
