"""Topics: durable logs of events, which are published in the sender's own commit, and kept for a while."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Struct

from fenbu._api.bound import start_many
from fenbu._api.context import activation
from fenbu._api.entity import Operation
from fenbu._api.function import DurableFunction
from fenbu._api.options import checked_id, seconds
from fenbu._api.runtime import Runtime
from fenbu._api.stream import checked_offset
from fenbu._api.topic_group import (
    ConsumerGroup,
    Subscription,
    check_function,
    check_subscriber,
    spec_of,
    subscribe,
)
from fenbu._api.topic_log import READ, Feed, Logs, Registering, end_of, instant_of, opened
from fenbu._core import ids, limit
from fenbu._core.model import Chunk, Kind, Payload
from fenbu._core.topic import STREAM, Envelope, TopicSpec, log_id, log_key, shard_of
from fenbu.errors import EncodingError, PayloadTooLarge, UsageError

T = TypeVar("T")

NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


class Event(Struct, Generic[T], frozen=True):
    """An event of a topic, as it is read.

    Attributes:
        offset: Its place in its shard: read on `after` it, in any process. Offsets grow, with gaps.
        value: What was published.
        at: When it came into the log, in UTC, by the clock of a node.
        key: Its key, if the topic has keys.
        shard: The shard's number.
    """

    offset: int
    value: T
    at: datetime
    key: str | None
    shard: int


class Topic(Generic[T]):
    """A durable log of events; made by `App.topic`.

    Attributes:
        name: The topic's name.
    """

    __slots__ = ("_app", "_feed", "name")

    def __init__(
        self,
        app: Registering,
        logs: Logs,
        name: str,
        type: Any,  # noqa: A002
        *,
        key: Callable[[T], str] | None = None,
        shards: int = 1,
        retention: float | timedelta = limit.RETENTION_SECONDS,
    ) -> None:
        if not NAME.fullmatch(name) or len(name) > limit.TOPIC_NAME_LENGTH_MAX:
            raise UsageError(
                f"{name!r} cannot name a topic: a name has 1 to {limit.TOPIC_NAME_LENGTH_MAX} letters, "
                "digits, - _ and ."
            )
        if not 1 <= shards <= limit.TOPIC_SHARDS_MAX:
            raise UsageError(f"topic {name!r}: shards must be 1 to {limit.TOPIC_SHARDS_MAX}")
        check_function(key, f"topic {name!r}: key")
        registry = app.runtime.registry
        if name in registry.topics:
            raise UsageError(f"topic {name!r} is registered twice")
        kept = seconds(retention, "retention") or 0.0
        spec = registry.topics[name] = TopicSpec(name, shards, kept)
        self.name = name
        self._app = app
        self._feed = Feed(app.runtime, spec, type, registry.codec.of(type), key, logs)

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"

    # Publishing.

    async def publish(
        self,
        event: T,
        *,
        id: str | None = None,  # noqa: A002
        transaction: object = None,
    ) -> None:
        """Append an event to the log: durably, once.

        In workflow and entity code it is part of the code's own commit. Elsewhere it is durable when this
        returns, and in the log soon after that. Events with the same key stay in the order in which one
        sender has published them; without keys, all that one call publishes.

        Args:
            event: What has happened.
            id: Publishing with the same id again, within a day, does nothing. For code that may run twice.
            transaction: A connection of your own: published if its transaction commits. See
                `DurableFunction.options`.

        Raises:
            EncodingError: The event does not fit its type, or is too large.
            UsageError: The app is not open here, or an argument makes no sense.
            Unavailable: The database cannot be written; nothing was published.

        Example:
            ```python
            await orders.publish(OrderPlaced(7, "c-1", 99_00))
            ```
        """
        function, envelope = self.call_of(event, id, transaction)
        await function.start([envelope])

    def call_of(
        self, event: T, id_: str | None, transaction: object
    ) -> tuple[DurableFunction[[list[Envelope]], None], Envelope]:
        """Used by `sync`: what publishes an event."""
        shard, envelope = self._sealed(event)
        log = self._feed.log(shard)
        function = log.append
        if id_ is not None:
            function = log.append_once.options(id=f"{self.name}:{checked_id(id_)}")
        if transaction is not None:
            function = function.options(transaction=transaction)
        return function, envelope

    async def publish_many(self, events: Iterable[T]) -> None:
        """Append events, all or none, in order within their shards.

        Raises:
            EncodingError: An event does not fit the type, or is too large; none was published.
            UsageError: The app is not open here.
            Unavailable: The database cannot be written; nothing was published.
        """
        shards: dict[int, list[Envelope]] = {}
        for each in events:
            shard, envelope = self._sealed(each)
            shards.setdefault(shard, []).append(envelope)
        calls = [
            self._feed.log(shard).append.bind(some[first : first + limit.EVENTS_OF_CALL_MAX])
            for shard, some in shards.items()
            for first in range(0, len(some), limit.EVENTS_OF_CALL_MAX)
        ]
        await start_many(self._feed.runtime, calls)

    def _sealed(self, event: T) -> tuple[int, Envelope]:
        """The event on its way, and where to."""
        feed = self._feed
        try:
            payload = feed.codec.check(event)
        except PayloadTooLarge as error:
            raise error.named(f"topic {self.name!r}: the event") from None
        except EncodingError as error:
            raise EncodingError(f"topic {self.name!r}: the event: {error}") from error.__cause__
        key = feed.key_of(event)
        raw = msgspec.Raw(payload.encode() if isinstance(payload, str) else payload)
        return self._shard(key), Envelope(raw, key)

    def _shard(self, key: str | None) -> int:
        count = self._feed.spec.shard_count
        if count == 1:
            return 0
        if key is None:
            # What one call publishes stays in order; what comes from outside goes anywhere.
            running, clock = activation(), self._feed.runtime.clock
            key = (
                running.run
                if running is not None
                else ids.invocation_id(clock.now(), clock.entropy())
            )
        return shard_of(key, count)

    def from_json(self, text: str) -> T:
        """An event from JSON, as the command line gets it.

        Raises:
            EncodingError: It does not fit the type.
        """
        return cast("T", self._feed.codec.decode(text))

    # Reading.

    async def events(
        self, *, after: int = 0, since: datetime | None = None, shard: int = 0
    ) -> AsyncIterator[Event[T]]:
        """The events of a shard, in order, from the beginning or from where you say; then waits for more.

        Args:
            after: The offset of the last one that was seen: reading goes on behind it.
            since: From this instant on, which has a time zone, in place of `after`.
            shard: Which of them.

        Raises:
            EncodingError: An event does not fit the type.
            UsageError: An argument makes no sense, or this is the code of a workflow or operation.

        Example:
            ```python
            async for event in orders.events(after=last_event_id):
                await response.send(json(event.value), id=event.offset)
            ```
        """
        after = await self.begin(after, since, shard)
        while True:
            for event in await self.page(shard, after):
                after = event.offset
                yield event

    async def begin(self, after: int, since: datetime | None, shard: int) -> int:
        """Used by `events`: behind what to begin."""
        if not 0 <= shard < self._feed.spec.shard_count:
            raise UsageError(f"topic {self.name!r} has no shard {shard}")
        if since is None:
            return checked_offset(after, "after")
        log = log_key(self.name, shard)
        return await end_of(self._feed.runtime, log, instant_of(since))

    async def page(self, shard: int, after: int) -> list[Event[T]]:
        """Used by `events`: what comes next, once there is something."""
        if activation() is not None:
            raise UsageError("a topic grows from moment to moment: in a workflow use `next()`")
        gateway, log = self._feed.runtime.gateway, log_id(log_key(self.name, shard))
        page = await gateway.read_stream(log, STREAM, after)
        return [self._event(each, shard) for each in page.chunks]

    def _event(self, chunk: Chunk, shard: int) -> Event[T]:
        key, payload = opened(chunk)
        return self._made(chunk.number, payload, chunk.at, key, shard)

    def _made(
        self, offset: int, payload: Payload, at: float, key: str | None, shard: int
    ) -> Event[T]:
        value = cast("T", self._feed.codec.decode(payload))
        return Event(offset, value, datetime.fromtimestamp(at, UTC), key, shard)

    async def end(self, key: str | None = None) -> int:
        """The offset of the last event, to read on behind it later. In a workflow it is recorded.

        Args:
            key: Of events with this key, which all have one shard; needed if there are several.

        Raises:
            UsageError: The topic has several shards, and there is no key.
        """
        log = log_key(self.name, self._shard_of(key))
        if activation() is None:
            return await end_of(self._feed.runtime, log)
        runtime = self._feed.runtime

        async def end() -> int:
            return await end_of(runtime, log)

        return await READ(end)

    async def next(
        self,
        match: Callable[[T], object] | None = None,
        *,
        key: str | None = None,
        after: int | None = None,
    ) -> Event[T]:
        """In workflow code: the next event, of those with a key, for which `match` is true.

        While it waits, the workflow is no more in memory than with any other wait, and looks only at events
        that have the key: give one where you can.

        Args:
            match: Looks at an event in the workflow's code. Default: any will do.
            key: Only events with this key.
            after: Behind the event with this offset; without it, from the end as it is now. To miss nothing,
                ask for `end()` before you do what is answered by an event.

        Raises:
            UsageError: This is no workflow, `after` is no offset, or the topic has several shards, and there
                is no key.
            Exception: What `match` raises.

        Example:
            ```python
            seen = await payments.end(key=order.id)
            await request_payment(order)
            async with asyncio.timeout(3600):
                paid = await payments.next(lambda p: p.total >= order.total, key=order.id, after=seen)
            ```
        """
        running = activation()
        if running is None or running.invocation.key is not None:
            raise UsageError("next() is for workflows: elsewhere read `events()`")
        if after is not None:
            checked_offset(after, "after")
        shard, codec = self._shard_of(key), self._feed.runtime.registry.codec.of(Any)
        log = log_key(self.name, shard)
        while True:
            found = await self._feed.logs.next(log, after, 0, key)
            event = self._made(found.offset, codec.encode(found.event), found.at, found.key, shard)
            if match is None or match(event.value):
                return event
            after = event.offset

    def _shard_of(self, key: str | None) -> int:
        count = self._feed.spec.shard_count
        if key is None and count > 1:
            raise UsageError(f"topic {self.name!r} has {count} shards: give the events' `key=`")
        return 0 if key is None else self._shard(key)

    # Consumer groups.

    def subscribe(
        self,
        handler: DurableFunction[[T], Any]
        | DurableFunction[[str], Any]
        | Operation[[T], Any]
        | Callable[[Any, T], Coroutine[Any, Any, Any]],
        *,
        key: Callable[[T], str] | None = None,
        where: Callable[[T], bool] | None = None,
        group: str | None = None,
        begin: Literal["new", "all"] = "new",
    ) -> ConsumerGroup:
        """Have a durable call made for each event, once, by a consumer group with a position of its own.

        - A task, or a workflow without `key`: a call with the event as its argument.
        - An operation, as in `Customer.order_placed`: with it, on the entity that `key` tells.
          Events with the same key come in order.
        - A workflow with `key`: one workflow for each key, whose argument is the key. The first event
          starts it, and each comes as a signal with the topic's name. If it has ended, the next one starts it
          anew.

        Call it where handlers are registered: wherever this code runs, the group is kept going.

        Args:
            handler: What is called.
            key: Tells which entity or workflow an event is for. Default for operations: the topic's key.
            where: Only these events. It must do nothing but look.
            group: The group's name, which its position goes by; default: the handler's name.
            begin: Where a group begins that is new: with what comes from now on, or with all that is there.

        Raises:
            UsageError: The handler cannot be called so, or the group exists.

        Example:
            ```python
            orders.subscribe(send_receipt, where=lambda order: order.total > 0)
            orders.subscribe(Customer.order_placed, key=lambda order: order.customer)
            ```
        """
        spec = spec_of(self._feed.runtime, handler)
        check_function(key, "subscribe: key")
        check_function(where, "subscribe: where")
        if key is None and spec.kind is Kind.OPERATION:
            key = self._feed.key
        check_subscriber(spec, key, self._feed.type)
        name = group or spec.name
        if not NAME.fullmatch(name) or len(name) > limit.GROUP_NAME_LENGTH_MAX:
            raise UsageError(
                f"{name!r} cannot name a group: give one with `group=`, of 1 to "
                f"{limit.GROUP_NAME_LENGTH_MAX} letters, digits, - _ and ."
            )
        if begin not in ("new", "all"):
            raise UsageError(f"begin must be 'new' or 'all', not {begin!r}")
        return subscribe(self._app, Subscription(self._feed, name, spec, key, where, begin))

    @property
    def sync(self) -> SyncTopic[T]:
        """The same for code that does not use `await`."""
        return SyncTopic(self._feed.runtime, self)


class SyncTopic(Generic[T]):
    """`Topic` without `await`."""

    __slots__ = ("_runtime", "_topic")

    def __init__(self, runtime: Runtime, topic: Topic[T]) -> None:
        self._runtime = runtime
        self._topic = topic

    def __repr__(self) -> str:
        return f"Sync{self._topic!r}"

    def publish(self, event: T, *, id: str | None = None, transaction: object = None) -> None:  # noqa: A002
        """See `Topic.publish`."""
        function, envelope = self._topic.call_of(event, id, transaction)
        function.sync.start([envelope])

    def publish_many(self, events: Iterable[T]) -> None:
        """See `Topic.publish_many`."""
        self._runtime.run(lambda: self._topic.publish_many(events))

    def events(
        self, *, after: int = 0, since: datetime | None = None, shard: int = 0
    ) -> Iterator[Event[T]]:
        """See `Topic.events`."""
        after = self._runtime.run(lambda: self._topic.begin(after, since, shard))
        while True:
            events = self._runtime.run(partial(self._topic.page, shard, after))
            yield from events
            after = events[-1].offset
