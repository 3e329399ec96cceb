"""One leads at a time, and another one when that is gone."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App
from fenbu._testing.kit import _crash_after
from fenbu.contrib import Leader
from fenbu.testing import run, simulate


def test_one_leads_until_its_work_ends_then_the_next() -> None:
    app = App("leaders", url="memory:")
    leader = Leader(app, lease_seconds=15)
    seen: list[str] = []

    async def work(who: str, number: int) -> None:
        seen.append(f"+{who}")
        await asyncio.sleep(100)  # Longer than the lease, which is renewed meanwhile.
        seen.append(f"-{who}")
        assert number == len(seen) // 2

    async def scenario() -> None:
        await asyncio.gather(*(leader.run(lambda n, who=who: work(who, n)) for who in "abc"))

    run(app, scenario)
    assert [each[0] for each in seen] == ["+", "-"] * 3
    assert all(first[1] == second[1] for first, second in zip(seen[::2], seen[1::2], strict=True))


def test_who_vanishes_is_followed_and_who_loses_the_lease_stops() -> None:
    app = App("leaders", url="memory:")
    leader = Leader(app, lease_seconds=15)
    stopped: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        # Somebody gets it and is never heard of again.
        await leader._mutex.acquire()
        begin = loop.time()

        async def work(number: int) -> None:
            assert number == 2
            assert 14 <= loop.time() - begin <= 20
            try:
                # As an operator would who takes it away from a process that misbehaves.
                await leader._mutex.release(number)
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                stopped.append("work")
                raise

        async def again(number: int) -> None:
            await (work(number) if number == 2 else asyncio.sleep(0))

        await leader.run(again)
        assert loop.time() - begin < 60

    run(app, scenario)
    assert stopped == ["work"]


def test_an_error_of_the_work_is_raised_and_gives_the_lease_back() -> None:
    app = App("leaders", url="memory:")
    leader = Leader(app, lease_seconds=15)

    async def fails(number: int) -> None:
        raise ValueError(number)

    async def scenario() -> None:
        with pytest.raises(ValueError, match="1"):
            await leader.run(fails)
        async with asyncio.timeout(5):
            with pytest.raises(ValueError, match="2"):
                await leader.run(fails)

    run(app, scenario)


def test_no_two_lead_at_a_time_under_faults() -> None:
    app = App("leaders", url="memory:")
    leader = Leader(app, lease_seconds=15)
    leading: set[int] = set()

    async def scenario() -> None:
        leading.clear()

        async def work(number: int) -> None:
            assert not leading
            leading.add(number)
            try:
                await asyncio.sleep(3)
            finally:
                leading.discard(number)

        async def candidate() -> None:
            while True:
                try:
                    await leader.run(work)
                except OSError:
                    continue
                except Exception as error:
                    if type(error).__name__ != "Unavailable":
                        raise
                    await asyncio.sleep(1)
                else:
                    return

        await asyncio.gather(*(candidate() for _ in range(3)))

    simulate(app, scenario, seeds=30)


def test_it_survives_crashes_of_the_nodes_anywhere() -> None:
    app = App("leaders", url="memory:")
    leader = Leader(app, lease_seconds=15)

    async def scenario() -> list[str]:
        leading: list[str] = []
        seen: list[str] = []

        async def work(who: str) -> None:
            leading.append(who)
            assert leading == [who]
            # Longer than the lease: it is renewed by the next node, which has what the last one knew.
            await asyncio.sleep(40)
            leading.remove(who)
            seen.append(who)

        # Two processes with clients; what crashes is the node.
        await asyncio.gather(*(leader.run(lambda _, who=who: work(who)) for who in "ab"))
        return sorted(seen)

    # As `crash_everywhere`, but that the calls of a client have other ids each time, and are not compared.
    _, commits = _crash_after(app, scenario, None)
    assert commits >= 6
    for place in range(commits):
        (found, _), _ = _crash_after(app, scenario, place)
        assert found == ["a", "b"], place
