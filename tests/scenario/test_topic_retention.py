"""Events are kept for so long, and what is kept is read as before."""

from __future__ import annotations

import asyncio

import pytest

from fenbu import App
from fenbu._core.topic import STREAM, log_id, log_key
from fenbu._node import retention
from fenbu._storage.protocol import StreamCursor
from tests.scenario.orders import Order, first, topic_of

pytestmark = pytest.mark.timeout(60)


async def numbers(app: App, shard: int) -> list[int]:
    """Of the events that a log has."""
    cursor = StreamCursor(log_id(log_key("orders", shard)), STREAM, 0)
    (page,) = await app.runtime.gateway.storage.load_chunks([cursor], limit=100)
    return [each.number for each in page.chunks]


@pytest.mark.parametrize("shards", [1, 2])
async def test_events_go_after_their_time_and_offsets_go_on(
    app: App, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOG_SECONDS_MIN", 0.01)
    monkeypatch.setattr(retention, "ROUND_SECONDS", 0.02)
    orders = topic_of(app, retention=2, shards=shards)
    kept = app.topic("kept", Order)
    async with app:
        placed = [Order(number, f"c{number}") for number in range(8)]
        of_shard = [[e for e in placed if orders._shard(e.customer) == n] for n in range(shards)]
        assert all(of_shard)
        reading = [
            asyncio.create_task(first(orders, len(each), after=0, shard=shard))
            for shard, each in enumerate(of_shard)
        ]
        await orders.publish_many(placed)
        await kept.publish(Order(1, "c"))
        before = [await each for each in reading]
        assert [[each.value for each in found] for found in before] == of_shard
        for shard in range(shards):
            while await numbers(app, shard):
                await asyncio.sleep(0)
        # Numbers are not given out again: who has read so far goes on behind them.
        for shard in range(shards):
            again = of_shard[shard][0]
            reader = asyncio.create_task(first(orders, 1, after=0, shard=shard))
            await orders.publish(again)
            (event,) = await reader
            assert event.value == again
            assert event.offset > before[shard][-1].offset
        assert [each.value for each in await first(kept, 1, after=0)] == [Order(1, "c")]
