"""Node processes whose log goes to a file, however much they say."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path


class Service:
    """One node process at a time."""

    def __init__(self, name: str, program: Path, url: str, folder: Path) -> None:
        self.name = name
        self._program = program
        self._folder = folder
        self._url = url
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Begin to run; it may take a while until it does."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FENBU")}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "fenbu", "run", str(self._program), "--url", self._url,
                    "--drain", "2",
                ],
                cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def wait(self) -> int | None:
        """Until it has ended."""
        process = self._process
        return None if process is None else await asyncio.to_thread(process.wait)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.wait()
