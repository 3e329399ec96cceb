"""What running bodies write to the streams of their calls: into the open batch, with everything else.

A body waits until its chunk is durable, which is all the backpressure there is. It says with each chunk how
many it has written before, so that an attempt that writes the same again changes nothing.
Guarantee: stream-once. Nothing is taken from an attempt that nobody waits for: it is over, or runs elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from fenbu._core import ids, limit
from fenbu._core.effect import RunBody
from fenbu._core.engine import Engine
from fenbu._core.handler import Registry
from fenbu._core.model import Payload
from fenbu._core.stream import body_writes, is_closed
from fenbu._node.clock import Clock
from fenbu._node.committer import Committer
from fenbu._storage.protocol import Storage
from fenbu._storage.stream import StreamCursor
from fenbu.errors import CallCancelled, Unavailable, UsageError

AGAIN_SECONDS = 0.5


class Place(Struct):
    """How far an attempt has come in one stream."""

    count: int = 0
    is_closed: bool = False


class ChunkWriter:
    """See the module. `runs` says whether a body is the one that runs as its attempt at this moment."""

    def __init__(
        self,
        registry: Registry,
        storage: Storage,
        clock: Clock,
        *,
        engine: Engine,
        committer: Committer,
        runs: Callable[[RunBody], bool],
    ) -> None:
        self.registry = registry
        self.loop = asyncio.get_running_loop()
        self._storage = storage
        self._clock = clock
        self._engine = engine
        self._committer = committer
        self._runs = runs

    async def write(self, body: RunBody, stream: str, value: Payload | None) -> None:
        """Append a value, or end the stream if it is None; returns when that is durable.

        Raises:
            CallCancelled: Nobody waits for this attempt any more.
            UsageError: The attempt, or the code that it is a step of, has closed the stream.
        """
        place = self._place(body, stream)
        by_code = is_closed(self._engine, body, stream)
        if place.is_closed or by_code:
            if value is None:
                return
            by = "by the code that the step belongs to" if by_code else "already"
            raise UsageError(f"the stream {stream!r} of {body.name} {body.id} is closed {by}")
        now = self._clock.now()
        if not body_writes(self._engine, body, stream, place.count, value, now=now):
            raise _over(body)
        place.count += 1
        place.is_closed = value is None
        await self._committer.written()

    async def resume(self, body: RunBody, stream: str) -> list[Payload]:
        """What earlier attempts have written; this one goes on behind it.

        Raises:
            CallCancelled: Nobody waits for this attempt any more.
            UsageError: It has written to the stream already.
        """
        if self._place(body, stream).count:
            raise UsageError(
                f"resume() of the stream {stream!r} comes before the first write of an attempt"
            )
        # What the attempt before has given to the open batch counts, too.
        await self._committer.written()
        found, is_closed = await self._read(body, stream)
        place = self._place(body, stream)
        place.count, place.is_closed = len(found) + is_closed, is_closed
        return found

    async def _read(self, body: RunBody, stream: str) -> tuple[list[Payload], bool]:
        run, after, complete = ids.run_number(body.id, body.run), 0, False
        found: list[Payload] = []
        is_closed = False
        while not complete:
            cursor = StreamCursor(body.id, stream, after)
            try:
                (page,) = await self._storage.load_chunks([cursor], limit=limit.CHUNK_ROWS_MAX)
            except Unavailable:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            for each in page.chunks:
                after = each.number
                if (each.run, each.command) == (run, body.command):
                    is_closed = is_closed or each.ends
                    if each.value is not None:
                        found.append(each.value)
            complete = page.complete
        return found, is_closed

    def _place(self, body: RunBody, stream: str) -> Place:
        if not self._runs(body):
            raise _over(body)
        if body.places is None:
            body.places = {}
        places: dict[str, Place] = body.places
        return places.setdefault(stream, Place())


def _over(body: RunBody) -> CallCancelled:
    return CallCancelled(
        f"{body.name} {body.id}: attempt {body.attempt} is over, nothing that it writes is taken any more"
    )
