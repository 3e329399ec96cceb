"""What makes no sense is refused where it is made, by name, and nothing is registered."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest

from fenbu import App, UsageError
from fenbu.contrib import (
    Cache,
    CircuitBreaker,
    Leader,
    Mutex,
    Outbox,
    RateLimiter,
    Semaphore,
)
from fenbu.testing import run


async def load(key: str) -> str:
    return key


WRONG: list[tuple[str, Callable[[App], Any]]] = [
    (r"Mutex\(lease_seconds=-1", lambda app: Mutex(app, lease_seconds=-1)),
    (r"Mutex\(lease_seconds=0", lambda app: Mutex(app, lease_seconds=0)),
    (r"Mutex\(lease_seconds=nan", lambda app: Mutex(app, lease_seconds=nan)),
    (r"Semaphore\(lease_seconds=inf", lambda app: Semaphore(app, lease_seconds=inf)),
    (r"Semaphore\(permits=0", lambda app: Semaphore(app, permits=0, lease_seconds=None)),
    (
        r"Semaphore\(permits=1\.5",
        lambda app: Semaphore(app, permits=1.5, lease_seconds=None),  # type: ignore[arg-type]
    ),
    (r"Leader\(lease_seconds=0", lambda app: Leader(app, lease_seconds=0)),
    (r"Leader\(lease_seconds=None", lambda app: Leader(app, lease_seconds=None)),  # type: ignore[arg-type]
    (r"Cache\(ttl_seconds=-1", lambda app: Cache(app, "rates", load, ttl_seconds=-1)),
    (r"Cache\(ttl_seconds=0", lambda app: Cache(app, "rates", load, ttl_seconds=0)),
    (r"secret=….: must be bytes, .* is str", lambda app: Outbox(app, secret="text")),  # type: ignore[arg-type]
    (r"secret=….: must be bytes, .* is empty", lambda app: Outbox(app, secret=b"")),
    (r"Outbox\(timeout_seconds=0", lambda app: Outbox(app, timeout_seconds=0)),
    (r"CircuitBreaker\(failures=0", lambda app: CircuitBreaker(app, failures=0)),
    (r"CircuitBreaker\(reset_seconds=-1", lambda app: CircuitBreaker(app, reset_seconds=-1)),
    (r"RateLimiter\(per_second=0", lambda app: RateLimiter(app, per_second=0)),
    (r"RateLimiter\(per_second=-1", lambda app: RateLimiter(app, per_second=-1)),
    (r"RateLimiter\(per_second=nan", lambda app: RateLimiter(app, per_second=nan)),
    (r"RateLimiter\(burst=0", lambda app: RateLimiter(app, per_second=1, burst=0)),
]


@pytest.mark.parametrize(("says", "make"), WRONG, ids=[says for says, _ in WRONG])
def test_it_is_refused_where_it_is_made(says: str, make: Callable[[App], Any]) -> None:
    app = App("wrong", url="memory:")
    before = list(app.runtime.registry.names())
    with pytest.raises(UsageError, match=says):
        make(app)
    assert list(app.runtime.registry.names()) == before


def test_a_secret_is_in_no_error() -> None:
    with pytest.raises(UsageError) as refused:
        Outbox(App("wrong", url="memory:"), secret="hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(refused.value)


def test_a_count_of_places_that_makes_no_sense_takes_and_gives_none() -> None:
    app = App("wrong", url="memory:")
    limiter = RateLimiter(app, per_second=1)

    async def scenario() -> None:
        for count in (0, -5):
            with pytest.raises(UsageError, match=rf"turn\(count={count}"):
                await limiter.turn(count=count)

    run(app, scenario)
