"""The workloads of updates and queries: each happens once, in order, and is answered whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any

from fenbu import (
    CallCancelled,
    CallEnded,
    on_query,
    on_update,
    step,
    updates_running,
    wait_signal,
    wait_until,
)
from tests.simulation.service import app, some_work
from tests.simulation.world import World, patiently


@app.workflow
async def ledger(count: int) -> list[list[int]]:
    """Ends when it has so many numbers and notes."""
    numbers: list[int] = []
    notes: list[int] = []

    @on_query
    def size() -> int:
        return len(numbers) + len(notes)

    @on_update
    async def add(number: int, seconds: float) -> int:
        if seconds:
            await step(some_work, seconds)
            await asyncio.sleep(seconds)
        numbers.append(number)
        return len(numbers)

    @add.validator
    def check(number: int, seconds: float) -> None:
        if number < 0:
            raise ValueError(f"{number} is negative")

    @on_update
    def note(number: int) -> None:
        notes.append(number)

    await wait_until(lambda: len(numbers) + len(notes) >= count and not updates_running())
    return [numbers, notes]


@app.workflow
async def bookkeeper(name: str, count: int, numbers: list[int]) -> list[int]:
    """Asks from a workflow: for some with ids that it has chosen, and for one that is refused."""
    handle = await ledger.options(id=name).start(count)
    found = [await handle.update("add", numbers[0], 0.0, result=int)]
    later = [
        await handle.start_update("add", number, 0.1, id=f"b{number}", result=int)
        for number in numbers[1:]
    ]
    try:
        await handle.update("add", -1, 0.0)
    except ValueError:
        return found + [await each.result() for each in later]
    return []


@app.workflow
async def fleeting() -> str:
    @on_update
    async def ask(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "answered"

    return await wait_signal("end", str)


async def updates(world: World, name: str) -> None:
    """Updates of many senders happen once each; those of one sender in its order; a query sees no fewer."""
    many = 2 + world.plan.size // 2
    count = many + 2 + many
    order: dict[int, int] = {}

    async def add(number: int) -> None:
        await world.pause(5.0)
        seconds = world.random.choice((0.0, 0.0, 0.05, 1.0))
        asking = ledger.options(id=name).and_update(
            "add", number, seconds, id=f"a{number}", result=int
        )
        order[number] = await patiently(lambda: asking(count))
        again = await patiently(lambda: asking(count))
        world.check(again == order[number], f"{number} came as {order[number]} and as {again}")

    async def note() -> None:
        handle = await patiently(lambda: ledger.options(id=name).start(count))
        seen = 0
        for number in range(many):
            # The next one is sent when this one is accepted for certain.
            await patiently(
                lambda number=number: handle.start_update("note", number, id=f"n{number}")
            )
            await world.pause(0.5)
            size = await patiently(lambda: handle.query("size", result=int))
            world.check(size >= seen, f"a query saw {size} after {seen}")
            seen = size

    async def keep() -> None:
        await world.pause(3.0)
        call = bookkeeper.options(id=f"{name}-keeper")
        found = await patiently(lambda: call(name, count, [1000, 1001]))
        order.update(zip((1000, 1001), found, strict=True))

    await asyncio.gather(note(), keep(), *(add(number) for number in range(many)))
    numbers, notes = await patiently(ledger.handle(name).result)
    world.check(notes == list(range(many)), f"notes of one sender came as {notes}")
    expected = {number: index + 1 for index, number in enumerate(numbers)}
    world.check(order == expected, f"answered were {order}, and what happened is {expected}")
    size = await patiently(lambda: ledger.handle(name).query("size", result=int))
    world.check(size == count, f"a query of the ended call gave {size}, not {count}")


async def fates(world: World, name: str) -> None:
    """However a workflow ends, its updates end too, and with one outcome."""
    handle = await patiently(fleeting.options(id=name).start)

    async def ask(number: int) -> None:
        await world.pause(4.0)
        seconds = world.random.choice((0.0, 0.5, 3.0, 1_000_000.0))
        found: list[Any] = []
        for _ in range(2):
            try:
                asking = lambda: handle.update("ask", seconds, id=f"u{number}")  # noqa: E731
                found.append(await patiently(asking))
            except CallEnded:
                found.append("ended")
        world.check(found in (["answered"] * 2, ["ended"] * 2), f"an update ended as {found}")

    async def end() -> None:
        await world.pause(6.0)
        how = world.random.choice(
            (lambda: handle.signal("end", "well"), handle.cancel, handle.terminate)
        )
        await patiently(how)
        try:
            await patiently(handle.result)
        except CallCancelled:
            pass

    await asyncio.gather(end(), *(ask(number) for number in range(2 + world.plan.size // 2)))
