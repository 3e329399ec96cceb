"""What runs outside the core, a step's function or a task's, and how: the same for every call and attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from fenbu._core.codec import TypeCodec
from fenbu._core.need import Limits, Needed
from fenbu._core.retry import NO_RETRY, Retry


class Work(Struct, eq=False):
    """A function and how it is run. Made once, and then not changed."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    """Calling it makes a coroutine."""
    result: TypeCodec
    retry: Retry = NO_RETRY
    timeout_seconds: float | None = None
    """For each attempt."""
    cpu: bool = False
    """It runs in another process."""
    transaction: str | None = None
    """The kind of connection to the database that the function is given, as its first argument: its writes
    and its outcome are one transaction."""
    limits: Limits | None = None
    needs: tuple[Needed, ...] = ()
    """Parameters that the node fills in."""
    is_plain: bool = False
    """It is called and awaited, and that is all."""

    def __post_init__(self) -> None:
        self.is_plain = (
            self.is_async
            and not self.cpu
            and not self.needs
            and self.timeout_seconds is None
            and self.limits is None
            and self.transaction is None
        )
