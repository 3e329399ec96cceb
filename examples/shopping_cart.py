"""A cart as an entity: reads side by side, an alarm, a call back, and states of an older class."""

from __future__ import annotations

import asyncio
from typing import Any

from fenbu import App, Entity, operation, step

app = App("cart", url="memory:")
abandoned = asyncio.Event()


async def charge(cents: int) -> str:
    return f"paid {cents}"


async def remind(customer: str) -> None:
    print(f"mail to {customer}: your cart waits")
    abandoned.set()


@app.entity
class Cart(Entity):
    __version__ = 2
    lines: list[tuple[str, int]] = []  # Was `items: dict[str, int]` in version 1.
    total: int = 0

    @classmethod
    def __upgrade__(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
        lines = list(old["items"].items())
        return {"lines": lines, "total": sum(cents for _, cents in lines)}

    @operation
    async def add(self, sku: str, cents: int) -> None:
        self.lines.append((sku, cents))
        self.total += cents
        self.alarm(0.3, self.on_abandoned)  # Counted from the last item.

    @operation
    async def check_out(self) -> str:
        self.cancel_alarm(self.on_abandoned)
        before = self.total
        receipt = await pay(self.key)
        return f"{receipt}, {before - self.total} off"

    @operation(reentrant=True)
    async def apply_voucher(self, cents: int) -> int:
        """Called by the payment, while `check_out` waits for it."""
        self.total -= cents
        return self.total

    @operation(read_only=True)
    async def skus(self) -> list[str]:
        return [sku for sku, _ in self.lines]

    async def on_abandoned(self) -> None:
        await step(remind, self.key)


@app.workflow
async def pay(key: str) -> str:
    return await step(charge, await Cart(key).apply_voucher(150))


async def main() -> None:
    async with app:
        for customer in ("ann", "bob"):
            await Cart(customer).add("tea", 800)
            await Cart(customer).add("cup", 1200)
        print(*await asyncio.gather(*(Cart("ann").skus() for _ in range(2))))
        print("ann:", await Cart("ann").check_out())
        await abandoned.wait()


if __name__ == "__main__":
    asyncio.run(main())
