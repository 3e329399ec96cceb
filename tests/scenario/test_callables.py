"""What may be a step."""

from __future__ import annotations

import asyncio

from fenbu import App, step


class Adder:
    """A callable that cannot be hashed."""

    __hash__ = None

    def __init__(self, by: int) -> None:
        self.by = by

    async def __call__(self, number: int) -> int:
        return number + self.by


def test_any_callable_can_be_a_step(app: App) -> None:
    @app.workflow
    async def workflow() -> list[int]:
        slow = step.options(timeout=20)
        return [await step(Adder(2), 1), await slow(Adder(3), 1), await step(Adder(4).__call__, 1)]

    async def main() -> None:
        async with app:
            assert await workflow() == [3, 4, 5]

    asyncio.run(main())
