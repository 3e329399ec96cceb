"""A delayed call that ends while its row is being read because it is due."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import App, CallCancelled, Status
from fenbu._core.batch import CommitBatch
from fenbu._node.node import Node
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.protocol import Commit


@pytest.mark.guarantee("one-outcome")
def test_a_call_that_is_cancelled_when_it_is_due_does_not_come_back() -> None:
    app = App("due", url="memory:")
    ran: list[str] = []

    @app.task
    async def later() -> None:
        ran.append("later")

    async def main() -> None:
        storage = MemoryStorage()
        meta = await storage.open()
        app.registry.partition_count = meta.partition_count
        node = Node(app.registry, storage)
        await node.start()
        app.runtime.opened(node)
        try:
            handle = await later.options(id="x", delay=3600).start()
            cancelled, gate = asyncio.Event(), asyncio.Event()
            commit = storage.commit

            async def slow_commit(batch: CommitBatch) -> Commit:
                if any(each.id == "x" for each in batch.updated):
                    cancelled.set()
                    await gate.wait()
                return await commit(batch)

            storage.commit = slow_commit  # type: ignore[method-assign]
            work: list[asyncio.Future[Any]] = [asyncio.ensure_future(handle.cancel())]
            await cancelled.wait()
            tenure = node.tenure
            assert tenure is not None
            due = asyncio.ensure_future(
                tenure._loader.due(list(tenure.engine.partitions), node.clock.now() + 7200)
            )
            for _ in range(100):
                await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*work, due)
            with pytest.raises(CallCancelled):
                await handle.result()
            await tenure.committer.written()
            assert (await handle.status(), ran) == (Status.CANCELLED, [])
        finally:
            app.runtime.closed()
            await node.stop()

    asyncio.run(main())
