"""Processes for bodies that compute: each runs one at a time, and can be killed without harm to the others.

A process is started when there is none idle, and replaced when it has run enough bodies or has grown too
large: libraries leak. Where the pool of the standard library breaks as a whole when one of its processes
ends, here only the body that ran in it is concerned.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import util
from typing import Any

from fenbu._node.worker import Beat, Began, Job, Raised, Returned, serve

STOP_SECONDS = 5.0
"""How long an idle process may take to end by itself."""


class _RemoteTraceback(Exception):
    """The cause of an error from another process: its traceback there."""


class _Worker:
    """One process, used by one body at a time."""

    def __init__(self) -> None:
        # `spawn`: a fork would copy this process's threads' locks and database handles.
        context = multiprocessing.get_context("spawn")
        self._pipe, self._other = context.Pipe()
        self._process = context.Process(target=serve, args=(self._other,), name="fenbu-body")
        self._lock = threading.Lock()
        self._is_started = self._is_killed = self._is_over = False
        self.jobs = 0
        self.megabytes = 0.0
        self.is_whole = True
        """It may run another body."""

    def run(self, job: bytes, began: Callable[[], None], beat: Callable[[Any], None]) -> Any:
        """Run a body; in a thread, because it waits.

        Raises:
            BrokenProcessPool: The process has ended.
            BaseException: What the body raised.
        """
        self.is_whole = False
        try:
            self._start()
            self._pipe.send_bytes(job)
            while True:
                answer = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - from our own process
                if isinstance(answer, Beat):
                    beat(answer.value)
                elif isinstance(answer, Began):
                    began()
                else:
                    break
        except (EOFError, OSError):
            self._process.join(STOP_SECONDS)
            raise BrokenProcessPool(
                f"the process that ran it has ended by itself, with exit code {self._process.exitcode}"
            ) from None
        self.jobs += 1
        self.is_whole = True
        match answer:
            case Returned():
                self.megabytes = answer.megabytes
                return answer.value
            case Raised():
                self.megabytes = answer.megabytes
                raise answer.error from _RemoteTraceback("\n" + answer.traceback)
            case _:
                raise AssertionError(answer)

    def _start(self) -> None:
        with self._lock:
            if self._is_killed:
                raise EOFError
            if not self._is_started:
                self._process.start()
                self._is_started = True
                # Else nobody here would see that the process has ended.
                self._other.close()

    def kill(self) -> None:
        """End it, whatever it does."""
        with self._lock:
            self._is_killed = True
            self.is_whole = False
            if self._is_started and not self._is_over:
                self._process.kill()

    def stop(self) -> None:
        """End it, and wait for that; in a thread."""
        with self._lock:
            self._is_killed = self._is_over = True
            if not self._is_started:
                self._other.close()
        self._pipe.close()
        if self._is_started:
            self._process.join(STOP_SECONDS)
            if self._process.exitcode is None:
                self._process.kill()
                self._process.join()
            self._process.close()


def _kill(workers: Iterable[_Worker]) -> None:
    for each in list(workers):
        each.kill()


class Processes:
    """See the module.

    Args:
        count: At most so many at a time.
        tasks_max: After so many bodies a process is replaced; None for no end.
        megabytes_max: If it has more memory after a body, it is replaced; None for no end.
    """

    def __init__(self, count: int, tasks_max: int | None, megabytes_max: float | None) -> None:
        self._tasks_max = tasks_max
        self._megabytes_max = megabytes_max
        self._free = asyncio.Semaphore(count)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._busy: set[asyncio.Future[Any]] = set()
        # Twice: the thread of a process that was killed takes a moment to see it.
        self._threads = ThreadPoolExecutor(2 * count, thread_name_prefix="fenbu-process")
        self._is_over = False
        # Before the interpreter, at its end, waits for processes that wait for it.
        util.Finalize(self, _kill, args=(self._workers,), exitpriority=100)

    async def run(self, job: Job, began: Callable[[], None], beat: Callable[[Any], None]) -> Any:
        """Run a body in a process of its own; if this is cancelled, the process is killed.

        Args:
            job: What to run.
            began: Called when its function is called, in another thread.
            beat: Called with each heartbeat, in another thread.

        Raises:
            BrokenProcessPool: The process ended while it ran, or was killed by somebody else.
            BaseException: What the body raised; or what keeps its arguments from travelling.
        """
        data = pickle.dumps(job)
        async with self._free:
            worker = self._idle.pop() if self._idle else _Worker()
            self._workers.add(worker)
            work = self._in_thread(worker.run, data, began, beat)
            work.add_done_callback(partial(self._put_back, worker))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                worker.kill()
                raise

    def _in_thread(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        self._busy.add(future)
        future.add_done_callback(self._busy.discard)
        return future

    def _put_back(self, worker: _Worker, work: asyncio.Future[Any]) -> None:
        if not work.cancelled():
            work.exception()  # Nobody may be left who hears of it.
        if worker.is_whole and not self._is_over and not self._is_worn(worker):
            self._idle.append(worker)
        else:
            self._workers.discard(worker)
            self._in_thread(worker.stop)

    def _is_worn(self, worker: _Worker) -> bool:
        return (self._tasks_max is not None and worker.jobs >= self._tasks_max) or (
            self._megabytes_max is not None and worker.megabytes > self._megabytes_max
        )

    async def close(self) -> None:
        """End all processes, whatever they do."""
        self._is_over = True
        idle, self._idle = self._idle, []
        self._workers.difference_update(idle)
        _kill(self._workers)
        for each in idle:
            self._in_thread(each.stop)
        while self._busy:
            await asyncio.wait(self._busy)
        self._threads.shutdown(wait=False)
