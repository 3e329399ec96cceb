from __future__ import annotations

from fenbu._core.model import Status
from tests.fixture.row import call, entry, finished, stored, write


async def test_old_finished_calls_go_with_their_journals_oldest_first(storage):
    await write(
        storage,
        inserted=[
            finished("c", 30.0),
            finished("a", 10.0, Status.FAILED),
            finished("b", 20.0, Status.CANCELLED),
            finished("young", 40.0),
            finished("other", 5.0, handler="other"),
            call("open", 1),
        ],
        entries=[entry(each, position) for each in ("a", "young", "open") for position in (0, 1)],
    )
    assert await storage.delete_finished("checkout", 40.0, limit=2) == 2
    left = await storage.load_calls(["a", "b", "c", "young", "other", "open"])
    assert sorted(each.invocation.id for each in left) == ["c", "open", "other", "young"]
    assert await storage.delete_finished("checkout", 40.0, limit=2) == 1
    assert await storage.delete_finished("checkout", 40.0, limit=2) == 0
    await write(storage, inserted=[call("a", 9)])
    assert (await stored(storage, "a")).entries == []
    assert len((await stored(storage, "young")).entries) == 2
    assert len((await stored(storage, "open")).entries) == 2
