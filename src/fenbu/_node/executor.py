"""Runs bodies: coroutines on the node's loop, plain functions in threads, `cpu=True` in processes.

Takes `RunBody` effects, which are durable by then, and reports `BodyEnded` for each of them exactly once,
whatever the body does: those that end in one turn of the event loop together. Bodies beyond the concurrency
wait in order.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from fenbu._core.codec import Codec
from fenbu._core.effect import RunBody
from fenbu._core.event import BodyBeat, BodyEnded
from fenbu._core.failure import failure_of
from fenbu._core.handler import Registry
from fenbu._core.middleware import around, described
from fenbu._core.model import COMPLETED, Outcome, Payload, Status
from fenbu._core.need import NOT_IN_A_PROCESS
from fenbu._core.signature import is_async
from fenbu._core.work import Work
from fenbu._node.attempt import current, hosts
from fenbu._node.clock import Clock
from fenbu._node.heartbeat import Heartbeats
from fenbu._node.processes import Processes
from fenbu._node.resource import Resources
from fenbu._node.time_limit import TimeLimit
from fenbu._node.worker import Job
from fenbu._storage.protocol import StepKey
from fenbu.errors import PayloadTooLarge, RetryLater, UsageError

Key = tuple[str, int]

Transactor = Callable[
    [StepKey, str, Callable[[Any], Coroutine[Any, Any, Payload]]], Coroutine[Any, Any, Payload]
]
"""`Storage.run_step`."""

_PLAIN = Codec().of(Any)

CUT_OFF: Final = Outcome(Status.CANCELLED)
"""Of a body that did not come to its end."""

FEW = 8
"""Bodies whose end is reported without a further turn of the event loop."""


_EAGER: Final[dict[str, Any]] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""A body's task runs to its first wait at once, where Python can do that: most bodies end there."""


def _has_begun(task: asyncio.Task[None]) -> bool:
    work = task.get_coro()
    return not inspect.iscoroutine(work) or inspect.getcoroutinestate(work) != inspect.CORO_CREATED


class Executor:
    """See the module."""

    def __init__(
        self,
        clock: Clock,
        report: Callable[[list[BodyBeat], list[BodyEnded]], None],
        run_step: Transactor,
        registry: Registry,
        resources: Resources,
        *,
        concurrency: int,
        threads: int,
        processes: Callable[[], Processes],
    ) -> None:
        # Asking for the running loop is slow on Python 3.11: it is the same one all along.
        self._loop = asyncio.get_running_loop()
        self.home: object = None
        """Takes what bodies write to streams."""
        self._elapsed = clock.elapsed
        self._clock = clock
        self._report = report
        self._run_step = run_step
        self._overrides = registry.overrides
        self._middleware = registry.middleware
        self.codec = registry.codec
        self._resources = resources
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fenbu-body")
        self._make_processes = processes
        self._processes: Processes | None = None
        self._running: dict[Key, tuple[asyncio.Task[None] | None, RunBody]] = {}
        self._waiting: OrderedDict[Key, RunBody] = OrderedDict()
        self._ended: list[BodyEnded] = []
        """Not yet reported."""
        self._heartbeats = Heartbeats(self._loop, clock, lambda beats: report(beats, []))
        self._beats: list[BodyBeat] = []
        """Of bodies that have ended, not yet reported."""
        self._limits: dict[Key, TimeLimit] = {}
        self.ended_count = 0
        """Bodies that have ended."""
        self._starting = False
        self._draining = False
        self._held: dict[int, dict[Key, RunBody]] = {}
        """Bodies that are not to start, of partitions that are to go."""
        self._quieter = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        hosts.add(self)

    # For the bodies, from any thread: see `Host`.

    def has(self, body: RunBody) -> bool:
        """Whether it runs here."""
        running = self._running.get((body.id, body.command))
        return running is not None and running[1] is body

    def beat(self, body: RunBody, value: object) -> None:
        """It says how far it is."""
        try:
            payload = self.codec.of(Any).encode(value)
        except PayloadTooLarge as error:
            raise error.named(f"the heartbeat of {_called(body)}") from None
        self._heartbeats.put(body, payload)
        limit = self._limits.get((body.id, body.command))
        if limit is not None:
            limit.heard_at = self._loop.time()

    def time_limit(self, body: RunBody) -> TimeLimit | None:
        """How long it may run."""
        return self._limits.get((body.id, body.command))

    # For the node.

    def last_waiting(
        self, count: int, where: Callable[[int, str], bool]
    ) -> dict[tuple[int, str], set[int]]:
        """By partition and id, the commands of calls whose bodies are the last ones to get their turn.

        Only of those for which `where` holds.
        """
        found: dict[tuple[int, str], set[int]] = {}
        waiting = (
            each for each in reversed(self._waiting.values()) if where(each.partition, each.id)
        )
        for body in islice(waiting, count):
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
        running, held, starting = self._running, self._held, self._starting
        self._starting = True
        for body in bodies:
            key = (body.id, body.command)
            if held and body.partition in held:
                held[body.partition][key] = body
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
            self._end(waiting, CUT_OFF, 0.0)
            return
        running = self._running.get(key)
        if running is not None:
            task, body = running
            if task is not None:
                task.cancel()
            if task is not None and not _has_begun(task):
                # A task that is cancelled before its first line runs nothing at all.
                del self._running[key]
                self._end(body, CUT_OFF, 0.0)
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
        hosts.discard(self)
        if beats := self._beats + self._heartbeats.stop():
            self._beats = []
            self._report(beats, [])
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            await self._processes.close()
        return len(cut)

    def _overridden(self, body: RunBody) -> RunBody:
        """A fake runs here, on the loop, and gets no connection and no resources."""
        work = body.work
        try:
            fake = self._overrides.get(work.function)
        except TypeError:  # A callable that cannot be hashed, and so not have been overridden.
            fake = None
        if fake is None:
            return body
        instead = Work(
            work.name, fake, is_async(fake), work.result, work.retry, work.timeout_seconds,
            limits=work.limits,
        )  # fmt: skip
        return replace(body, work=instead)

    def _start(self, key: Key, body: RunBody) -> None:
        if self._overrides:
            body = self._overridden(body)
        body.home = self.home
        running = self._running
        if not running:
            self._idle.clear()
        running[key] = (None, body)
        task = asyncio.Task(self._run(key, body), loop=self._loop, name=body.work.name, **_EAGER)
        if key in running:
            running[key] = (task, body)

    async def _run(self, key: Key, body: RunBody) -> None:
        began, work, outcome, retryable, after = self._elapsed(), body.work, CUT_OFF, False, None
        current.set(body)
        try:
            if work.is_plain and not self._middleware:
                value = await work.function(*body.args, **body.kwargs)
                outcome = Outcome(COMPLETED, _encoded(body, value))
            elif work.transaction is not None or self._middleware:
                outcome = Outcome(COMPLETED, await self._call_inside(body))
            else:
                outcome = Outcome(COMPLETED, _encoded(body, await self._call_in_time(body)))
        except asyncio.CancelledError:
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            outcome = Outcome(Status.FAILED, failure=failure_of(error))
            retryable = work.retry.again(body.attempt, error)
            after = error.after if isinstance(error, RetryLater) else None
        finally:
            if self._running.pop(key, None) is not None:
                if self._heartbeats.last and (beat := self._heartbeats.end(key)) is not None:
                    self._beats.append(beat)
                seconds = self._elapsed() - began
                self._end(body, outcome, seconds, retryable=retryable, after=after)
                if self._held:
                    self._quieter.set()
                if self._waiting or not self._running:
                    self._next()

    async def _call_inside(self, body: RunBody) -> Payload:
        """Between what middleware does before and after it, and in a transaction if it wants one."""
        with around(self._middleware, described(body)):
            if body.work.transaction is not None:
                return await self._call_in_transaction(body, body.work.transaction)
            return _encoded(body, await self._call_in_time(body))

    async def _call_in_transaction(self, body: RunBody, kind: str) -> Payload:
        async def work(connection: Any) -> Payload:
            # The limits are for the function alone: once it has returned, its outcome is that of the commit.
            value = await self._call_in_time(body, connection)
            return _encoded(body, value)

        step = StepKey(body.partition, body.id, body.run, body.command)
        return await self._run_step(step, kind, work)

    async def _call_in_time(self, body: RunBody, *first: object) -> Any:
        if body.work.timeout_seconds is None and body.work.limits is None:
            return await self._call(body, None, *first)
        key, limit = (body.id, body.command), TimeLimit(self._loop, body)
        self._limits[key] = limit
        try:
            async with limit:
                return await self._call(body, limit, *first)
        finally:
            if self._limits.get(key) is limit:
                del self._limits[key]

    async def _call(self, body: RunBody, limit: TimeLimit | None, *first: object) -> Any:
        work, kwargs = body.work, body.kwargs
        function = work.function
        if work.cpu:
            return await self._call_in_process(body, limit)
        if work.needs:
            kwargs = await self._resources.fill_in(body, self._threads)
        if work.is_async:
            running = function(*first, *body.args, **kwargs)
            return await (running if limit is None else limit.softly(running))
        run = functools.partial(copy_context().run, function, *body.args, **kwargs)
        value = await self._loop.run_in_executor(self._threads, run)
        return await value if inspect.isawaitable(value) else value

    async def _call_in_process(self, body: RunBody, limit: TimeLimit | None) -> Any:
        work = body.work
        function, limits = work.function, work.limits
        if "<locals>" in function.__qualname__ or work.is_async:
            raise UsageError(
                f"{body.name}: cpu=True needs a plain function at the top level of a module, because "
                "another process has to import it"
            )
        if work.needs:
            raise UsageError(f"{body.name}({work.needs[0].name}): {NOT_IN_A_PROCESS}")
        if self._processes is None:
            self._processes = self._make_processes()
        last = None if body.heartbeat is None else body.heartbeat.value
        plain = None if last is None else _PLAIN.encode(self.codec.of(Any).decode(last))
        job = Job(
            function.__module__, function.__qualname__, body.args, body.kwargs, body.id, body.command,
            body.attempt, body.name, body.run, None if plain is None else str(plain), body.context,
            None if limits is None else limits.soft_seconds, work.timeout_seconds,
        )  # fmt: skip

        def began() -> None:
            if limit is not None:
                self._loop.call_soon_threadsafe(limit.begin)

        return await self._processes.run(job, began, lambda value: self.beat(body, value))

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
            beats, self._beats = self._beats, []
            self._report(beats, ended)
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


def _called(body: RunBody) -> str:
    return f"{'step' if body.command else 'task'} {body.name}"


def _encoded(body: RunBody, value: object) -> Payload:
    """What a body has returned.

    Raises:
        EncodingError: It cannot be encoded, or is too large.
    """
    try:
        return body.work.result.encode(value)
    except PayloadTooLarge as error:
        raise error.named(f"the result of {_called(body)}") from None
