"""What runs in a pool process: one body after the other, told over a pipe.

The process ends when the pipe is closed, and when its parent is gone. Signals that are meant for the service
as a whole (Ctrl-C, a service manager's SIGTERM) it leaves to its parent.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import threading
import traceback
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from fenbu._core.codec import Codec
from fenbu._core.effect import RunBody
from fenbu._core.model import Heartbeat
from fenbu._core.work import Work
from fenbu._node.attempt import current, hosts
from fenbu._node.clock import SystemClock
from fenbu._node.time_limit import Allowance
from fenbu.errors import CallFailed, CallTimedOut, SoftTimeout

Pipe = connection.Connection


class Job(Struct, frozen=True):
    """A body that another process runs."""

    module: str
    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    id: str
    command: int
    attempt: int
    name: str
    run: str
    heartbeat: str | None
    """The last of an earlier attempt, as JSON."""
    context: dict[str, str] | None
    soft_seconds: float | None
    hard_seconds: float | None


class Began(Struct, frozen=True):
    """The process is there, has imported what it needs, and calls the function now."""


class Beat(Struct, frozen=True):
    """The body says how far it is."""

    value: Any


class Returned(Struct, frozen=True):
    """What came of it."""

    value: Any
    megabytes: float
    """Of memory that this process has now."""


class Raised(Struct, frozen=True):
    """What it raised."""

    error: BaseException
    traceback: str
    megabytes: float


class _Host:
    """The host of the one body that runs in this process."""

    def __init__(self, pipe: Pipe, body: RunBody, allowance: Allowance) -> None:
        self.codec = Codec()
        self._pipe = pipe
        self._body = body
        self._allowance = allowance

    def has(self, body: RunBody) -> bool:
        return body is self._body

    def beat(self, body: RunBody, value: object) -> None:
        del body
        self._pipe.send_bytes(pickle.dumps(Beat(value)))

    def time_limit(self, body: RunBody) -> Allowance:
        del body
        return self._allowance


def serve(pipe: Pipe) -> None:
    """Run what comes, until nothing does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the process that started this one
        except (EOFError, OSError):
            return
        except Exception as error:  # noqa: BLE001 - an argument's own code may raise anything
            answer: Returned | Raised = _raised(error)
        else:
            answer = _run(pipe, job)
        try:
            data = pickle.dumps(answer)
        except Exception as error:  # noqa: BLE001 - whatever keeps a value in its process
            data = pickle.dumps(_raised(error))
        try:
            pipe.send_bytes(data)
        except OSError:
            return


def _end_with_parent() -> NoReturn:
    """A body that computes on for nobody would do so for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


def _run(pipe: Pipe, job: Job) -> Returned | Raised:
    last = None if job.heartbeat is None else Heartbeat(job.command, 0.0, job.heartbeat)
    codec = Codec()
    work = Work(job.name, _run, is_async=False, result=codec.of(Any), cpu=True)
    body = RunBody(
        0, job.id, job.command, job.attempt, job.run, work, (), {}, chain=(), heartbeat=last,
        context=job.context,
    )  # fmt: skip
    host: _Host | None = None
    token = current.set(body)
    try:
        found: Any = importlib.import_module(job.module)
        for part in job.function.split("."):
            found = getattr(found, part)
        # Under its decorator, if it has one.
        function = getattr(found, "__wrapped__", found)
        allowance = Allowance(job.soft_seconds, job.hard_seconds, SystemClock.elapsed)
        host = _Host(pipe, body, allowance)
        hosts.add(host)
        pipe.send_bytes(pickle.dumps(Began()))
        _alarm(job, allowance)
        try:
            value = function(*job.args, **job.kwargs)
        finally:
            _alarm(None, allowance)
        return Returned(value, _megabytes())
    except SoftTimeout as error:
        return _raised(CallTimedOut(str(error)))
    except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
        return _raised(error)
    finally:
        current.reset(token)
        if host is not None:
            hosts.discard(host)


def _alarm(job: Job | None, allowance: Allowance) -> None:
    """Here, in the main thread of a process of its own, a plain function can be told by an exception."""
    if not hasattr(signal, "setitimer"):
        return  # Windows has none.
    seconds = None if job is None else job.soft_seconds
    name = "" if job is None else f"{job.name}: attempt {job.attempt}"

    def tell(number: int, frame: object) -> None:
        del number, frame
        allowance.event().set()
        raise SoftTimeout(f"{name} took longer than its soft timeout of {seconds:g} s")

    if seconds is not None:
        signal.signal(signal.SIGALRM, tell)
    signal.setitimer(signal.ITIMER_REAL, 0.0 if seconds is None else max(seconds, 1e-6))


def _raised(error: BaseException) -> Raised:
    """The error, or one that can travel."""
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    except Exception:  # noqa: BLE001 - an error's own code may raise anything
        error = CallFailed(f"{type(error).__module__}:{type(error).__qualname__}", str(error), text)
    return Raised(error, text, _megabytes())


def _megabytes() -> float:
    """What this process has in memory; where the system does not say, the most that it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10
