"""Thumbnails of many photos: a batch that is killed in the middle, and makes each of them once.

First `map`, for some: results come one by one while others are made. Then a batch, for any number: photos
come page by page. Its process stops after a while, another one goes on, and at the end those that failed are
found and tried again.

    python examples/thumbnails.py
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from fenbu import App, BatchProgress, Status, Where

app = App("photos")

COUNT = 300
made = Counter[str]()
many_are_made = asyncio.Event()
broken = {"photo-7", "photo-207"}


@dataclass
class Photo:
    name: str
    width: int = 640


@app.task
async def resize(photo: Photo) -> str:
    await asyncio.sleep(0.01)
    if photo.name in broken:
        raise ValueError(f"{photo.name} is no picture")
    made[photo.name] += 1
    if len(made) > 100:
        many_are_made.set()
    return f"{photo.name}@{photo.width}"


async def pages(cursor: int | None, album: str) -> tuple[list[Photo], int | None]:
    """As a bucket or a table gives them: some, and where the next ones begin."""
    first = cursor or 0
    photos = [Photo(f"{album}-{number}") for number in range(first, first + 50)]
    return photos, first + 50 if first + 50 < COUNT else None


thumbnails = app.batch("thumbnails", source=pages, each=resize, concurrency=20)


async def tried_again(id: str) -> None:
    try:
        await app.handle(id).result()
    except ValueError:
        await asyncio.sleep(0.01)  # It has not been told yet.
        await tried_again(id)


async def some() -> None:
    async with app:
        photos = (Photo(f"cover-{number}", 1200) for number in range(5))
        async for thumbnail in resize.map(photos, concurrency=2):
            print(thumbnail)


async def begin() -> None:
    async with app:
        handle = await thumbnails.options(id="nightly").start(None, "photo")
        await many_are_made.wait()
        now = await handle.query("progress", result=BatchProgress)
        print(f"{now.open} calls are open when the process ends")
        await app.close(0.0)


async def go_on() -> None:
    async with app:
        found = await thumbnails.handle("nightly").result()
        print(f"{found.completed} of {found.started} thumbnails, {found.failed} failed")
        print(f"the first error: {min(each.error for each in found.errors)}")
        broken.clear()
        of_this_batch: list[Where] = [("batch", "=", "nightly")]
        failed = await app.list_calls(where=of_this_batch, statuses=[Status.FAILED])
        await app.steer_calls("retry", where=of_this_batch, statuses=[Status.FAILED])
        for each in failed.calls:
            await tried_again(each.id)
        missing = {f"photo-{number}" for number in range(COUNT)} - set(made)
        print(f"tried again: {len(failed.calls)}, missing: {len(missing)}")


if __name__ == "__main__":
    asyncio.run(some())
    asyncio.run(begin())
    asyncio.run(go_on())
