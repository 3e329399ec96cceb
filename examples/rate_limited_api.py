"""Many tasks, one API that refuses whoever calls too fast.

The limiter is an entity: a token bucket whose state is durable and whose operations run one at a time, so
all tasks on all nodes keep to one rate. Each asks when its turn is, waits so long, and calls.

    python examples/rate_limited_api.py
"""

from __future__ import annotations

import asyncio
import time

import fenbu
from fenbu import App, Entity, step

app = App("limited")
RATE = 100.0
"""Calls a second that the API allows."""


@app.entity
class Limiter(Entity):
    next_free: float = 0.0

    async def reserve(self, rate: float) -> float:
        """The instant of the caller's turn."""
        turn = max(self.next_free, fenbu.now().timestamp())
        self.next_free = turn + 1 / rate
        return turn


class Api:
    """Stands for a service elsewhere: it counts the calls of the last 100 ms."""

    calls: list[float] = []
    refused = 0

    @classmethod
    async def get(cls, item: int) -> str:
        now = time.monotonic()
        recent = [each for each in cls.calls if each > now - 0.1]
        if len(recent) > RATE * 0.1 * 2:
            cls.refused += 1
            raise ConnectionError("429 Too Many Requests")
        cls.calls.append(now)
        return f"item {item}"


async def get_at(turn: float, item: int) -> str:
    await asyncio.sleep(max(0.0, turn - time.time()))
    return await Api.get(item)


@app.workflow
async def lookup(item: int) -> str:
    turn = await Limiter("api").reserve(RATE)
    return await step(get_at, turn, item)


async def main() -> None:
    began = time.monotonic()
    async with app:
        found = await asyncio.gather(*(lookup(item) for item in range(60)))
    seconds = time.monotonic() - began
    print(f"{len(found)} calls in {seconds:.1f} s, {Api.refused} refused")


if __name__ == "__main__":
    asyncio.run(main())
