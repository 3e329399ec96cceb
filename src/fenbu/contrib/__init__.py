"""What many services need, written with fenbu's public API and nothing else: read it as examples, too."""

from __future__ import annotations

from fenbu.contrib.breaker import CircuitBreaker, CircuitOpen
from fenbu.contrib.cache import Cache
from fenbu.contrib.leader import Leader
from fenbu.contrib.outbox import Outbox, Webhook
from fenbu.contrib.rate import RateLimited, RateLimiter
from fenbu.contrib.semaphore import Mutex, Semaphore

__all__ = [
    "Cache",
    "CircuitBreaker",
    "CircuitOpen",
    "Leader",
    "Mutex",
    "Outbox",
    "RateLimited",
    "RateLimiter",
    "Semaphore",
    "Webhook",
]
