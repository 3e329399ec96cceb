"""Restate's side of `versus_engines.py`: the service, and the client that calls it through the ingress.

One node of restate-server with its own defaults; the service by hypercorn over HTTP/2; the client asks over
kept HTTP connections.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import restate

three = restate.Service("Three")


async def add_one(number: int) -> int:
    return number + 1


@three.handler()
async def run(context: restate.Context, number: int) -> int:
    number = await context.run_typed("one", add_one, number=number)
    number = await context.run_typed("two", add_one, number=number)
    return await context.run_typed("three", add_one, number=number)


counter = restate.VirtualObject("Counter")


@counter.handler()
async def increment(context: restate.ObjectContext, by: int) -> int:
    value = (await context.get("value", type_hint=int) or 0) + by
    context.set("value", value)
    return value


app = restate.app([three, counter])


async def client(given: dict[str, Any]) -> dict[str, float]:
    ingress, keys = given["ingress"], given["keys"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _registered(session, given["admin"], given["service"])

        async def workflow(number: int) -> None:
            async with session.post(f"{ingress}/Three/run", json=number) as answer:
                if await answer.json() != number + 3:
                    raise AssertionError(await answer.text())

        async def operation(number: int) -> None:
            url = f"{ingress}/Counter/key-{number % keys}/increment"
            async with session.post(url, json=1) as answer:
                if answer.status != 200:
                    raise AssertionError(await answer.text())

        call = operation if keys else workflow
        await measured(call, max(5, given["count"] // 20), given["concurrency"])
        return await measured(call, given["count"], given["concurrency"])


async def _registered(session: aiohttp.ClientSession, admin: str, service: str) -> None:
    """As soon as both have started."""
    for _ in range(300):
        try:
            async with session.post(f"{admin}/deployments", json={"uri": service}) as answer:
                if answer.status in (200, 201):
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("restate did not start")


async def measured(
    call: Callable[[int], Awaitable[None]], count: int, concurrency: int
) -> dict[str, float]:
    numbers = iter(range(count))
    latencies: list[float] = []

    async def one() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(min(concurrency, count))))
    ordered = sorted(latencies)
    return {
        "seconds": time.perf_counter() - began,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(client(json.loads(sys.argv[1])))), flush=True)
