"""Code that is to begin anew: what is raised through it, and what it looks like when it has left.

It has to arrive where the call's own line ends. What a task asks for that this line waits for does so, plain
or in the group that a `TaskGroup` makes of it; what an update asks for never can, so that is refused.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import cast

from fenbu._core.model import Payload

answering: ContextVar[bool] = ContextVar("fenbu_answering", default=False)
"""The function of an update runs, or a task that it has made."""


class ContinueAsNew(BaseException):
    """Raised through code that is to begin anew, with other arguments and an empty journal."""

    def __init__(self, version: int, payload: Payload) -> None:
        super().__init__("continues as new")
        self.version = version
        self.payload = payload


def anew_of(error: BaseException | None) -> ContinueAsNew | None:
    """How the code that this has left is to begin anew; None if it has failed, also beside that."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        found = [anew_of(each) for each in group.exceptions]
        # Of two that ask at the same time, the first.
        return None if None in found else found[0]
    return error if isinstance(error, ContinueAsNew) else None
