"""The peers of `versus_peers.py`: versions, environments, and how their processes are started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _measure import HERE
from _server import free_port

Result = dict[str, float]


@dataclass(frozen=True)
class Peer:
    """One library."""

    name: str
    packages: tuple[str, ...]
    script: str
    bulk: bool
    """It can enqueue many in one go."""
    results: str
    """What it keeps of a finished task."""
    workers: tuple[str, ...] = ()
    """The command of a worker, after the interpreter; by default the script itself."""
    on_redis: bool = False
    batch: int = 0


PEERS: Final = {
    each.name: each
    for each in (
        Peer("pgqueuer", ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"), "_peer_pgqueuer.py",
             bulk=True, results="none", batch=1000),
        Peer("Procrastinate", ("procrastinate==3.10.0", "psycopg[binary]"), "_peer_procrastinate.py",
             bulk=True, results="the job's row", batch=30),
        Peer("Celery", ("celery[redis]==5.7.0",), "_peer_celery.py",
             bulk=False, results="in Redis", on_redis=True),
        Peer("Dramatiq", ("dramatiq[redis]==2.2.1",), "_peer_dramatiq.py", bulk=False, results="in Redis",
             workers=("-m", "dramatiq", "_peer_dramatiq", "--processes", "1", "--threads", "8"),
             on_redis=True),
    )
}  # fmt: skip


def prepared(name: str, packages: tuple[str, ...]) -> Path:
    """The interpreter of an environment with these packages, made if it is missing or has others."""
    folder = HERE / f".env-{name.lower()}"
    python, mark, wanted = folder / "bin" / "python", folder / "installed.txt", "\n".join(packages)
    if not mark.exists() or mark.read_text() != wanted:
        print(f"making {folder.name} with {', '.join(packages)}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, *packages], check=True)
        mark.write_text(wanted)
    return python


@contextmanager
def redis() -> Iterator[str]:
    """A Redis of its own that writes its log to disk every second."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit(
            "redis-server is not installed: leave Celery and Dramatiq out with --peers"
        )
    folder = Path(tempfile.mkdtemp(dir=HERE / ".data"))
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(
        [program, *words, "--appendonly", "yes", "--appendfsync", "everysec"],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


class Side:
    """A peer at work: two workers, and clients one after the other."""

    def __init__(self, peer: Peer, url: str) -> None:
        self._peer = peer
        self._python = str(prepared(peer.name, peer.packages))
        self._given = {"url": url, "batch": peer.batch}
        self._environment = {**os.environ, "PEER_REDIS": url}

    def _command(self, role: str, **given: Any) -> list[str]:
        return [self._python, self._peer.script, role, json.dumps({**self._given, **given})]

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Two of them."""
        if not self._peer.on_redis:
            subprocess.run(
                self._command("setup"), check=True, cwd=HERE, env=self._environment,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        command = (
            [self._python, *self._peer.workers] if self._peer.workers else self._command("worker")
        )
        processes = [
            subprocess.Popen(
                command, cwd=HERE, env=self._environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]  # fmt: skip
        try:
            yield
        finally:
            for each in processes:
                each.terminate()
            for each in processes:
                try:
                    each.wait(10)
                except subprocess.TimeoutExpired:
                    each.kill()
                    each.wait()

    def client(self, count: int, concurrency: int, *, bulk: bool) -> Result:
        """Enqueue so many tasks and wait until all have ended."""
        command = self._command("client", count=count, concurrency=concurrency, bulk=bulk)
        return said(command, self._environment)


def said(command: list[str], environment: dict[str, str] | None = None) -> Result:
    """The last line that a side script prints."""
    made = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=HERE,
        env=environment,
        timeout=600,
    )
    found: Result = json.loads(made.stdout.splitlines()[-1])
    return found
