"""The durable functions that are measured, on an app of their own for each run.

They stand at the top level of a module, as users write them. They do nothing, so that what is measured
is what fenbu adds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fenbu import App, DurableFunction, Entity, Status, step, wait_signal

LONG_SECONDS = 30 * 86_400.0


async def add_one(number: int) -> int:
    """A step, and a task."""
    return number + 1


async def three_steps(number: int) -> int:
    """The workflow that every engine is measured by."""
    number = await step(add_one, number)
    number = await step(add_one, number)
    return await step(add_one, number)


class Arrivals:
    """How often the code of `sleep_long` has come to its sleep in this process: also when it is replayed."""

    count = 0


async def sleep_long(number: int) -> int:
    """A workflow that has done one step, then waits for a signal for a month."""
    number = await step(add_one, number)
    Arrivals.count += 1
    async with asyncio.timeout(LONG_SECONDS):
        await wait_signal("wake")
    return number


@dataclass
class Workload:
    """An app and what is registered on it."""

    app: App
    task: DurableFunction[[int], int]
    three_steps: DurableFunction[[int], int]
    sleep_long: DurableFunction[[int], int]
    fan_out: DurableFunction[[int], int]
    Counter: Any

    async def check_three_steps(self, number: int) -> None:
        """Run the workflow, and see that it has counted right."""
        result = await self.three_steps(number)
        if result != number + 3:
            raise AssertionError(result)


def workload(database: Path) -> Workload:
    """A fresh app on this file."""
    return workload_on(f"sqlite:///{database}")


def workload_on(url: str) -> Workload:
    """A fresh app on this database."""
    app = App("benchmark", url=url)
    task = app.task(add_one)

    @app.entity
    class Counter(Entity):
        value: int = 0

        async def increment(self, by: int) -> int:
            self.value += by
            return self.value

    async def fan_out(count: int) -> int:
        """Start so many tasks, wait for all of them, and add up what they return."""
        return sum(await asyncio.gather(*(task(number) for number in range(count))))

    return Workload(
        app,
        task,
        app.workflow(three_steps),
        app.workflow(sleep_long),
        app.workflow(fan_out),
        Counter,
    )


async def suspended(app: App) -> int:
    """How many calls have left memory to wait."""
    found = await app.runtime.gateway.storage.count_calls()  # type: ignore[attr-defined]
    return sum(count for (_, status), count in found.items() if status == Status.SUSPENDED)
