"""The app of `backlog.py`, for its nodes and its client."""

import asyncio
import os

from fenbu import App

app = App("naps")


@app.task
async def nap(seconds: float) -> int:
    """Takes time, and says which process it was in."""
    await asyncio.sleep(seconds)
    return os.getpid()
