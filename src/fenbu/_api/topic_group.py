"""Consumer groups: each gets every event of a topic once, from a position of its own.

A group is a workflow for each shard, which reads what comes, starts a call for each event in its own commit,
and continues as new. So that a call is started for an event, once, and where the group goes on, is one
commit; that the call is made then is what fenbu does anyway.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fenbu._api.context import activation, current_id, required_activation
from fenbu._api.entity import Operation
from fenbu._api.function import DurableFunction
from fenbu._api.signal import wait_signal, wait_until
from fenbu._api.stream import checked_offset
from fenbu._api.topic_log import (
    NOTICE,
    PAGES_MAX,
    READ,
    Feed,
    Notice,
    Registering,
    instant_of,
    opened,
    page_of,
    seen_with,
)
from fenbu._core import limit
from fenbu._core.codec import Codec
from fenbu._core.form import may_fit
from fenbu._core.handler import HandlerSpec, Standing
from fenbu._core.ids import is_valid
from fenbu._core.message import Signal
from fenbu._core.model import Kind, Loaded
from fenbu._core.topic import log_key
from fenbu.errors import CallNotFound, EncodingError, UsageError

T = TypeVar("T")

PAGE_EVENTS_MAX: Final = 1000

ANY: Final = Codec().of(Any)


class Position(Struct, frozen=True, omit_defaults=True):
    """Where a group is in a shard."""

    after: int | None = None
    """The offset of the last event that was delivered or passed over; None before it has begun."""
    seen: int = 0
    """How many events the log had when it was read up to there, as far as that is known."""
    is_paused: bool = False


class Delivery(Struct, Generic[T], frozen=True, omit_defaults=True):
    """An event for a group, and the key by which its handler is chosen."""

    event: T
    key: str | None = None


class Page(Struct, Generic[T], frozen=True, omit_defaults=True):
    """What a group has to do with the next events."""

    position: Position
    """Behind them."""
    deliveries: list[Delivery[T]] = []
    more: bool = False


class GroupPosition(Struct, frozen=True):
    """Where a consumer group is in one shard of its topic.

    Attributes:
        shard: The shard's number.
        offset: Of the last event that was delivered or passed over; None before the group has begun.
        behind: How many events are still to come, at most; None before the group has begun.
        is_paused: Nothing is delivered until it is resumed.
    """

    shard: int
    offset: int | None
    behind: int | None
    is_paused: bool


class Subscription(Struct, frozen=True):
    """What a group does with events."""

    feed: Feed
    group: str
    spec: HandlerSpec
    """Of the task, workflow or operation that gets them."""
    key: Callable[[Any], str] | None
    where: Callable[[Any], bool] | None
    begin: Literal["new", "all"]

    @property
    def is_keyed(self) -> bool:
        """Each key has an entity or workflow of its own."""
        return self.key is not None

    def delivery(self, event: Any) -> Delivery[Any] | None:
        """What is to be done with an event; None if it is passed over.

        Raises:
            Exception: What the user's functions raise, or the event does not fit the handler.
        """
        try:
            if self.where is not None and not self.where(event):
                return None
        except Exception as error:
            raise self._blamed("where", error) from error
        try:
            key = self.feed.key_of(event, self.key) if self.is_keyed else None
        except Exception as error:
            raise self._blamed("key", error) from error
        is_signal = self.is_keyed and self.spec.kind is Kind.WORKFLOW
        self.spec.signature.check((key if is_signal else event,), {})
        return Delivery(event, key)

    def _blamed(self, what: str, error: Exception) -> RuntimeError:
        """Says whose function has failed. Whatever that raised, the event is tried again."""
        *_, last = traceback.extract_tb(error.__traceback__)
        return RuntimeError(
            f"`{what}` of group {self.group!r} of topic {self.feed.spec.name!r}: "
            f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
        )

    async def deliver(self, found: Delivery[Any]) -> None:
        """Start the call for an event."""
        function: DurableFunction[..., Any] = DurableFunction(
            self.feed.runtime, self.spec, found.key if self.spec.kind is Kind.OPERATION else None
        )
        if self.spec.kind is Kind.WORKFLOW and found.key is not None:
            keyed = function.options(id=workflow_id(self.group, found.key), if_exists="after_end")
            await keyed.and_signal(self.feed.spec.name, found.event).start(found.key)
        else:
            await function.start(found.event)


def workflow_id(group: str, key: str) -> str:
    """The id of the workflow that gets the events with a key."""
    id_ = f"{group}:{key}"
    return id_ if is_valid(id_) else f"{group}:{sha256(key.encode()).hexdigest()[:32]}"


def consumer_id(topic: str, group: str, shard: int) -> str:
    """The id of a group's own workflow."""
    return f"{topic}:{group}:{shard}"


class Consumer(Struct, frozen=True):
    """A group in a shard, as its own workflow stands in the database."""

    group: str
    shard: int
    id: str
    partition: int
    """To which all that it is told is addressed."""
    position: Position

    def told(self, notice: Notice) -> Signal:
        """What tells it something."""
        payload = msgspec.json.encode(notice).decode()
        return Signal(self.partition, self.id, NOTICE, payload)


class Calls(Protocol):
    """What is asked of a database."""

    async def load_calls(self, ids: Sequence[str]) -> list[Loaded]:
        """Calls with their journals."""
        ...


async def find_consumers(
    database: Calls, topic: str, groups: Iterable[str], shards: Sequence[int], partition_count: int
) -> list[Consumer]:
    """Those of these groups that there are in these shards, by group and shard; their code is not needed."""
    wanted = {
        consumer_id(topic, group, shard): (group, shard) for group in groups for shard in shards
    }
    found: list[Consumer] = []
    for loaded in await database.load_calls(list(wanted)):
        call = loaded.invocation
        position = msgspec.convert(ANY.decode(call.args)["position"], Position)
        home = call.home(partition_count)
        found.append(Consumer(*wanted[call.id], call.id, home, position))
    return sorted(found, key=lambda each: (each.group, each.shard))


def subscribe(app: Registering, subscription: Subscription) -> ConsumerGroup:
    """Register the workflow of a group, and have it started by every node."""
    feed = subscription.feed
    runtime, topic = feed.runtime, feed.spec.name
    read = _reader(subscription)

    @app.workflow(name=f"{topic}:{subscription.group}", retention=0)
    async def consume(shard: int, position: Position) -> None:
        notices: list[Notice] = []

        async def listen() -> None:
            while True:
                notices.append(await wait_signal(NOTICE, Notice))

        listening = asyncio.create_task(listen())
        if position.after is None:
            # What is new is so from the moment on at which the first node with the group began.
            began = required_activation("consume()").invocation.created_at
            after = 0 if subscription.begin == "all" else await READ(feed.before, shard, began)
            position = replace(position, after=after)
        elif position.is_paused:
            await wait_until(lambda: notices)
        else:
            try:
                page: Page[Any] = await READ(read, shard, position)
            except EncodingError:
                # The type of the events has changed since they were read: read them again.
                page = Page(position, more=True)
            for each in page.deliveries:
                await subscription.deliver(each)
            # Where it is stands in its arguments for others to see: it does not wait before they are right.
            has_come_on, position = page.position.after != position.after, page.position
            if not (has_come_on or page.more or notices):
                count = await feed.log(shard).park(current_id(), position.seen, None)
                if count == position.seen:
                    await wait_until(lambda: notices)
                # More have come meanwhile, or so many came that are forgotten.
                position = replace(position, seen=count)
        for notice in notices:
            position = await _changed(feed, shard, position, notice)
        listening.cancel()
        consume.continue_as_new(shard, position)

    spec = runtime.registry.latest(consume.name)
    if spec is None:
        raise AssertionError(consume.name)
    for shard in range(feed.spec.shard_count):
        args = consume.payload((shard, Position()), {})
        standing = Standing(consumer_id(topic, subscription.group, shard), spec, args)
        runtime.registry.standing.append(standing)
    return ConsumerGroup(feed, subscription.group, consume)


def _reader(
    subscription: Subscription,
) -> Callable[[int, Position], Coroutine[Any, Any, Page[Any]]]:
    """The step that reads what is next for a group."""
    feed = subscription.feed

    async def read(shard: int, position: Position) -> Page[Any]:
        log, after, seen = log_key(feed.spec.name, shard), position.after or 0, position.seen
        deliveries: list[Delivery[Any]] = []
        size = 0
        for _ in range(PAGES_MAX):
            chunks, more = await page_of(feed.runtime, log, after)
            for each in chunks:
                _, payload = opened(each)
                found = subscription.delivery(feed.codec.decode(payload))
                after, seen = each.number, seen_with(each)
                if found is not None:
                    deliveries.append(found)
                    size += len(payload)
                if len(deliveries) >= PAGE_EVENTS_MAX or size >= limit.EVENT_BYTES_MAX:
                    return Page(Position(after, seen), deliveries, more=True)
            if not more:
                return Page(Position(after, seen), deliveries)
        return Page(Position(after, seen), deliveries, more=True)

    # The journal has the events as what they are.
    read.__annotations__ = {"shard": int, "position": Position, "return": Page[feed.type]}
    return read


async def _changed(feed: Feed, shard: int, position: Position, notice: Notice) -> Position:
    """Where a group goes on that was told something."""
    match notice.what:
        case "news":
            return position
        case "pause":
            return replace(position, is_paused=True)
        case "resume":
            return replace(position, is_paused=False)
        case "seek" if notice.since is not None:
            after = await READ(feed.before, shard, notice.since)
            return replace(position, after=after, seen=0)
        case "seek":
            # Beyond the end are events that are still to come.
            after = notice.after or 0
            if after > 0:
                after = min(after, await READ(feed.before, shard, limit.END_OF_TIME))
            return replace(position, after=after, seen=0)


class ConsumerGroup:
    """A consumer group of a topic, to steer it; made by `Topic.subscribe`.

    Attributes:
        name: The group's name.
    """

    __slots__ = ("_consume", "_feed", "name")

    def __init__(
        self, feed: Feed, name: str, consume: DurableFunction[[int, Position], None]
    ) -> None:
        self._feed = feed
        self._consume = consume
        self.name = name

    def __repr__(self) -> str:
        return f"ConsumerGroup({self._feed.spec.name!r}, {self.name!r})"

    async def pause(self) -> None:
        """Deliver nothing more until it is resumed; what has been delivered goes on.

        Raises:
            CallNotFound: No node has had the group's code yet.
        """
        await self._tell(Notice("pause"))

    async def resume(self) -> None:
        """Deliver again, from where it was.

        Raises:
            CallNotFound: No node has had the group's code yet.
        """
        await self._tell(Notice("resume"))

    async def seek(
        self,
        *,
        offset: int | None = None,
        since: datetime | None = None,
        shard: int | None = None,
    ) -> None:
        """Go on elsewhere: events are delivered again, or passed over. Without arguments: from the end.

        Args:
            offset: Behind the event with this offset; 0 is the beginning. One that is not there yet means the
                end as it is when the group gets there, so that nothing is passed over which comes later.
            since: With the first event at or after this instant, which has a time zone.
            shard: Only in this shard; an offset belongs to one, unless it is 0.

        Raises:
            UsageError: The arguments make no sense.
            CallNotFound: No node has had the group's code yet.
        """
        if since is not None and offset is not None:
            raise UsageError("seek: give an offset or an instant, not both")
        if offset is not None:
            checked_offset(offset, "seek: offset")
        if offset and shard is None and self._feed.spec.shard_count > 1:
            raise UsageError("seek: an offset is one of a shard: `seek(offset=…, shard=…)`")
        if shard is not None and not 0 <= shard < self._feed.spec.shard_count:
            raise UsageError(f"seek: there is no shard {shard}")
        notice = Notice("seek", offset, None if since is None else instant_of(since))
        if offset is None and since is None:
            notice = Notice("seek", None, limit.END_OF_TIME)
        await self._tell(notice, shard)

    async def positions(self) -> list[GroupPosition]:
        """Where it is in each shard."""
        shards, found = range(self._feed.spec.shard_count), list[GroupPosition]()
        known = {each.shard: each.position for each in await self._consumers(shards)}
        for shard in shards:
            position, behind = known.get(shard, Position()), None
            if position.after is not None:
                behind = max(0, await self._feed.log(shard).length() - position.seen)
            found.append(GroupPosition(shard, position.after, behind, position.is_paused))
        return found

    async def _consumers(self, shards: Sequence[int]) -> list[Consumer]:
        gateway, name = self._feed.runtime.gateway, self._feed.spec.name
        count = gateway.registry.partition_count
        return await find_consumers(gateway.storage, name, [self.name], shards, count)

    async def _tell(self, notice: Notice, shard: int | None = None) -> None:
        topic = self._feed.spec
        shards = range(topic.shard_count) if shard is None else (shard,)
        if activation() is not None:
            for each in shards:  # A durable command, which looks at nothing.
                id_ = consumer_id(topic.name, self.name, each)
                await self._consume.handle(id_).signal(NOTICE, notice)
            return
        found = await self._consumers(shards)
        if len(found) < len(shards):
            raise CallNotFound(
                f"group {self.name!r} of topic {topic.name!r} has not begun: no node has had its code yet"
            )
        for each in found:
            # One by one: where the group runs in this process it has heard of it when this returns.
            await self._feed.runtime.gateway.send(each.told(notice))


def spec_of(runtime: Any, handler: Any) -> HandlerSpec:
    """The handler that a subscriber is.

    Raises:
        UsageError: It is none of this app.
    """
    found: HandlerSpec | None = None
    if isinstance(handler, DurableFunction):
        found = runtime.registry.latest(handler.name)
    else:
        function = handler.function if isinstance(handler, Operation) else handler
        found = runtime.registry.of_function(function)
    if found is None:
        raise UsageError(
            f"{handler!r} cannot subscribe: it is no task, workflow or operation of this app. Decorate it, "
            "or its class, before"
        )
    return found


def check_function(function: object, what: str) -> None:
    """A function that is asked about events, or None.

    Raises:
        UsageError: It is none.
    """
    if function is not None and not callable(function):
        raise UsageError(f"{what} must be a function of an event, not {function!r}")
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"{what} must be a plain function, not an `async def`")


def check_subscriber(spec: HandlerSpec, key: Callable[[Any], str] | None, type_: Any) -> None:
    """Whether it can be called with an event.

    Raises:
        UsageError: It cannot.
    """
    if spec.kind is Kind.OPERATION and key is None:
        raise UsageError(
            f"{spec.name} is an operation: say which entity an event is for, with `key=` here or at the topic"
        )
    if spec.kind is Kind.TASK and key is not None:
        raise UsageError(f"{spec.name} is a task, and has no key")
    given = (None,) * (2 if spec.kind is Kind.OPERATION else 1)
    try:
        inspect.signature(spec.function).bind(*given)
    except TypeError as error:
        what = "a key" if spec.kind is Kind.WORKFLOW and key is not None else "an event"
        raise UsageError(f"{spec.name} cannot be called with {what}: {error}") from None
    is_signal = spec.kind is Kind.WORKFLOW and key is not None
    first = list(inspect.signature(spec.function).parameters.values())[len(given) - 1]
    try:
        wanted = spec.signature.type_of(first.name)
    except UsageError:
        return  # It names what is defined later.
    given_type = str if is_signal else type_
    if first.kind is not first.VAR_POSITIONAL and not may_fit(given_type, wanted):
        name, takes = inspect.formatannotation(given_type), inspect.formatannotation(wanted)
        raise UsageError(
            f"{spec.name}({first.name}) takes {takes}, which {'a key' if is_signal else 'an event'}, "
            f"{name}, cannot be"
        )
