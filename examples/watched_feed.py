"""A feed that is watched for years by one call, which begins anew now and then.

Whoever has something for it starts it together with a signal: if nobody watches yet, somebody does from then
on; if it has ended, because the feed was closed, it begins again.

    python examples/watched_feed.py
"""

from __future__ import annotations

import asyncio

from fenbu import App, step, wait_signal

app = App("feeds")

ENTRIES_PER_RUN = 3
"""In earnest, look at `fenbu.journal_length()`."""


async def publish(feed: str, number: int, entry: str) -> None:
    print(f"  {feed} {number}: {entry}")


@app.workflow
async def watch(feed: str, number: int = 0) -> int:
    """Publishes what comes, in order. What has not been read goes with it when it begins anew."""
    for _ in range(ENTRIES_PER_RUN):
        entry = await wait_signal("entry", str)
        if entry == "closed":
            break
        number += 1
        await step(publish, feed, number, entry)
    else:
        watch.continue_as_new(feed, number)
    return number


async def add(feed: str, entry: str) -> None:
    """Durable in one go: the call, if there has to be one, and what it is told."""
    call = watch.options(id=f"feed-{feed}", if_exists="after_end")
    await call.and_signal("entry", entry).start(feed)


async def main() -> None:
    async with app:
        for entry in ("one", "two", "three", "four", "five", "closed"):
            await add("news", entry)
        print("published:", await watch.handle("feed-news").result())
        await add("news", "it is open again")
        await add("news", "closed")
        print("published:", await watch.handle("feed-news").result())


if __name__ == "__main__":
    asyncio.run(main())
