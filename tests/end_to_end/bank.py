"""The service that the end-to-end tests run in processes of their own, with `fenbu run`."""

from __future__ import annotations

import asyncio
import os
import random

from fenbu import App, Entity, Retry, step, wait_signal

app = App("bank", idle_seconds=0.3)


class Flaky(Exception):
    """It happens."""


@app.entity
class Account(Entity):
    balance: int = 0
    moves: int = 0

    async def move(self, cents: int) -> int:
        self.balance += cents
        self.moves += 1
        return self.balance

    async def move_slowly(self, cents: int) -> int:
        self.balance += await step(work, cents)
        self.moves += 1
        return self.balance


async def work(value: int) -> int:
    await asyncio.sleep(0.01)
    return value


@app.task(retry=Retry(attempts=50, first_seconds=0.02, max_seconds=0.1))
async def clear(cents: int) -> int:
    if random.random() < 0.3:
        raise Flaky
    return cents


@app.workflow
async def transfer(source: str, target: str, cents: int) -> str:
    await Account(source).move(-cents)
    await step(work, 1)
    cleared = await clear(cents)
    if cents % 3 == 0:
        await asyncio.sleep(0.4)
    async with asyncio.TaskGroup() as group:
        group.create_task(Account(target).move(cleared))
        group.create_task(Account("log").move(1))
        group.create_task(Account(source).move_slowly(0))
    if cents % 7 == 0 and await wait_signal("approved", int) != cents:
        raise ValueError(cents)
    await step(work, 2)
    return "done"


@app.task
async def murder() -> None:
    """Takes its process down."""
    os._exit(9)


@app.task
async def innocent(n: int) -> int:
    await asyncio.sleep(0.05)
    return n


@app.task
async def long(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "ended"
