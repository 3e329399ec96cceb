"""The deterministic event loop on which workflow and operation code runs.

A queue of callbacks and nothing else: no selector, no threads, no clock. `drain` runs callbacks in the
order in which they were scheduled until none is left; time stands still meanwhile. A delay becomes a
durable timer of the call, so `asyncio.sleep`, `timeout`, `wait` and the rest work and replay as they
are. Whatever needs the outside world raises a `UsageError` that says: put it in a step.

Guarantee: replay-same. Two hazards of asyncio itself are closed here: it keeps tasks in sets, whose
order depends on memory addresses, so our tasks and futures hash by their number of creation; and
`as_completed` puts bare coroutines into a set before it makes tasks of them (see `_ordered_set`).
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import tasks
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NoReturn
from zlib import crc32

from msgspec import Struct

from fenbu._core.limit import HANDLES_PER_DRAIN_MAX
from fenbu.errors import UsageError

if TYPE_CHECKING:
    from fenbu._core.activation import Activation

_swap_current_task: Callable[[Any, Any], Any] | None = (
    getattr(tasks, "_swap_current_task") if sys.version_info >= (3, 14) else None  # noqa: B009
)


class EndlessLoopError(UsageError):
    """Code went on for very long without waiting for anything durable."""


class _Handle(Struct, eq=False):
    """A scheduled callback; what `call_soon` and `call_later` return."""

    callback: Callable[..., object] | None
    args: tuple[Any, ...]
    context: Context
    when_: float = 0.0
    command: int = 0
    loop: DeterministicLoop | None = None

    def cancel(self) -> None:
        self.callback = None
        self.args = ()
        if self.loop is not None:
            self.loop.activation.timers.pop(self.command, None)
            self.loop = None

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.when_


class DurableFuture(asyncio.Future[Any]):
    """A future whose place in a set depends on its number, not on its address."""

    __slots__ = ("number",)

    number: int

    def __hash__(self) -> int:
        return self.number


class DurableTask(asyncio.Task[Any]):
    """A task whose place in a set depends on its number, not on its address."""

    __slots__ = ("inside", "number")

    number: int
    inside: Context
    """That in which its code runs; before Python 3.12 a task does not tell."""

    def __init__(
        self, coro: Coroutine[Any, Any, Any], number: int, context: Context, **options: Any
    ) -> None:
        self.number = number
        self.inside = context
        super().__init__(coro, context=context, **options)

    def __hash__(self) -> int:
        return self.number

    def let_go(self) -> None:
        """Its code is closed, so it will never end: forget who waits for that, and what it waits for."""
        waits_for: asyncio.Future[Any] | None = getattr(self, "_fut_waiter")  # noqa: B009
        for future in (self, waits_for):
            if future is not None:
                for callback, _ in getattr(future, "_callbacks") or ():  # noqa: B009
                    future.remove_done_callback(callback)


class Stage:
    """Puts aside what stands around the code that is driven: the event loop that runs there, and its hooks.

    A drain does so by itself. Used as `with` around many drains, it is done once, because it takes as long as
    most of what a drain runs. Of one thread.
    """

    __slots__ = ("_hooks", "_outer", "_task", "depth", "loop")

    def __init__(self) -> None:
        self.depth = 0
        """How often it has been entered."""
        self.loop: DeterministicLoop | None = None
        """The one that is being drained."""

    def __enter__(self) -> None:
        if not self.depth:
            self._outer = outer = _get_running_loop()
            self._task = _swap_current_task(outer, None) if _swap_current_task and outer else None
            self._hooks = sys.get_asyncgen_hooks()
            # An async generator belongs to its call's loop, which closes nothing behind the code's back.
            sys.set_asyncgen_hooks(None, None)
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if not self.depth:
            _set_running_loop(self._outer)
            sys.set_asyncgen_hooks(*self._hooks)
            if _swap_current_task and self._outer:
                _swap_current_task(self._outer, self._task)


class DeterministicLoop(asyncio.AbstractEventLoop):
    """Runs one activation's code; see the module."""

    is_looking = False
    """A function runs that only looks."""

    def __init__(self, activation: Activation, now: float, stage: Stage) -> None:
        self.activation = activation
        self.now = now
        self._stage = stage
        self.tasks: list[DurableTask] = []
        self._ready: list[_Handle] = []
        # Distinct between calls, because asyncio also keeps all tasks of all loops in one set, and the
        # same at each replay, unlike Python's own hash of a text.
        self._created = crc32(activation.run.encode()) << 28

    def drain(self) -> None:
        """Run callbacks until none is ready.

        Raises:
            EndlessLoopError: More than `limit.HANDLES_PER_DRAIN_MAX` callbacks ran.
        """
        stage = self._stage
        if not self._ready:
            return
        if not stage.depth:
            with stage:
                self.drain()
            return
        ready, before, left = self._ready, stage.loop, HANDLES_PER_DRAIN_MAX
        stage.loop = self
        _set_running_loop(self)
        try:
            while ready and left > 0:
                left -= len(ready)
                self._ready = []
                for handle in ready:
                    if (callback := handle.callback) is not None:
                        try:
                            handle.context.run(callback, *handle.args)
                        except SystemExit:
                            pass  # The task that called sys.exit() holds it as its outcome.
                # A task's error knows the frames that it went through, on some Pythons this one too.
                handle = callback = None
                ready = self._ready
        finally:
            stage.loop = before
            if before is not None:
                _set_running_loop(before)
        if ready:
            raise EndlessLoopError(
                f"the code ran {HANDLES_PER_DRAIN_MAX} callbacks without waiting for a step, call, signal or "
                "timer: look for a loop around asyncio.sleep(0)"
            )

    def look(
        self, context: Context, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Run a function of the code that only looks: it can make no tasks, here or on another loop."""
        outer = _get_running_loop()
        _set_running_loop(self)
        self.is_looking = True
        try:
            return context.run(function, *args, **kwargs)
        finally:
            self.is_looking = False
            _set_running_loop(outer)

    # What asyncio asks of a loop.

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, context or copy_context())
        self._ready.append(handle)
        return handle  # type: ignore[return-value]

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = _Handle(callback, args, context or copy_context(), when, 0, self)
        handle.command = self.activation.start_timer(when, handle)
        return handle  # type: ignore[return-value]

    def fire(self, handle: Any) -> None:
        """Run a timer's callback in the next drain."""
        handle.loop = None
        self._ready.append(handle)

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        future = DurableFuture(loop=self)
        self._created += 1
        future.number = self._created
        return future

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        if self.is_looking and self.activation.closed is not None:
            coro.close()
            raise self.activation.closed
        self._created += 1
        number = self._created
        name = name or f"task-{number & 0xFFFFFFF}"
        task = DurableTask(coro, number, context or copy_context(), loop=self, name=name, **options)
        self.tasks.append(task)
        if len(self.tasks) > 64 and len(self.tasks) & (len(self.tasks) - 1) == 0:
            self.tasks = [each for each in self.tasks if not each.done()]
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Errors nobody waits for: asyncio would log them; the core has no log, the call keeps them."""
        self.activation.unheard.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise UsageError(
            f"workflow and entity code cannot use loop.{name}(): it reaches outside the replayed "
            "program. Put this work into a function and call it with `await step(function, …)`"
        )

    refuse.__name__ = name
    return refuse


for _name in (
    "add_reader", "add_signal_handler", "add_writer", "call_soon_threadsafe", "close",
    "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe", "create_connection",
    "create_datagram_endpoint", "create_server", "create_unix_connection", "create_unix_server",
    "getaddrinfo", "getnameinfo", "remove_reader", "remove_signal_handler", "remove_writer",
    "run_forever", "run_in_executor", "run_until_complete", "sendfile", "set_debug",
    "set_default_executor", "set_exception_handler", "set_task_factory", "shutdown_asyncgens",
    "shutdown_default_executor", "sock_accept", "sock_connect", "sock_recv", "sock_recv_into",
    "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendfile", "sock_sendto",
    "start_tls", "stop", "subprocess_exec", "subprocess_shell",
):  # fmt: skip
    setattr(DeterministicLoop, _name, _refuse(_name))
DeterministicLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def _ordered_set(items: Iterable[Any] = ()) -> set[Any]:
    """`set` as asyncio.tasks sees it: on our loop, coroutines become tasks in the order they came."""
    loop = _get_running_loop()
    if isinstance(loop, DeterministicLoop):
        items = [loop.create_task(each) if asyncio.iscoroutine(each) else each for each in items]
    return set(items)


# `asyncio.as_completed(coroutines)` calls `set(coroutines)` and then makes a task of each in that
# set's order, which differs from run to run. Shadowing the one name that it looks up is the smallest
# change that also serves `from asyncio import as_completed`; other loops notice nothing.
setattr(tasks, "set", _ordered_set)  # noqa: B010 - a module has no attribute of this name yet
