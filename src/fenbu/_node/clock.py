"""The only reader of time and the only source of randomness in the package; a simulation passes its own."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """What a node asks of the world besides its database."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def elapsed(self) -> float:
        """Seconds that only go forward."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def entropy(self) -> int:
        """64 random bits."""
        ...


class SystemClock:
    """The clock and randomness of this machine."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        # Ids need uniqueness, not secrecy: a seeded generator is 10 times faster than the system's.
        self._fast = random.Random(self._random.getrandbits(256))  # noqa: S311

    now = staticmethod(time.time)
    elapsed = staticmethod(time.monotonic)

    def random(self) -> float:
        return self._fast.random()

    def entropy(self) -> int:
        return self._fast.getrandbits(64)
