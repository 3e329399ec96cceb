"""Celery's side of `versus_peers.py`, on Redis: worker or client, in an environment of its own.

The worker prefetches many and acknowledges early, which is its fastest; results are kept in Redis.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import redis
from celery import Celery

URL = os.environ["PEER_REDIS"]

app = Celery("_peer_celery", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(
    worker_prefetch_multiplier=128,
    task_acks_late=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_pool_limit=10,
)


@app.task(name="add_one")
def add_one(number: int) -> int:
    return number + 1


def client(given: dict[str, Any]) -> dict[str, float]:
    results = redis.Redis.from_url(f"{URL}/1")
    results.flushdb()
    began = time.perf_counter()
    with app.producer_pool.acquire(block=True) as producer:
        for each in range(given["count"]):
            add_one.apply_async((each,), producer=producer)
    enqueued = time.perf_counter() - began
    while results.dbsize() < given["count"]:
        time.sleep(0.02)
    return {"enqueued_seconds": enqueued, "seconds": time.perf_counter() - began}


def main() -> None:
    role, given = sys.argv[1], json.loads(sys.argv[2])
    if role == "worker":
        options = ["--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["worker", "--loglevel=ERROR", f"--hostname=w{os.getpid()}", *options])
    print(json.dumps(client(given)), flush=True)


if __name__ == "__main__":
    main()
