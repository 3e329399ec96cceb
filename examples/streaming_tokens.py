"""Tokens of a language model, read while they are written, although the process that writes them is killed.

A worker process runs the model; this one prints what it says as it comes. Half-way the worker is killed, and
another one goes on: the model is given what it has said so far, and the reader notices nothing.

    python examples/streaming_tokens.py
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

from fenbu import App, stream

app = App("tokens")

SAYS = [
    "The",
    "sky",
    "is",
    "blue",
    "because",
    "air",
    "scatters",
    "short",
    "waves",
    "more",
    "than",
    "long",
    "ones",
    ".",
]


async def model(prompt: str, said: list[str]) -> AsyncIterator[str]:
    """A fake one: it goes on behind what it has said already."""
    assert prompt
    for word in SAYS[len(said) :]:
        await asyncio.sleep(0.05)
        yield word


@app.task
async def answer(prompt: str) -> int:
    out = stream("tokens", str)
    said = await out.resume()
    async for word in model(prompt, said):
        await out.write(word)
    return len(said)


def start_worker() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "worker"])


async def work() -> None:
    async with app:
        await asyncio.Event().wait()


async def main() -> None:
    async with app:
        pass  # The database is there from now on.
    worker = start_worker()
    async with app.client():
        handle = await answer.start("Why is the sky blue?")
        seen: list[str] = []
        async for word in handle.stream("tokens", str):
            print(word, end=" ", flush=True)
            seen.append(word)
            if len(seen) == 5:
                worker.kill()
                worker.wait()
                worker = start_worker()
        print()
        resumed = await handle.result()
        print(f"{len(seen)} words, the second process began with {resumed} of them")
        assert seen == SAYS
    worker.kill()
    worker.wait()


if __name__ == "__main__":
    asyncio.run(work() if "worker" in sys.argv else main())
