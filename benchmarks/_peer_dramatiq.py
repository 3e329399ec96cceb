"""Dramatiq's side of `versus_peers.py`, on Redis: worker or client, in an environment of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["PEER_REDIS"]

broker = RedisBroker(url=f"{URL}/0")
broker.add_middleware(Results(backend=RedisBackend(url=f"{URL}/1")))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, actor_name="add_one")
def add_one(number: int) -> int:
    return number + 1


def client(given: dict[str, Any]) -> dict[str, float]:
    results = redis.Redis.from_url(f"{URL}/1")
    results.flushdb()
    began = time.perf_counter()
    for each in range(given["count"]):
        add_one.send(each)
    enqueued = time.perf_counter() - began
    while results.dbsize() < given["count"]:
        time.sleep(0.02)
    return {"enqueued_seconds": enqueued, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(client(json.loads(sys.argv[2]))), flush=True)
