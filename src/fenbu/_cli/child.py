"""Child processes that end with their parent, however that ends.

A child holds the reading end of a pipe as its standard input. The pipe closes when the parent is gone, and
the child then stops in good order, as if it had been told to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading

MARK = "FENBU_CHILD"


def is_child() -> bool:
    """Whether this process was started by `start`."""
    return MARK in os.environ


def follow_parent() -> None:
    """In the child: stop when the parent is gone."""
    threading.Thread(target=_follow, name="fenbu-parent", daemon=True).start()


def _follow() -> None:
    # Not through sys.stdin: a thread inside its buffer would hold up the end of the interpreter.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


async def start(*command: str) -> asyncio.subprocess.Process:
    """Start one. In a session of its own: Ctrl-C reaches the parent alone, which stops it in good order."""
    return await asyncio.create_subprocess_exec(
        *command, env={**os.environ, MARK: "1"}, stdin=asyncio.subprocess.PIPE, start_new_session=True
    )  # fmt: skip


async def stop(child: asyncio.subprocess.Process, seconds: float) -> bool:
    """Let it stop in good order, at most so long, then kill it: false if that was needed."""
    if child.returncode is not None:
        return True
    child.terminate()
    try:
        async with asyncio.timeout(seconds):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
        return False
    return True
