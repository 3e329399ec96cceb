"""A node whose event loop ends around it, as when a program leaves its app open."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App, Unavailable, callback

pytestmark = pytest.mark.timeout(60)


async def test_nobody_waits_for_a_node_that_was_cancelled(app: App) -> None:
    @app.workflow
    async def wait() -> int:
        return await (await callback(int)).result()

    async def stay(id_: str, waits: asyncio.Event) -> int:
        handle = await wait.options(id=id_).start()
        try:
            waits.set()
            return await handle.result()
        except asyncio.CancelledError:
            # Like what gives something back when it is cancelled.
            return await handle.result()

    async with app:
        waits = asyncio.Event()
        staying = asyncio.create_task(stay("one", waits))
        await waits.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(Unavailable, match="cancelled from outside"):
            await staying
        with pytest.raises(Unavailable):
            await wait()
    async with app:
        again = await wait.options(id="two").start()
        assert await again.status() == "running"
