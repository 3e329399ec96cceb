"""Runs bodies: coroutines on the node's loop, plain functions in threads, `cpu=True` in processes.

Takes `RunBody` effects, which are durable by then, and reports `BodyEnded` for each of them exactly once,
whatever the body does: those that end in one turn of the event loop together. Bodies beyond the concurrency
wait in order.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import multiprocessing
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import copy_context
from itertools import islice
from typing import Any

from msgspec.structs import replace

from fenbu._core.effect import RunBody
from fenbu._core.event import BodyEnded
from fenbu._core.failure import failure_of
from fenbu._core.model import Outcome, Payload, Status
from fenbu._node.attempt import current
from fenbu._node.clock import Clock
from fenbu._storage.protocol import StepKey
from fenbu.errors import CallTimedOut, RetryLater, UsageError

Key = tuple[str, int]

Work = Callable[[Any], Coroutine[Any, Any, Payload]]

Transactor = Callable[[StepKey, str, Work], Coroutine[Any, Any, Payload]]
"""`Storage.run_step`."""

FEW = 8
"""Bodies whose end is reported without a further turn of the event loop."""


@functools.lru_cache(maxsize=4096)
def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine."""
    call = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], name: str
) -> asyncio.Task[None]:
    """A task that runs to its first wait at once, where Python can do that: most bodies end there."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, name=name, eager_start=True)
    return asyncio.Task(work, loop=loop, name=name)


def _has_begun(task: asyncio.Task[None]) -> bool:
    work = task.get_coro()
    return not inspect.iscoroutine(work) or inspect.getcoroutinestate(work) != inspect.CORO_CREATED


def _call_by_name(module: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """In a pool process: find the function again, under its decorator if it has one, and call it."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return getattr(found, "__wrapped__", found)(*args, **kwargs)


class Executor:
    """See the module."""

    def __init__(
        self,
        clock: Clock,
        report: Callable[[list[BodyEnded]], None],
        run_step: Transactor,
        overrides: Mapping[Callable[..., Any], Callable[..., Any]],
        *,
        concurrency: int,
        threads: int,
        processes: int,
    ) -> None:
        # Asking for the running loop is slow on Python 3.11: it is the same one all along.
        self._loop = asyncio.get_running_loop()
        self.home: object = None
        """Takes what bodies write to streams."""
        self._time = self._loop.time
        self._clock = clock
        self._report = report
        self._run_step = run_step
        self._overrides = overrides
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fenbu-body")
        self._process_count = processes
        self._processes: ProcessPoolExecutor | None = None
        self._running: dict[Key, tuple[asyncio.Task[None] | None, RunBody]] = {}
        self._waiting: OrderedDict[Key, RunBody] = OrderedDict()
        self._ended: list[BodyEnded] = []
        """Not yet reported."""
        self.ended_count = 0
        """Bodies that have ended."""
        self._starting = False
        self._draining = False
        self._held: dict[int, dict[Key, RunBody]] = {}
        """Bodies that are not to start, of partitions that are to go."""
        self._quieter = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def last_waiting(self, count: int) -> dict[tuple[int, str], set[int]]:
        """By partition and id, the commands of calls whose bodies are the last ones to get their turn."""
        found: dict[tuple[int, str], set[int]] = {}
        for body in islice(reversed(self._waiting.values()), count):
            found.setdefault((body.partition, body.id), set()).add(body.command)
        return found

    def withdraw(self, id_: str, commands: Iterable[int]) -> None:
        """These bodies, which wait for their turn, are not to run."""
        for command in commands:
            del self._waiting[id_, command]

    @property
    def running_count(self) -> int:
        return len(self._running)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def runs(self, body: RunBody) -> bool:
        """Whether it runs at this moment, and none of the same name waits until it has let go."""
        key = (body.id, body.command)
        running = self._running.get(key)
        return running is not None and running[1] is body and key not in self._waiting

    def run(self, bodies: Iterable[RunBody]) -> None:
        """Run each now, or as soon as another ends."""
        if self._draining:
            return
        running, starting, self._starting = self._running, self._starting, True
        for body in bodies:
            key = (body.id, body.command)
            if body.partition in self._held:
                self._held[body.partition][key] = body
            elif len(running) >= self._concurrency or key in running:
                self._waiting[key] = body
            else:
                self._start(key, body)
        self._starting = starting
        self._next()

    def stop_body(self, key: Key) -> None:
        """Cancel a body; a plain function's thread goes on, but nobody listens."""
        for held in self._held.values():
            held.pop(key, None)
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            # One that runs with this name belongs to an earlier run of the call, and is cancelled already.
            self._end(waiting, Outcome(Status.CANCELLED), 0.0)
            return
        running = self._running.get(key)
        if running is not None:
            task, body = running
            if task is not None:
                task.cancel()
            if task is not None and not _has_begun(task):
                # A task that is cancelled before its first line runs nothing at all.
                del self._running[key]
                self._end(body, Outcome(Status.CANCELLED), 0.0)
                self._next()

    def hold(self, partitions: Iterable[int]) -> None:
        """Start nothing more of these partitions."""
        for number in partitions:
            self._held.setdefault(number, {})
        for key, body in list(self._waiting.items()):
            if body.partition in self._held:
                self._held[body.partition][key] = self._waiting.pop(key)

    def resume(self, partitions: Iterable[int]) -> None:
        """They stay after all: start what was held."""
        self.run([body for each in partitions for body in self._held.pop(each, {}).values()])

    def forget(self, partitions: Iterable[int]) -> None:
        """They are gone: what was held, and whatever is still asked for, runs at their next owner."""
        for number in partitions:
            self._held[number] = {}

    def welcome(self, partitions: Iterable[int]) -> None:
        """They have come, perhaps back."""
        for number in partitions:
            self._held.pop(number, None)

    async def quiet(self, partitions: Collection[int], seconds: float) -> bool:
        """Wait until nothing of these partitions runs, at most so long: true if so."""
        try:
            async with asyncio.timeout(seconds):
                while any(body.partition in partitions for _, body in self._running.values()):
                    self._quieter.clear()
                    await self._quieter.wait()
        except TimeoutError:
            return False
        # What has just ended counts before anything else happens to these partitions.
        self._report_ended()
        return True

    async def something_ended(self) -> None:
        """Wait until a body ends; for use while partitions are held."""
        self._quieter.clear()
        await self._quieter.wait()

    async def drain(self, seconds: float) -> int:
        """Start nothing more, wait for what runs, at most so long; then cancel. Returns how many were cut."""
        self._draining = True
        self._waiting.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
        cut = [task for task, _ in self._running.values() if task is not None]
        self._running.clear()
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.shutdown(wait=not cut, cancel_futures=True)
        return len(cut)

    def _overridden(self, body: RunBody) -> RunBody:
        """A fake runs here, on the loop, and gets no connection."""
        fake = self._overrides.get(body.function)
        if fake is None:
            return body
        return replace(body, function=fake, cpu=False, transaction=None)

    def _start(self, key: Key, body: RunBody) -> None:
        if self._overrides:
            body = self._overridden(body)
        body.home = self.home
        running = self._running
        if not running:
            self._idle.clear()
        running[key] = (None, body)
        task = _task(self._loop, self._run(key, body), body.name)
        if key in running:
            running[key] = (task, body)

    async def _run(self, key: Key, body: RunBody) -> None:
        began = self._time()
        retryable, after = False, None
        outcome = Outcome(Status.CANCELLED)
        current.set(body)
        try:
            function = body.function
            if body.transaction is not None:
                payload = await self._call_in_transaction(body, body.transaction)
                outcome = Outcome(Status.COMPLETED, payload)
            else:
                if body.timeout_seconds is not None:
                    value = await self._call_with_timeout(body, body.timeout_seconds)
                elif is_async(function) and not body.cpu:
                    value = await function(*body.args, **body.kwargs)
                else:
                    value = await self._call(body)
                outcome = Outcome(Status.COMPLETED, body.result.encode(value))
        except asyncio.CancelledError:
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            outcome = Outcome(Status.FAILED, failure=failure_of(error))
            retryable = body.retry.again(body.attempt, error)
            after = error.after if isinstance(error, RetryLater) else None
        finally:
            if self._running.pop(key, None) is not None:
                self._end(body, outcome, self._time() - began, retryable=retryable, after=after)
                if self._held:
                    self._quieter.set()
                if self._waiting or not self._running:
                    self._next()

    async def _call_in_transaction(self, body: RunBody, kind: str) -> Payload:
        async def work(connection: Any) -> Payload:
            # The timeout is for the function alone: once it has returned, its outcome is that of the commit.
            value = await self._call_with_timeout(body, body.timeout_seconds, connection)
            return body.result.encode(value)

        step = StepKey(body.partition, body.id, body.run, body.command)
        return await self._run_step(step, kind, work)

    async def _call_with_timeout(self, body: RunBody, seconds: float | None, *first: object) -> Any:
        timer = asyncio.timeout(seconds)
        try:
            async with timer:
                return await self._call(body, *first)
        except TimeoutError:
            if not timer.expired():
                raise
            raise CallTimedOut(
                f"{body.name}: attempt {body.attempt} took longer than its timeout of {seconds:g} s"
            ) from None

    async def _call(self, body: RunBody, *first: object) -> Any:
        function = body.function
        if not body.cpu and is_async(function):
            return await function(*first, *body.args, **body.kwargs)
        loop = self._loop
        if body.cpu:
            return await self._call_in_process(loop, body)
        run = functools.partial(copy_context().run, function, *body.args, **body.kwargs)
        value = await loop.run_in_executor(self._threads, run)
        return await value if inspect.isawaitable(value) else value

    async def _call_in_process(self, loop: asyncio.AbstractEventLoop, body: RunBody) -> Any:
        function = body.function
        if "<locals>" in function.__qualname__ or is_async(function):
            raise UsageError(
                f"{body.name}: cpu=True needs a plain function at the top level of a module, because "
                "another process has to import it"
            )
        if self._processes is None:
            # `spawn`: a fork would copy this process's threads' locks and database handles.
            context = multiprocessing.get_context("spawn")
            self._processes = ProcessPoolExecutor(self._process_count, mp_context=context)
        try:
            return await loop.run_in_executor(
                self._processes, _call_by_name, function.__module__, function.__qualname__,
                body.args, body.kwargs,
            )  # fmt: skip
        except BrokenProcessPool:
            self._processes = None
            raise

    def _end(
        self,
        body: RunBody,
        outcome: Outcome,
        seconds: float,
        *,
        retryable: bool = False,
        after: float | None = None,
    ) -> None:
        ended = self._ended
        if not ended:
            self._loop.call_soon(self._report_ended)
        ended.append(
            BodyEnded(
                body.partition, body.id, body.command, body.attempt, outcome, seconds, retryable,
                self._clock.random() if retryable else 0.0, after, body.run,
            )
        )  # fmt: skip

    def _report_ended(self) -> None:
        ended, self._ended = self._ended, []
        self.ended_count += len(ended)
        if ended:
            self._report(ended)
        if not self._running:
            self._idle.set()

    def _next(self) -> None:
        if self._starting:
            return  # A body that ended at once is on the stack, below the loop that started it.
        self._starting = True
        behind: list[tuple[Key, RunBody]] = []
        while self._waiting and len(self._running) < self._concurrency:
            key, body = self._waiting.popitem(last=False)
            if key in self._running:
                behind.append((key, body))  # An earlier run of its call has not let go yet.
            else:
                self._start(key, body)
        for key, body in reversed(behind):
            self._waiting[key] = body
            self._waiting.move_to_end(key, last=False)
        self._starting = False
        if not self._running and len(self._ended) <= FEW:
            # Nothing else ends in this turn. Many have time: a commit that waits to be sent goes first.
            self._report_ended()
