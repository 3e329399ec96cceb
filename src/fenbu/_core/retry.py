"""When to try again after an error, and after how long. The random number is an argument."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

from msgspec import Struct

from fenbu.errors import RetryLater, TerminalError, UsageError


class Retry(Struct, frozen=True, kw_only=True):
    """A retry policy: exponential backoff with jitter.

    The delay after attempt n is `first_seconds * factor ** (n - 1)`, at most `max_seconds`, of which a
    random part of up to `jitter` is taken off, so that calls which failed together do not come back
    together: 1 is the "full jitter" and 0.5 the "equal jitter" of M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015; 0 is none.

    `TerminalError` and `UsageError` are never tried again, nor is a cancellation. An exception group, as
    `asyncio.TaskGroup` raises it, is tried again if each error in it would be.

    Attributes:
        attempts: Attempts in all, the first included; None for no end.
        first_seconds: Seconds until the second attempt.
        factor: By how much each delay is longer than the one before.
        max_seconds: The longest delay.
        jitter: The fraction of the delay that is left to chance, 0 to 1.
        total_seconds: No attempt begins later than so many seconds after the first one; None for no end.
        never: Errors that are never tried again.
        only: If given, only these errors are tried again.

    Raises:
        UsageError: A value makes no sense; it names the field.

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
    total_seconds: float | None = None
    never: tuple[type[Exception], ...] = ()
    only: tuple[type[Exception], ...] | None = None

    def __post_init__(self) -> None:
        if self.attempts is not None:
            self._require("attempts", "a whole number from 1, or None for no end", 1, whole=True)
        self._require("first_seconds", "a number of seconds, not negative", 0)
        self._require("factor", "a number from 1", 1)
        self._require("max_seconds", "a number of seconds, not negative", 0)
        self._require("jitter", "a fraction from 0 to 1", 0, 1)
        if self.total_seconds is not None:
            self._require("total_seconds", "a number of seconds, not negative, or None", 0)
        for name, errors in (
            ("never", self.never),
            ("only", () if self.only is None else self.only),
        ):
            if not isinstance(cast("Any", errors), tuple) or not all(map(_is_error, errors)):
                raise UsageError(
                    f"Retry({name}={errors!r}): must be a tuple of exception classes, such as (OSError,)"
                )

    def _require(
        self, name: str, wanted: str, least: float, most: float = math.inf, *, whole: bool = False
    ) -> None:
        value = getattr(self, name)
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not least <= value <= most or value == math.inf:
            raise UsageError(f"Retry({name}={value!r}): must be {wanted}")

    def delay(self, attempt: int, random: float) -> float:
        """Seconds between this attempt, counted from 1, and the next; `random` is in [0, 1)."""
        try:
            # A float, because the power of an integer has no end.
            seconds = min(
                self.first_seconds * float(self.factor) ** (attempt - 1), self.max_seconds
            )
        except OverflowError:
            seconds = self.max_seconds if self.first_seconds else 0.0
        return seconds * (1 - self.jitter * random)

    def again(self, attempt: int, error: BaseException) -> bool:
        """Whether to try again after this attempt, counted from 1, ended with this error."""
        if isinstance(error, RetryLater):
            return True
        if self.attempts is not None and attempt >= self.attempts:
            return False
        if isinstance(error, (TerminalError, UsageError, asyncio.CancelledError, *self.never)):
            return False
        if isinstance(error, BaseExceptionGroup) and not (
            self.only and isinstance(error, self.only)
        ):
            members = cast("BaseExceptionGroup[BaseException]", error).exceptions
            return all(self.again(attempt, each) for each in members)
        return isinstance(error, Exception if self.only is None else self.only)


def explained(error: BaseException, where: str) -> BaseException:
    """The error that `where` ended with, in words that help if it is a RetryLater of its own."""
    if not isinstance(error, RetryLater) or error.is_over:
        return error
    misplaced = UsageError(
        f"{where} raised RetryLater, which only a task or step can: code is not run again. Put what is not "
        "there yet into a step, and raise it in that, or sleep here"
    )
    misplaced.__cause__ = error
    return misplaced


def _is_error(each: Any) -> bool:
    return isinstance(each, type) and issubclass(each, Exception)


NO_RETRY = Retry(attempts=1)
"""The error of the first attempt is the outcome."""
