"""A workflow that answers queries and updates, for several files of tests."""

from __future__ import annotations

import asyncio
from typing import Any

from fenbu import (
    App,
    DurableFunction,
    Status,
    on_query,
    on_update,
    step,
    updates_running,
    wait_until,
)


class SoldOut(Exception):
    def __init__(self, sku: str) -> None:
        super().__init__(f"{sku} is sold out")
        self.sku = sku


async def reserve(sku: str) -> str:
    if sku.startswith("gone"):
        raise SoldOut(sku)
    return f"reserved {sku}"


def cart_of(app: App, full: int = 3) -> DurableFunction[[str], list[str]]:
    @app.workflow(name="cart")
    async def cart(user: str) -> list[str]:
        items: list[str] = []
        closed: list[bool] = []

        @on_query
        def count(least: int = 0) -> int:
            return max(len(items), least)

        @on_query(name="everything")
        def all_items() -> list[str]:
            return items

        @on_update
        async def add(sku: str) -> int:
            await step(reserve, sku)
            items.append(sku)
            return len(items)

        @add.validator
        def check(sku: str) -> None:
            if sku in items:
                raise ValueError(f"{user} has {sku} already")

        @on_update
        def put(sku: str, number: int = 1) -> list[str]:
            items.extend([sku] * number)
            return items

        @on_update
        async def close() -> None:
            closed.append(True)

        await wait_until(lambda: (closed or len(items) >= full) and not updates_running())
        return items

    return cart


async def until(handle: Any, status: Status) -> None:
    async with asyncio.timeout(20):
        while await handle.status() is not status:
            await asyncio.sleep(0)
