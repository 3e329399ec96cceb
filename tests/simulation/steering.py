"""The workload of what is steered: started together with a signal, run again later, and told in bulk."""

from __future__ import annotations

import asyncio

import fenbu
from fenbu import Retry, RetryLater, Status, TerminalError, Where
from tests.simulation.service import app, collector
from tests.simulation.world import World, here, patiently


@app.task(retry=Retry(attempts=1))
async def postponed(name: str, times: int) -> int:
    """It has one attempt, and what it puts off is none."""
    here().cluster.body_begins()
    here().looks[name] += 1
    if here().looks[name] <= times:
        raise RetryLater(after=0.1)
    return fenbu.current_attempt().number


@app.task
async def refused(name: str) -> int:
    """It fails until somebody has put it right."""
    here().cluster.body_begins()
    if name not in here().mended:
        raise TerminalError("not yet")
    return len(name)


async def steering(world: World, name: str) -> None:
    """Both or neither, no attempt lost, and all that a condition names."""
    times = world.random.randrange(4)
    call = collector.options(id=f"{name}-both").and_signal("number", 1)
    found, together = await asyncio.gather(
        patiently(lambda: postponed.options(id=f"{name}-later")(name, times)),
        # Whoever asks again, in doubt, signals again: it takes the first.
        patiently(lambda: call(1)),
    )
    world.check(found == 1, f"it went well at attempt {found}, and it has one")
    world.check(together == [1], f"the call and its signal gave {together}")

    count = 1 + world.plan.size // 2
    of_mine = refused.options(attributes={"steered": name})
    handles = [
        await patiently(lambda each=each: of_mine.options(id=f"{name}-{each}").start(name))
        for each in range(count)
    ]
    for each in handles:
        try:
            await patiently(each.result)
        except TerminalError:
            continue
        world.check(False, f"{each.id} did not fail")
    world.mended.add(name)
    where: list[Where] = [("steered", "=", name)]
    while True:
        # What was told and has not begun yet is told again: it is one more attempt at most.
        await patiently(lambda: app.steer_calls("retry", where=where))
        page = await patiently(lambda: app.list_calls(where=where))
        if all(each.status is Status.COMPLETED for each in page.calls):
            break
        await asyncio.sleep(0.5)
    world.check(len(page.calls) == count, f"{len(page.calls)} calls were steered, not {count}")
