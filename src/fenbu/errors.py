"""Every error of fenbu, split by who must act.

    FenbuError
    ├── UsageError            fix your code or your command; raised at once, nothing was accepted
    │   └── EncodingError     a value does not fit its type, or cannot be encoded
    │       ├── PayloadTooLarge     it has more bytes than the app allows
    │       └── PayloadUnreadable   it was stored with a key that this process does not have
    ├── CallError             what became of a call
    │   ├── CallFailed        it raised an error whose type is unknown here
    │   ├── CallCancelled     it was cancelled
    │   ├── CallTimedOut      its time was up
    │   ├── AlreadyExists     a call has this id, and its sender wanted a new one
    │   ├── CallNotFound      no such call, or its retention is over
    │   ├── HistoryTooLong    its journal grew without end
    │   ├── CallEnded         it ended before it could answer an update
    │   └── DeadlockError     it would have waited for itself
    ├── NonDeterminismError   the code no longer matches its journal; the call is parked as stuck
    ├── StorageError
    │   ├── Unavailable       retried by the node; a caller may try again
    │   ├── OwnershipLost     another node owns what this one wanted
    │   ├── SchemaMismatch    the database belongs to another version of fenbu
    │   └── UnsupportedDatabase   the file or server is not one that fenbu can use
    └── InternalError         a bug in fenbu: please report it

Raised into bodies whose time is short: `SoftTimeout`, which is a cancellation and no `FenbuError`.

Raised by user code to steer a retry: `TerminalError` (do not try again), `RetryLater` (again after a while).

This module imports nothing of fenbu.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta


class FenbuError(Exception):
    """The root of every error that fenbu raises."""


class UsageError(FenbuError):
    """Something is used in a way that cannot work; the message says what to change."""


class EncodingError(UsageError):
    """A value cannot be encoded, or does not fit the declared type; the message names the parameter."""


class PayloadTooLarge(EncodingError):
    """A value has more bytes than the app allows (`App(payload_bytes_max=…)`).

    Attributes:
        size: Its bytes when it is encoded.
        bytes_max: How many are allowed.
    """

    def __init__(self, size: int, bytes_max: int, what: str = "") -> None:
        super().__init__(
            f"{what or 'a value'} has {size:,} bytes when encoded, and this app allows {bytes_max:,}: store "
            "it elsewhere (a file, an object store) and pass its name, or raise App(payload_bytes_max=…)"
        )
        self.size = size
        self.bytes_max = bytes_max
        self._is_named = bool(what)

    def named(self, what: str) -> PayloadTooLarge:
        """The same, saying which value it is, unless it says so already."""
        return self if self._is_named else PayloadTooLarge(self.size, self.bytes_max, what)

    def __reduce__(self) -> tuple[Callable[..., PayloadTooLarge], tuple[int, int, str]]:
        return (_too_large, (self.size, self.bytes_max, str(self)))


def _too_large(size: int, bytes_max: int, message: str) -> PayloadTooLarge:
    made = PayloadTooLarge(size, bytes_max)
    made.args = (message,)
    return made


class PayloadUnreadable(EncodingError):
    """A stored value cannot be read here: no key fits, or it was changed. Nothing of it is lost.

    A call that needs it is parked as `stuck`, and goes on in a process whose app has the key.
    """


class TerminalError(FenbuError):
    """Raise it in a task or step to fail at once, whatever its retry policy says."""


class RetryLater(FenbuError):
    """Raise it in a task or step to be run again after a while: it spends no attempt, and needs no policy.

    For what is not there yet and will be: a report that is being made, a lock that somebody has.

    Attributes:
        after: Seconds until it runs again.
        is_over: It was the outcome: that would have been later than `Retry(total_seconds=…)` allows.

    Raises:
        UsageError: `after` is no number of seconds.

    Example:
        ```python
        async def fetch_report(id: str) -> bytes:
            answer = await service.get(id)
            if answer.status == 202:
                raise RetryLater(after=30)
            return answer.body
        ```
    """

    is_over: bool = False

    def __init__(
        self, message: str = "it is to run again later", *, after: float | timedelta
    ) -> None:
        super().__init__(message)
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not is_number or not 0 <= seconds < math.inf:
            raise UsageError(
                f"RetryLater(after={after!r}): must be seconds (a number, not negative) or a timedelta"
            )
        self.after = float(seconds)

    def __reduce__(self) -> tuple[Callable[..., RetryLater], tuple[str, float], dict[str, object]]:
        return (_retry_later, (str(self), self.after), vars(self))


def _retry_later(message: str, after: float) -> RetryLater:
    return RetryLater(message, after=after)


class SoftTimeout(asyncio.CancelledError):
    """The soft time limit of an attempt has passed: what the body can still do, it should do now.

    Raised where an `async def` body waits, once. It is a kind of cancellation, so that task groups end their
    tasks and `except Exception` does not catch it. A body that lets it out has failed with `CallTimedOut`.

    Example:
        ```python
        @app.task(soft_timeout=50, attempt_timeout=60)
        async def crawl(site: str) -> int:
            pages = 0
            try:
                async for page in pages_of(site):
                    pages += 1
            except SoftTimeout:
                await save(site, pages)
            return pages
        ```
    """


class CallError(FenbuError):
    """A call that ended without a result."""


class CallFailed(CallError):
    """A call or step raised an error whose type is not known in this process.

    Attributes:
        type: The qualified name of the original error's class.
        message: Its text.
        remote_traceback: The traceback where it was raised, as text.
    """

    def __init__(self, type: str, message: str, remote_traceback: str = "") -> None:  # noqa: A002
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message
        self.remote_traceback = remote_traceback

    def __reduce__(self) -> tuple[type[CallFailed], tuple[str, str, str]]:
        return (CallFailed, (self.type, self.message, self.remote_traceback))


class CallCancelled(CallError):
    """The call was cancelled before it had a result."""


class CallTimedOut(CallError):
    """The call did not end within its timeout, or an attempt within its own."""


class CallNotFound(CallError):
    """No call has this id, or it ended so long ago that its retention is over."""


class AlreadyExists(CallError):
    """A call with this id exists, and it was started with `if_exists="reject"`."""


class HistoryTooLong(CallError):
    """The call's journal grew beyond what can be replayed: let it continue as new now and then."""


class CallEnded(CallError):
    """A workflow has ended, or continued as new, and an update that it has not answered comes to nothing."""


class DeadlockError(CallError):
    """The call would have waited, through other calls, for itself."""


class NonDeterminismError(FenbuError):
    """The code of a workflow or operation asks for something else than its journal recorded.

    The call is parked with status `stuck`: nothing of it is lost, and a process that starts with
    code that matches the journal picks it up again.

    Attributes:
        position: Where in the journal; 0 is before its first entry.
        recorded: What was recorded there, with its place in the code of then.
        asked: What the code asks for now, with its place.
    """

    position = 0
    recorded = ""
    asked = ""


class StorageError(FenbuError):
    """The database said no."""


class Unavailable(StorageError):
    """The database cannot be reached or written just now; the node keeps trying, a caller may try again."""


class OwnershipLost(StorageError):
    """Another node owns these partitions."""


class SchemaMismatch(StorageError):
    """The tables belong to another version of fenbu."""


class UnsupportedDatabase(StorageError):
    """The file or server is not one that fenbu can use; the message says why."""


class InternalError(FenbuError):
    """An invariant of fenbu itself does not hold: a bug, please report it."""
