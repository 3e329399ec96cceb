"""When to try again after an error, and after how long."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from fenbu.errors import TerminalError, UsageError


class Retry(Struct, frozen=True, kw_only=True):
    """A retry policy: exponential backoff with jitter.

    The delay after attempt n is `first_seconds * factor ** (n - 1)`, at most `max_seconds`, and spread at
    random by `jitter` around it, so that calls which failed together do not come back together
    (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Attributes:
        attempts: Attempts in all, the first included; None for no end.
        first_seconds: Seconds until the second attempt.
        factor: By how much each delay is longer than the one before.
        max_seconds: The longest delay.
        jitter: The fraction of the delay by which it is spread to both sides, 0 to 1.
        never: Errors that are never tried again.
        only: If given, only these errors are tried again.

    Raises:
        UsageError: A value makes no sense.

    Example:
        ```python
        @app.task(retry=Retry(attempts=8, never=(ValueError,)))
        async def send_receipt(order_id: int) -> None: ...
        ```
    """

    attempts: int | None = 5
    first_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 300.0
    jitter: float = 0.2
    never: tuple[type[Exception], ...] = ()
    only: tuple[type[Exception], ...] | None = None

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise UsageError(f"Retry(attempts={self.attempts}): at least 1, or None for no end")
        if self.first_seconds < 0 or self.max_seconds < 0:
            raise UsageError("Retry: first_seconds and max_seconds must not be negative")
        if self.factor < 1:
            raise UsageError(f"Retry(factor={self.factor}): at least 1")
        if not 0 <= self.jitter <= 1:
            raise UsageError(f"Retry(jitter={self.jitter}): from 0 to 1")

    def delay(self, attempt: int, random: float) -> float:
        """Seconds between this attempt, counted from 1, and the next; `random` is in [0, 1)."""
        # Beyond 2**64 the exponent says nothing that `max_seconds` does not.
        grown = self.first_seconds * self.factor ** min(attempt - 1, 64)
        seconds = min(grown, self.max_seconds)
        return seconds * (1 + self.jitter * (2 * random - 1))

    def again(self, attempt: int, error: BaseException) -> bool:
        """Whether to try again after this attempt, counted from 1, ended with this error."""
        if self.attempts is not None and attempt >= self.attempts:
            return False
        if not isinstance(error, Exception) or isinstance(error, asyncio.CancelledError):
            return False
        if isinstance(error, (TerminalError, UsageError, *self.never)):
            return False
        return self.only is None or isinstance(error, self.only)


NO_RETRY = Retry(attempts=1)
"""The error of the first attempt is the outcome."""
