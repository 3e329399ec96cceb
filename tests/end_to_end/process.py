"""Node processes: `fenbu run` as a user would start it, known by the line that says that it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

BANK = Path(__file__).with_name("bank.py")


class NodeProcess:
    """A node on a database; `kill` is SIGKILL, `stop` is SIGTERM."""

    def __init__(self, url: str, *options: str, app: Path = BANK) -> None:
        self._command = [sys.executable, "-m", "fenbu", "run", str(app), "--url", url, *options]
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("FENBU")}
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, env=self._environment, stderr=subprocess.PIPE, text=True
        )
        self.wait_for("running app")

    def wait_for(self, words: str) -> str:
        """Read its log until a line has these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if words in line:
                return line
        self.wait()
        raise AssertionError(f"it ended without saying {words!r}: {''.join(self.lines[-20:])}")

    def wait(self) -> int:
        assert self.process.stderr is not None
        self.lines += self.process.stderr.readlines()
        self.process.stderr.close()
        return self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()
