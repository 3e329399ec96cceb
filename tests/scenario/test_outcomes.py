"""Who waits for a call that runs elsewhere: when the database is asked for its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fenbu._core.model import COMPLETED, Outcome, Status
from fenbu._node import outcomes
from fenbu._node.outcomes import OutcomeWatch
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.protocol import Open


class Storage(MemoryStorage):
    """Has the outcome of every call, and counts how often it was asked."""

    asked = 0

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
        self.asked += 1
        return {each: Outcome(COMPLETED, "1") for each in ids}


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_new_call_is_asked_for_after_a_hint(
    monkeypatch: pytest.MonkeyPatch, *, is_new: bool
) -> None:
    """It cannot have ended before; one that may have is asked for at once."""
    monkeypatch.setattr(outcomes, "LOOK_SECONDS_MIN", 60.0)
    storage, found = Storage(), asyncio.Event()
    watch = OutcomeWatch(storage, lambda *_: found.set(), lambda *_: None)
    watch.add("a", must_exist=False, is_new=is_new)
    for _ in range(10):
        await asyncio.sleep(0)
    assert storage.asked == (0 if is_new else 1)
    watch.look()
    await found.wait()
    assert storage.asked == 1
    await watch.stop()


async def test_what_was_asked_before_a_partition_was_taken_is_asked_again() -> None:
    asked, answer, found = asyncio.Event(), asyncio.Event(), asyncio.Event()
    here = list[int]()

    class Slow(Storage):
        async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome | Open]:
            if asked.is_set():
                return await super().outcomes(ids)
            asked.set()
            await answer.wait()
            return {each: Open(Status.RUNNING, 3) for each in ids}

    watch = OutcomeWatch(Slow(), lambda *_: found.set(), lambda *_: None, owned=lambda: here)
    watch.add("a")
    await asked.wait()
    # It ends at its owner, and its partition is this one's before the answer has come.
    here.append(3)
    answer.set()
    await found.wait()
    await watch.stop()
