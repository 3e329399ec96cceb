"""The workload of many inputs: each gets its call once, and the counts are right."""

from __future__ import annotations

import asyncio
from typing import Any

from fenbu import BatchProgress, CallCancelled, Handle, TerminalError, step
from fenbu._api import batch
from fenbu._core.model import FINISHED
from tests.simulation.service import SOON, app, some_work
from tests.simulation.world import World, here, patiently

CONCURRENCY = 3


@app.workflow
async def of_input(place: tuple[str, int]) -> int:
    name, number = place
    await step(some_work, 0.05 * (number % 4))
    if number % 5 == 3:
        raise TerminalError(f"{name} {number}")
    return number


async def pages(cursor: int | None, name: str, count: int) -> Any:
    """Comes in pages of several sizes, and not always."""
    here().cluster.body_begins()
    first = cursor or 0
    if here().cluster.loop.random.random() < 0.1:
        raise ConnectionResetError(name)
    last = min(count, first + 1 + first % 7)
    return [(name, number) for number in range(first, last)], None if last == count else last


batched = batch.register(
    app, "batched", batch.Plan(pages, of_input, CONCURRENCY, SOON, run_entries=5)
)


@app.workflow
async def mapped(name: str, count: int, ordered: bool) -> list[int]:
    inputs = ((name, number) for number in range(count) if number % 5 != 3)
    return [each async for each in of_input.map(inputs, concurrency=2, ordered=ordered)]


async def batches(world: World, name: str) -> None:
    """One ends by itself, paused and resumed or not; one is cancelled; and a workflow maps."""
    count = 5 + 4 * world.plan.size
    lasting, ended = f"{name}-a", f"{name}-b"
    handles: dict[str, Handle[BatchProgress]] = {}
    for each in (lasting, ended):
        call = batched.options(id=each)
        handles[each] = await patiently(lambda call=call, each=each: call.start(None, each, count))
    maps = asyncio.gather(
        *(
            patiently(lambda o=ordered: mapped.options(id=f"{name}-m-{o}")(name, count, o))
            for ordered in (True, False)
        )
    )
    await asyncio.gather(
        _see_to_its_end(world, handles[lasting], count), _cancel(world, handles[ended], count)
    )
    numbers = [number for number in range(count) if number % 5 != 3]
    in_order, as_they_end = await maps
    world.check(in_order == numbers, f"mapped in order: {in_order}")
    world.check(sorted(as_they_end) == numbers, f"mapped as they end: {as_they_end}")


async def _see_to_its_end(world: World, handle: Handle[BatchProgress], count: int) -> None:
    disturbs = world.random.random() < 0.5
    if disturbs:
        await world.pause(3.0)
        await patiently(handle.pause, anywhere=False)
        await world.pause(3.0)
        await patiently(handle.resume, anywhere=False)
    found = await patiently(handle.result)
    failed = [number for number in range(count) if number % 5 == 3]
    counts = (found.started, found.completed, found.failed, found.open)
    expected = (count, count - len(failed), len(failed), 0)
    world.check(counts == expected, f"a batch counted {counts} and not {expected}")
    ids = {each.id for each in found.errors}
    world.check(
        ids == {f"{handle.id}:{number}" for number in failed[: batch.ERRORS_MAX]}
        or len(failed) > 20,
        f"failed in a batch: {ids}",
    )
    calls = _calls(world, handle)
    world.check(
        sorted(calls) == sorted(f"{handle.id}:{number}" for number in range(count)),
        f"a batch of {count} has the calls {sorted(calls)}",
    )
    world.check(
        all(each.status in FINISHED for each in calls.values()), "a batch ended before its calls"
    )


async def _cancel(world: World, handle: Handle[BatchProgress], count: int) -> None:
    await world.pause(4.0)
    await patiently(lambda: handle.cancel("the world has changed"))
    try:
        await patiently(handle.result)
    except CallCancelled:
        pass
    else:
        world.check(len(_calls(world, handle)) == count, "a batch ended, and is not complete")
    for _ in range(400):
        calls = _calls(world, handle)
        numbers = sorted(int(each.rpartition(":")[2]) for each in calls)
        # The last ones may be on their way.
        is_whole = numbers == list(range(len(numbers)))
        if is_whole and all(each.status in FINISHED for each in calls.values()):
            return
        await asyncio.sleep(0.5)
    found = {id_: each.status for id_, each in _calls(world, handle).items()}
    world.check(False, f"a cancelled batch leaves {found}")


def _calls(world: World, handle: Handle[BatchProgress]) -> dict[str, Any]:
    found = world.cluster.database.invocations
    return {id_: each for id_, each in found.items() if id_.startswith(f"{handle.id}:")}
