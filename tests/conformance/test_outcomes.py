from __future__ import annotations

import pytest

from fenbu._core.message import Call, Cancel
from fenbu._core.model import Outcome, Status
from fenbu._storage.protocol import Open
from tests.fixture.row import FAILURE, call, finished, received, write


@pytest.mark.guarantee("one-outcome")
async def test_finished_calls_have_an_outcome_and_open_ones_a_status(storage, connect):
    await write(
        storage,
        inserted=[
            finished("good", 5.0, result="42"),
            finished("bytes", 5.0, result=b"\x2a"),
            finished("bad", 5.0, Status.FAILED, failure=FAILURE),
            finished("late", 5.0, Status.TIMED_OUT),
            finished("stopped", 5.0, Status.CANCELLED),
            call("open", 1, status=Status.SUSPENDED, failure=FAILURE),
        ],
    )
    wanted = {
        "good": Outcome(Status.COMPLETED, "42"),
        "bytes": Outcome(Status.COMPLETED, b"\x2a"),
        "bad": Outcome(Status.FAILED, failure=FAILURE),
        "late": Outcome(Status.TIMED_OUT),
        "stopped": Outcome(Status.CANCELLED),
        "open": Open(Status.SUSPENDED, 1),
    }
    for reader in (storage, await connect()):
        assert await reader.outcomes([*wanted, "unknown"]) == wanted
        assert await reader.outcomes([]) == {}


@pytest.mark.guarantee("accepted-never-lost")
async def test_a_call_that_is_still_in_the_inbox_is_pending(storage):
    await storage.enqueue([Call(call("a", 1)), Cancel(1, "b", "why")])
    assert await storage.outcomes(["a", "b"]) == {"a": Open(Status.PENDING, 1)}
    (first, _) = await received(storage)
    await write(storage, inserted=[finished("a", 2.0)], inbox_deleted=[first.number])
    assert await storage.outcomes(["a"]) == {"a": Outcome(Status.COMPLETED)}
