"""The logs of topics, and the calls that wait for what comes in them: built-in handlers of every app.

A log has an entity of its own, which appends to it: so events come in an order, and in the commit of whoever
publishes there is nothing but a message. Who has read all that there is *parks* his call there, and is told
of the next event once. A log knows who waits for any event. Who waits for those with a key stands at a *bell*
of that key, so that a million who wait cost an event nothing but the ring of its own bell.
They are in every process, because an entity's operations run wherever its partition is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from fenbu._api.context import current_id, required_activation
from fenbu._api.entity import Entity, operation
from fenbu._api.function import DurableFunction
from fenbu._api.runtime import Runtime
from fenbu._api.signal import wait_signal
from fenbu._api.step import step
from fenbu._api.stream import write
from fenbu._core import limit
from fenbu._core.codec import TypeCodec
from fenbu._core.command import AppendEvent
from fenbu._core.location import caller
from fenbu._core.model import Chunk, Payload
from fenbu._core.retry import Retry
from fenbu._core.topic import (
    RUN_EVENTS,
    STREAM,
    Envelope,
    TopicSpec,
    decode,
    encode,
    log_id,
    log_key,
)
from fenbu._storage.stream import StreamCursor
from fenbu.errors import UsageError

LOG: Final = "fenbu.topic"
BELL: Final = "fenbu.topic.bell"
NEXT: Final = "fenbu.topic.next"

NOTICE: Final = "topic"
"""The signal of those who wait."""

PAGES_MAX: Final = 50
"""Pages of a log that are passed over in one step."""

READ = step.options(
    name="read", retry=Retry(attempts=None, first_seconds=0.1, max_seconds=30.0, total_seconds=None)
)
"""A log is there as long as its database is."""


class Notice(Struct, frozen=True, omit_defaults=True):
    """What a call that reads a log is told."""

    what: Literal["news", "pause", "resume", "seek"]
    after: int | None = None
    """Where to go on; None is from the end."""
    since: float | None = None
    """From which instant, in place of `after`."""


class Found(Struct, frozen=True):
    """An event as it is found in a log."""

    offset: int
    at: float
    key: str | None
    event: Any


class Look(Struct, frozen=True, omit_defaults=True):
    """What a look into a log came to."""

    after: int
    seen: int
    """How many events the log had when it was read up to there, as far as that is known."""
    found: Found | None = None
    more: bool = False


class Feed(Struct, frozen=True):
    """A topic, as those need it who read it."""

    runtime: Runtime
    spec: TopicSpec
    type: Any
    codec: TypeCodec
    key: Callable[[Any], str] | None
    logs: Logs

    def log(self, shard: int) -> Log:
        """The entity that writes a shard's log."""
        return self.logs.log(log_key(self.spec.name, shard))

    async def before(self, shard: int, instant: float) -> int:
        """The offset of the last event before an instant."""
        return await end_of(self.runtime, log_key(self.spec.name, shard), instant)

    def key_of(self, event: Any, key: Callable[[Any], str] | None = None) -> str | None:
        """The key of an event.

        Raises:
            UsageError: The function that tells it returns none.
        """
        key = key or self.key
        if key is None:
            return None
        found: Any = key(event)
        if not isinstance(found, str) or not 0 < len(found) <= limit.EVENT_KEY_LENGTH_MAX:
            raise UsageError(
                f"topic {self.spec.name!r}: the key of an event must be a text of 1 to "
                f"{limit.EVENT_KEY_LENGTH_MAX} characters, not {found!r}"
            )
        if not found.isprintable():
            raise UsageError(f"topic {self.spec.name!r}: {found!r} is not printable, and no key")
        return found


class Log(Protocol):
    """A reference to the entity that writes a log."""

    append: DurableFunction[[list[Envelope]], None]
    """Events in order. Nothing is kept of the call."""
    append_once: DurableFunction[[list[Envelope]], None]
    """The same; the call is kept for a day, so that its id means this one."""
    park: DurableFunction[[str, int, str | None], int]
    """Tell a call of the next event, if there are as many as it has seen; how many there are."""
    unpark: DurableFunction[[str, str | None], None]
    """It waits no longer."""
    rung: DurableFunction[[int], None]
    """So many who waited for events with keys do no longer."""
    length: DurableFunction[[], int]
    """How many events there ever were."""


class Registering(Protocol):
    """What is asked of an app."""

    runtime: Runtime
    entity: Any
    workflow: Any


class Logs:
    """The built-in handlers of an app, which it registers."""

    def __init__(self, app: Registering) -> None:
        self.runtime = app.runtime
        self.bell: Callable[[str], Any] = _bell(app, self)
        self.log: Callable[[str], Log] = _log(app, self)
        """The reference by the log's key."""
        self.next = _next(app, self)
        """The first event in a log, with a key, after an offset; None is the end at that moment."""

    async def tell(self, call: str) -> None:
        """There is an event for a call that waits."""
        await self.next.handle(call).signal(NOTICE, Notice("news"))

    async def find(self, log: str, after: int | None, seen: int, key: str | None) -> Look:
        """Look for an event with a key."""
        if after is None:
            after = await end_of(self.runtime, log)
        codec = self.runtime.registry.codec.of(Any)
        for _ in range(PAGES_MAX):
            chunks, more = await page_of(self.runtime, log, after)
            for each in chunks:
                after, seen = each.number, seen_with(each)
                found, payload = opened(each)
                if key is None or found == key:
                    event = Found(each.number, each.at, found, codec.decode(payload))
                    return Look(after, seen, event)
            if not more:
                return Look(after, seen)
        return Look(after, seen, more=True)


def _bell(app: Registering, logs: Logs) -> Any:
    @app.entity(name=BELL, retention=0)
    class Bell(Entity):
        """Who waits for the next event with a key."""

        parked: tuple[str, ...] = ()

        async def park(self, call: str) -> None:
            self.parked += (call,)

        async def unpark(self, call: str, log: str) -> None:
            if call in self.parked:
                self.parked = tuple(each for each in self.parked if each != call)
                await logs.log(log).rung.start(1)
            if not self.parked:
                self.delete()

        async def ring(self, log: str) -> None:
            for each in self.parked:
                await logs.tell(each)
            if self.parked:
                await logs.log(log).rung.start(len(self.parked))
            self.delete()

    return Bell


def _log(app: Registering, logs: Logs) -> Any:
    @app.entity(name=LOG, retention=0)
    class TopicLog(Entity):
        """Writes a log."""

        count: int = 0
        """Events ever appended."""
        parked: tuple[str, ...] = ()
        """Calls that wait for any event."""
        bells: int = 0
        """How many wait at bells."""

        async def append(self, events: list[Envelope]) -> None:
            running, location = required_activation("append()"), caller()
            text = isinstance(running.invocation.args, str)
            for each in events:
                value = encode(each, text=text)
                write(running, AppendEvent(log_id(self.key), location, self.count, value))
                self.count += 1
            parked, self.parked = self.parked, ()
            for call in parked:
                await logs.tell(call)
            if self.bells:
                for key in dict.fromkeys(each.key for each in events):
                    if key is not None:
                        await logs.bell(f"{self.key}/{key}").ring.start(self.key)

        @operation(retention=limit.EVENT_ID_SECONDS)
        async def append_once(self, events: list[Envelope]) -> None:
            await self.append(events)

        async def park(self, call: str, seen: int, key: str | None) -> int:
            if seen != self.count:
                return self.count
            if key is not None:
                self.bells += 1
                await logs.bell(f"{self.key}/{key}").park.start(call)
            elif call not in self.parked:
                self.parked += (call,)
            return seen

        async def unpark(self, call: str, key: str | None) -> None:
            if key is not None:
                await logs.bell(f"{self.key}/{key}").unpark.start(call, self.key)
            else:
                self.parked = tuple(each for each in self.parked if each != call)

        async def rung(self, count: int) -> None:
            self.bells -= count

        @operation(read_only=True)
        async def length(self) -> int:
            return self.count

    return TopicLog


def _next(
    app: Registering, logs: Logs
) -> DurableFunction[[str, int | None, int, str | None], Found]:
    @app.workflow(name=NEXT, retention=0)
    async def next_event(log: str, after: int | None, seen: int, key: str | None) -> Found:
        look = await READ(logs.find, log, after, seen, key)
        if look.found is not None:
            return look.found
        seen = look.seen
        if not look.more:
            try:
                count = await logs.log(log).park(current_id(), seen, key)
                if count == seen:
                    await wait_signal(NOTICE, Notice)
            except asyncio.CancelledError:
                await logs.log(log).unpark.start(current_id(), key)
                raise
            # More have come meanwhile, or so many came that are forgotten.
            seen = count
        return logs.next.continue_as_new(log, look.after, seen, key)

    return next_event


def instant_of(since: datetime) -> float:
    """From when on, in seconds since 1970.

    Raises:
        UsageError: It has no time zone.
    """
    if since.tzinfo is None:
        raise UsageError(f"{since} has no time zone; use `tzinfo=…`")
    # Instants in a log are not rounded to microseconds, as those are that their readers see.
    return since.timestamp() - 5e-7


async def page_of(runtime: Runtime, log: str, after: int) -> tuple[list[Chunk], bool]:
    """The next events of a log, and whether there may be more."""
    cursor = StreamCursor(log_id(log), STREAM, after)
    (page,) = await runtime.gateway.storage.load_chunks([cursor], limit=limit.CHUNK_ROWS_MAX)
    return page.chunks, not page.complete


async def end_of(runtime: Runtime, log: str, before: float | None = None) -> int:
    """The offset of the last event of a log, of those before an instant; 0 without any."""
    return await runtime.gateway.storage.last_chunk(log_id(log), STREAM, before)


def seen_with(chunk: Chunk) -> int:
    """How many events the log had with this one."""
    return chunk.run * RUN_EVENTS + chunk.position + 1


def opened(chunk: Chunk) -> tuple[str | None, Payload]:
    """The key and the payload of an event."""
    return decode(chunk.value if chunk.value is not None else "null")
