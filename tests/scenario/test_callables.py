"""What may be a step."""

from __future__ import annotations

import asyncio

from fenbu import App, step


def one() -> int:
    return 1


class Adder:
    """A callable that cannot be hashed."""

    __hash__ = None

    def __init__(self, by: int) -> None:
        self.by = by

    async def __call__(self, number: int) -> int:
        return number + self.by


async def test_any_callable_can_be_a_step(app: App) -> None:
    @app.workflow
    async def workflow() -> list[int]:
        slow = step.options(timeout=20)
        return [await step(Adder(2), 1), await slow(Adder(3), 1), await step(Adder(4).__call__, 1)]

    async with app:
        assert await workflow() == [3, 4, 5]


async def test_one_that_cannot_be_hashed_runs_beside_functions_that_are_overridden(
    app: App,
) -> None:
    @app.workflow
    async def workflow() -> list[int]:
        return [await step(Adder(2), 1), await step(one)]

    async with app:
        with app.override(one, lambda: 100):
            async with asyncio.timeout(20):
                assert await workflow() == [3, 100]
