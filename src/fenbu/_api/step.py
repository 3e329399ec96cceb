"""Steps: side effects of a workflow or operation, recorded once and never repeated after that."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import FunctionType
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from fenbu._api.context import required_activation
from fenbu._api.options import check_soft, limits_of, seconds
from fenbu._api.outcome import value_of
from fenbu._api.transaction import kind_of_connection
from fenbu._core.activation import Activation
from fenbu._core.codec import Codec
from fenbu._core.command import AbandonStep, RunStep
from fenbu._core.location import caller
from fenbu._core.need import Limits
from fenbu._core.retry import NO_RETRY, Retry
from fenbu._core.signature import Signature
from fenbu._core.work import Work
from fenbu.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


class Step:
    """Runs a function outside the replayed code and records its outcome. Use it as `fenbu.step`.

    The function may do anything: I/O, threads, time, chance. An `async def` runs on the node's event
    loop, a plain `def` in a thread, or in another process with `cpu=True`. Once its outcome is recorded
    it never runs again; if the process dies while it runs, it runs again at the next start (at least
    once), with the same idempotency key (`fenbu.current_attempt().idempotency_key`).

    Example:
        ```python
        payment = await step(charge, order.card, order.total)
        page = await step.options(retry=Retry(attempts=3), timeout=10)(fetch, url)
        ```
    """

    def __init__(
        self,
        retry: Retry = NO_RETRY,
        timeout_seconds: float | None = None,
        name: str | None = None,
        *,
        cpu: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._retry = retry
        self._timeout_seconds = timeout_seconds
        self._name = name
        self._cpu = cpu
        self._limits = limits
        self._works: dict[tuple[Codec, Callable[..., Any]], Work] = {}
        """Of functions that it has run before."""

    def options(
        self,
        *,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        soft_timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        name: str | None = None,
        cpu: bool | None = None,
    ) -> Step:
        """A `step` that does it differently.

        Args:
            retry: What to do when the function raises; without it, the error comes out at once.
            timeout: Seconds that one attempt may take; then `CallTimedOut` counts as its error.
            soft_timeout: Seconds after which an attempt is told, as for tasks: see `App.task`.
            heartbeat_timeout: Seconds for which an attempt may be without `fenbu.heartbeat`, else it is
                cancelled and counts as failed.
            name: What the journal calls the step, instead of the function's name.
            cpu: Run a plain function in another process: for work that computes long.

        Raises:
            UsageError: A value makes no sense.
        """
        most = self._timeout_seconds if timeout is None else seconds(timeout, "timeout")
        limits = self._changed(soft_timeout, heartbeat_timeout)
        check_soft(limits, most, "timeout")
        return Step(
            self._retry if retry is None else retry,
            most,
            self._name if name is None else name,
            cpu=self._cpu if cpu is None else cpu,
            limits=limits,
        )

    def _changed(
        self, soft_timeout: float | timedelta | None, heartbeat_timeout: float | timedelta | None
    ) -> Limits | None:
        before = self._limits or Limits()
        return limits_of(
            before.soft_seconds if soft_timeout is None else soft_timeout,
            before.heartbeat_seconds if heartbeat_timeout is None else heartbeat_timeout,
        )

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def __call__(
        self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def __call__(
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Run `function(*args, **kwargs)` as a step and return what it returned.

        Raises:
            UsageError: This is not the code of a workflow or operation, or it is no plain function.
            Exception: What the function raised, after its retries.
        """
        running = required_activation("step()")
        codec: Codec = running.context.codec
        try:
            work = self._works.get((codec, function))
        except TypeError:  # A callable that cannot be hashed.
            work = None
        if work is None:
            work = self._work(function, codec)
        return _run(running, RunStep(work.name, caller(), work, args, kwargs))

    def _work(self, function: Callable[..., Any], codec: Codec) -> Work:
        signature = _signature(function, codec)
        work = Work(
            self._name or _name(function), function, signature.is_async, signature.result,
            self._retry, self._timeout_seconds, self._cpu, None, self._limits, signature.needs,
        )  # fmt: skip
        if _lasts(function):
            self._works[codec, function] = work
        return work


class TxStep:
    """Runs a function as a step in one transaction with the record of its outcome. Use it as `fenbu.tx_step`.

    The function's first argument is a connection to the app's PostgreSQL database; what it writes there and
    the step's outcome are committed together: exactly once, whatever crashes. By the annotation of that
    parameter it is an asyncpg connection (also without an annotation), or SQLAlchemy's `AsyncSession` or
    `AsyncConnection`. The function leaves the commit to fenbu. If it raises, everything is rolled back.

    Keep it short: a transaction in which nothing is asked for 30 seconds is ended by the server.

    Example:
        ```python
        async def book(connection: asyncpg.Connection, order: Order) -> int:
            return await connection.fetchval("INSERT INTO booking … RETURNING id", order.id)

        booking = await tx_step(book, order)
        ```
    """

    def __init__(
        self, retry: Retry = NO_RETRY, timeout_seconds: float | None = None, name: str | None = None
    ) -> None:
        self._retry = retry
        self._timeout_seconds = timeout_seconds
        self._name = name

    def options(
        self,
        *,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        name: str | None = None,
    ) -> TxStep:
        """A `tx_step` that does it differently.

        Args:
            retry: What to do when the function raises; without it, the error comes out at once.
            timeout: Seconds that the function may take; then `CallTimedOut` counts as its error.
            name: What the journal calls the step, instead of the function's name.

        Raises:
            UsageError: A value makes no sense.
        """
        return TxStep(
            self._retry if retry is None else retry,
            self._timeout_seconds if timeout is None else seconds(timeout, "timeout"),
            self._name if name is None else name,
        )

    def __call__(
        self,
        function: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        """Run `function(connection, *args, **kwargs)` as a step and return what it returned.

        Raises:
            UsageError: This is not the code of a workflow or operation, the function is no `async def` or
                takes no connection, or the app is not on PostgreSQL.
            Exception: What the function raised, after its retries.
        """
        running = required_activation("tx_step()")
        codec: Codec = running.context.codec
        if not inspect.iscoroutinefunction(function) or hasattr(function, "__fenbu__"):
            raise UsageError(f"tx_step(function, …) takes an `async def`, not {function!r}")
        signature = Signature(function, codec, skip_first=True)
        work = Work(
            self._name or function.__qualname__, function, signature.is_async, signature.result,
            self._retry, self._timeout_seconds, transaction=kind_of_connection(signature.first),
            needs=signature.needs,
        )  # fmt: skip
        return _run(running, RunStep(work.name, caller(), work, args, kwargs))


async def _run(running: Activation, command: RunStep) -> Any:
    number, future = running.ask(command)
    try:
        outcome = await future
    except asyncio.CancelledError:
        if running.abandon(number):
            running.issue(AbandonStep(str(number), command.location, number))
        raise
    return value_of(outcome, command.work.result, f"step {command.name}")


_signatures: dict[tuple[Codec, Callable[..., Any]], Signature] = {}
"""Of functions that were steps before."""


def _signature(function: Callable[..., Any], codec: Codec) -> Signature:
    if not callable(function) or hasattr(function, "__fenbu__"):
        raise UsageError(
            f"step(function, …) takes a function, not {function!r}; a task, workflow or operation is "
            "called directly: `await handler(…)`"
        )
    if not _lasts(function):
        return Signature(function, codec)
    found = _signatures.get((codec, function))
    if found is None:
        found = _signatures[codec, function] = Signature(function, codec)
    return found


def _lasts(function: Callable[..., Any]) -> bool:
    """One that is made inside another function, or bound to an object, is new each time: not to be kept."""
    return isinstance(function, FunctionType) and "<locals>" not in function.__qualname__


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


tx_step = TxStep()
"""Run a function with a connection, in one transaction with its record. See `TxStep`."""

step = Step()
"""Run a function as a step: `await step(function, *args)`. See `Step`."""
