"""Sagas: compensations that run in reverse if what they belong to fails."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Self

from fenbu._api.step import step
from fenbu._core.anew import anew_of
from fenbu._core.retry import Retry
from fenbu.errors import UsageError

P = ParamSpec("P")

COMPENSATION_RETRY = Retry(attempts=10, first_seconds=1.0, max_seconds=60.0)
"""A compensation that is given up leaves a mess, so it is tried for some minutes."""


class saga:  # noqa: N801 - reads as the statement it is
    """Undo what was done if the block fails or is cancelled: last done, first undone, each once.

    Args:
        retry: The retry policy of each compensation.

    If a compensation fails for good the others still run, and the error that left the block carries a
    note about each of them.

    Example:
        ```python
        async with saga() as undo:
            payment = await step(charge, card, total)
            undo(refund, payment)
            await Stock(sku).reserve(1)
            undo(Stock(sku).release, 1)
            await step(ship, order)
        ```
    """

    def __init__(self, *, retry: Retry = COMPENSATION_RETRY) -> None:
        self._retry = retry
        self._compensations: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Remember a compensation: a function, which runs as a step, or a task, workflow or operation."""
        self._compensations.append((function, args, kwargs))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, GeneratorExit):
            return
        refused = bool(self._compensations) and anew_of(error) is not None
        if refused:
            error = UsageError(
                "continue_as_new() inside `async with saga()` would forget what is to be undone: leave the "
                "block first"
            )
        while self._compensations:
            function, args, kwargs = self._compensations.pop()
            try:
                if hasattr(function, "__fenbu__"):
                    await function(*args, **kwargs)
                else:
                    await step.options(retry=self._retry)(function, *args, **kwargs)
            except Exception as failed:  # noqa: BLE001 - the other compensations must run
                name = getattr(function, "__qualname__", repr(function))
                error.add_note(f"compensation {name} failed: {type(failed).__name__}: {failed}")
        if refused:
            raise error
