"""What is kept no longer is deleted in time, however much else there is to look at."""

from __future__ import annotations

import asyncio

import msgspec

from fenbu import App
from fenbu._core.topic import STREAM, log_id, log_key
from fenbu._storage.protocol import StreamCursor
from fenbu.testing import run


class Placed(msgspec.Struct):
    order: int


def test_events_do_not_wait_for_hundreds_of_handlers() -> None:
    app = App("many", url="memory:")
    orders = app.topic("orders", Placed, retention=120)
    log = log_id(log_key(orders.name, 0))

    async def nothing() -> None:
        pass

    for number in range(300):
        app.task(name=f"t{number}")(nothing)

    async def kept() -> int:
        page = await app.runtime.gateway.storage.load_chunks(
            [StreamCursor(log, STREAM, 0)], limit=10
        )
        return sum(len(each.chunks) for each in page)

    async def scenario() -> None:
        await orders.publish_many([Placed(1), Placed(2)])
        await asyncio.sleep(60)
        assert await kept() == 2
        await asyncio.sleep(60 + 61)
        assert await kept() == 0

    run(app, scenario)
