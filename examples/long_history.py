"""A customer account with a long history, kept in rows of its own and read only by those who need it.

The state that every purchase reads and writes is a few bytes. What was bought is a lazy field for each year:
a purchase changes that of its own year, together with the points, and nothing reads the years before.

    python examples/long_history.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fenbu import App, Entity, Lazy, operation, step

app = App("history")


@dataclass
class Purchase:
    sku: str
    cents: int


async def charge(cents: int) -> None:
    """Ask the bank."""
    if cents > 10_000:
        raise ValueError(f"the bank says no to {cents}")


@app.entity
class Account(Entity):
    points: int = 0
    this_year: Lazy[list[Purchase]]
    last_year: Lazy[list[Purchase]]
    preferences: Lazy[dict[str, str]] = Lazy({"mail": "weekly"})

    async def buy(self, sku: str, cents: int) -> int:
        """The purchase is in the history, and its points are there, if and only if the bank says yes."""
        past = await self.this_year.get()
        self.this_year.set([*past, Purchase(sku, cents)])
        self.points += cents // 100
        await step(charge, cents)
        return len(past) + 1

    async def close_year(self) -> int:
        bought = await self.this_year.get()
        self.last_year.set(bought)
        self.this_year.set([])
        return sum(each.cents for each in bought)

    @operation(read_only=True)
    async def balance(self) -> int:
        """Reads no history."""
        return self.points

    @operation(read_only=True)
    async def summary(self) -> str:
        last, this = await self.last_year.get(), await self.this_year.get()
        mail = (await self.preferences.get())["mail"]
        return f"{len(last)} last year, {len(this)} this year, mail {mail}"


async def main() -> None:
    async with app:
        ann = Account("ann")
        for number in range(30):
            await ann.buy(f"tea-{number}", 450)
        try:
            await ann.buy("yacht", 9_000_000)
        except ValueError as error:
            print(error)
        print(f"closed with {await ann.close_year()} cents")
        print(f"purchase {await ann.buy('cup', 900)} of this year")
        print(await ann.summary())
    # Another process has none of it in memory: it reads what is asked for.
    async with app:
        print(f"{await ann.balance()} points")
        (found,) = (await app.list_entities(Account)).entities
        print(f"seen from outside: {found.state}")


if __name__ == "__main__":
    asyncio.run(main())
