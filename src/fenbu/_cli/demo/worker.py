"""The worker: a node in a process of its own, which the demo starts, kills and starts again.

It is what anybody would start, `fenbu run`, on the database that `FENBU_URL` names. It is ready when its
log says so. Only this process id is ever signalled.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from fenbu.errors import FenbuError

COMMAND = (sys.executable, "-m", "fenbu", "run", "fenbu._cli.demo.app:app")
READY = b"running app "
"""What `fenbu run` says when it is."""

READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
LOOK_SECONDS = 0.01


class WorkerLost(FenbuError):
    """The worker ended, or did not start, and it was not the demo that ended it."""


class Worker:
    """See the module.

    Args:
        url: The database.
        folder: Where it runs and keeps its log.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._environment = {**os.environ, "FENBU_URL": url, "PYTHONUNBUFFERED": "1"}
        self._log = folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        """Its process id; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> float:
        """Start it and wait until it is ready. Returns how many seconds that took.

        Raises:
            WorkerLost: It ended before, or is not ready after long.
        """
        began = time.monotonic()
        with self._log.open("ab") as log:
            said = log.tell()
            # In the demo's own process group, so that whatever ends the demo's terminal ends it too.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - ours, and it takes a millisecond
                COMMAND, cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        while not self._is_ready(said):
            if self._process.poll() is not None or time.monotonic() > began + READY_SECONDS_MAX:
                raise WorkerLost(f"the worker did not start; the end of its log:\n{self._tail()}")
            await asyncio.sleep(LOOK_SECONDS)
        self._wanted = True
        return time.monotonic() - began

    async def watch(self) -> None:
        """Raise when it ends by itself.

        Raises:
            WorkerLost: It did.
        """
        while True:
            if self._wanted and self._process is not None and self._process.poll() is not None:
                raise WorkerLost(
                    f"the worker ended with status {self._process.returncode}; the end of its log:\n"
                    f"{self._tail()}"
                )
            await asyncio.sleep(0.2)

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to finish or write anything."""
        if self._process is not None:
            self._wanted = False
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Let it end in good order, or else kill it. Does nothing if it runs no more."""
        self._wanted = False
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        try:
            process.terminate()
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also when another Ctrl-C cuts the waiting short.
            process.kill()
            process.wait()

    def _is_ready(self, said: int) -> bool:
        with self._log.open("rb") as log:
            log.seek(said)
            return READY in log.read()

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:]) or "(it is empty)"
