"""An event loop on virtual time, on which several simulated processes run side by side in one thread.

Each process is a queue of callbacks, in the order in which they were scheduled, as on an event loop of its
own. Which process has the next turn is drawn from a seeded generator, so the same seed gives the same run.
Time passes only when no process has anything to do: then it jumps to the next timer. A process can die
between any two callbacks, which is what a crash is, and can be stopped for a while.
Absent: sockets, files and threads. Plain functions run at once, in the turn in which they were asked for.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, NoReturn, TypeVar, cast

from msgspec import Struct

from fenbu.errors import FenbuError, UsageError

T = TypeVar("T")

TURNS_MAX = 2_000_000
"""Callbacks of one run; a simulation that needs more does not end."""

IDLE_SECONDS = 30.0
"""How long nothing happens before time is skipped: longer than whatever failed waits to be tried again."""

CLOSES_MAX = 20
"""Code that awaits while it cleans up has to be told again."""


class NeverEnds(FenbuError):
    """A simulation came to a state from which nothing would ever happen, or went on for too long."""


class _Handle(Struct, eq=False):
    """A scheduled callback; what `call_soon` and `call_later` return."""

    callback: Callable[..., object] | None
    args: tuple[Any, ...]
    context: Context
    when_: float = 0.0

    def cancel(self) -> None:
        """It is passed over when its turn comes."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.when_


class Process:
    """One simulated process of an operating system."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[_Handle] = deque()
        self.is_alive = True
        self.is_stopped = False
        """It is there, and nothing of it runs: SIGSTOP."""
        self.fuse = -1
        """Callbacks until it dies; -1 for none."""

    def __repr__(self) -> str:
        return f"<Process {self.name}>"


process_now: ContextVar[Process | None] = ContextVar("fenbu_process", default=None)
"""The process whose code is running."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """See the module."""

    def __init__(self, seed: int | str = 0) -> None:
        self.random = Random(seed)  # noqa: S311 - a seed is meant to be known
        self.world = Process("world")
        """What is no process of the simulation: the test itself, and whoever injects faults."""
        self.processes: list[Process] = [self.world]
        self.died: Callable[[Process], None] = lambda _: None
        """Called when the fuse of a process has burned down."""
        self.turns = 0
        self.turns_max = TURNS_MAX
        self.foresee: Callable[[], float | None] | None = None
        """If given, says when something will happen that is not just somebody looking."""
        self._idle_since = 0.0
        self._now = 0.0
        self._timers: list[tuple[float, int, _Handle, Process]] = []
        self._timer_count = 0
        self._running = False
        self._closed = False
        self._errors: list[dict[str, Any]] = []
        self._left: list[asyncio.Task[Any]] = []

    # Processes.

    def process(self, name: str) -> Process:
        """A new one."""
        made = Process(name)
        self.processes.append(made)
        return made

    def spawn(
        self, process: Process, work: Coroutine[Any, Any, T], name: str | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine in a process."""
        context = copy_context()
        context.run(process_now.set, process)
        return asyncio.Task(work, loop=self, name=name, context=context)

    def kill(self, process: Process) -> None:
        """Nothing of it runs ever again."""
        process.is_alive = False
        # Its code stands still for ever: were it collected, it would be told to clean up.
        self._left += asyncio.all_tasks(self)
        if process in self.processes:
            self.processes.remove(process)

    # Running.

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until a coroutine of the world has ended.

        Raises:
            NeverEnds: Nothing is left that could happen, or too much has happened.
        """
        outer = events._get_running_loop()  # noqa: SLF001 - loops set it themselves
        if outer is not None:
            work.close()
            raise UsageError("a simulation cannot run inside a running event loop")
        task = self.spawn(self.world, work)
        events._set_running_loop(self)  # noqa: SLF001
        self._running = True
        try:
            while not task.done():
                self._turn()
                if self._errors:
                    self._raise_error()
        finally:
            self._running = False
            events._set_running_loop(None)  # noqa: SLF001
        return task.result()

    def _turn(self) -> None:
        able = [each for each in self.processes if each.ready and not each.is_stopped]
        if len(able) > 1:
            process = able[int(self.random.random() * len(able))]
        else:
            process = able[0] if able else self._pass_time()
        ready = process.ready
        for _ in range(len(ready)):
            if process.fuse >= 0:
                process.fuse -= 1
                if process.fuse < 0:
                    self.kill(process)
                    self.died(process)
            if not process.is_alive or process.is_stopped:
                return
            handle = ready.popleft()
            if handle.callback is not None:
                self.turns += 1
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever a callback raises ends the run
                    self.call_exception_handler(
                        {"message": "a callback failed", "exception": error}
                    )
        if self.turns > self.turns_max:
            raise NeverEnds(f"more than {self.turns_max} callbacks ran, and no end is in sight")

    def _pass_time(self) -> Process:
        """Until the next timer rings: its process."""
        if self.foresee is not None and self._now - self._idle_since > IDLE_SECONDS:
            self._skip(self.foresee)
        timers = self._timers
        while timers:
            when, _, handle, process = heapq.heappop(timers)
            if handle.callback is None or not process.is_alive:
                continue
            self._now = max(self._now, when)
            process.ready.append(handle)
            return process
        raise NeverEnds("everybody waits, and nothing is left that could happen")

    def busy(self) -> None:
        """Something has happened that is not just somebody looking whether something has."""
        self._idle_since = self._now

    def timers(self) -> Iterator[tuple[float, Process, Context]]:
        """Those that will ring."""
        for when, _, handle, process in self._timers:
            if handle.callback is not None and process.is_alive:
                yield when, process, handle.context

    def _skip(self, foresee: Callable[[], float | None]) -> None:
        """Pass over the time in which everybody would only look whether something has happened."""
        instant = foresee()
        if instant is None:
            raise NeverEnds("everybody waits, and nothing is left that could happen")
        if instant > self._now:
            self._now = self._idle_since = instant

    def _raise_error(self) -> NoReturn:
        context = self._errors[0]
        self._errors = []
        error = context.get("exception")
        if isinstance(error, BaseException):
            raise error
        raise FenbuError(f"an error in the simulation: {context.get('message')}")

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        process = (process_now.get() if context is None else context.get(process_now)) or self.world
        handle = _Handle(callback, args, context or copy_context())
        if process.is_alive:
            process.ready.append(handle)
        return cast("asyncio.Handle", handle)

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        process = (process_now.get() if context is None else context.get(process_now)) or self.world
        handle = _Handle(callback, args, context or copy_context(), when)
        if process.is_alive:
            self._timer_count += 1
            heapq.heappush(self._timers, (when, self._timer_count, handle, process))
        return cast("asyncio.TimerHandle", handle)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, **options)

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Now, and not in another thread: the order of threads is nothing that a seed could decide."""
        del executor
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody waits for ends the run, unless it comes from what was left behind."""
        if self._running and "exception" in context:
            self._errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        """There are no hooks: generators of a dead process are simply left."""

    def close(self) -> None:
        """Let go of all that was left waiting, so that none of it wakes up in a later run."""
        self._closed = True
        for process in self.processes:
            process.is_alive = False
        seen: set[asyncio.Task[Any]] = set()
        outer = events._get_running_loop()  # noqa: SLF001
        # What they gather or wait for while they clean up would else make a loop of asyncio's own.
        events._set_running_loop(self)  # noqa: SLF001
        try:
            while left := set(self._left).union(asyncio.all_tasks(self)).difference(seen):
                # Cleaning up may have begun something new.
                seen |= left
                for task in left:
                    if not task.done():
                        _leave(task)
        finally:
            events._set_running_loop(outer)  # noqa: SLF001
        self._left.clear()
        self._timers.clear()


def _leave(task: asyncio.Task[Any]) -> None:
    """End a task's code where it stands. What it tries to do about it has no effect any more."""
    task._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001
    work = task.get_coro()
    for _ in range(CLOSES_MAX):
        try:
            work.close()
        except BaseException:  # noqa: BLE001, S112 - cleaning up may fail when nothing answers any more
            continue
        return


def _unable(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise UsageError(
            f"loop.{name}() needs the outside world, and a simulation has none: replace the step that "
            "uses it with `app.override(step, fake)`"
        )

    return refuse


for _name in (
    "create_connection", "create_server", "create_unix_connection", "create_datagram_endpoint", "add_reader",
    "add_writer", "sock_connect", "sock_recv", "sock_sendall", "subprocess_exec", "subprocess_shell",
    "getaddrinfo", "open_connection", "add_signal_handler",
):  # fmt: skip
    setattr(SimulatedLoop, _name, _unable(_name))
