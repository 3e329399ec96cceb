"""A stock that is watched as it changes, a list of what runs low, and sessions that are forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from fenbu import App, Entity

app = App("stock", url="memory:")


@app.entity
class Stock(Entity):
    units: int = 10

    async def take(self, units: int) -> int:
        self.units -= units
        return self.units


@app.entity(ttl=timedelta(days=30))
class Session(Entity):
    customer: str = ""

    async def log_in(self, customer: str) -> None:
        self.customer = customer


async def show(sku: str) -> None:
    """A web page would send each line to its reader."""
    async for seen in app.watch(Stock(sku)):
        if seen is None:
            print(f"{sku}: never sold")
            continue
        print(f"{sku}: {seen.state.units} left")
        if not seen.state.units:
            return


async def main() -> None:
    async with app:
        page = asyncio.create_task(show("tea"))
        for sku, units in (("cup", 8), ("pot", 2), ("tea", 3), ("tea", 7)):
            await Stock(sku).take(units)
        await page
        found = await app.list_entities(Stock)
        print("to order:", ", ".join(each.key for each in found.entities if each.state.units < 5))
        await Session("s-1").log_in("ann")
        (session,) = (await app.list_entities(Session)).entities
        if session.expires_at is not None:
            print("forgotten after", session.expires_at - session.changed_at)


if __name__ == "__main__":
    asyncio.run(main())
