"""What a node holds as long as its session with the database lasts: the engine, and what drives it.

Everything that drives the engine happens on one event loop, in one thread. After each drive the committer
is told; what a batch releases once it is durable is carried out here. When the session is lost, the tenure is
dropped as a whole: its memory is worth nothing any more, and the next one loads the truth.
Guarantee: no-split-brain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

from msgspec import Struct

from fenbu._core import limit
from fenbu._core.effect import (
    Accepted,
    Begin,
    Effect,
    Ended,
    LoadCalls,
    LoadEntity,
    LoadFields,
    LoadOperations,
    LoadReady,
    Moved,
    ReadInbox,
    RunBody,
    StopBody,
    WakeAt,
    Warn,
    Written,
)
from fenbu._core.engine import Engine
from fenbu._core.event import BodyBeat, BodyEnded, Event, MarkDurable
from fenbu._core.handler import Registry
from fenbu._core.message import Claim, Message
from fenbu._node.alarm import Alarm
from fenbu._node.callers import Callers
from fenbu._node.chunks import ChunkWriter
from fenbu._node.clock import Clock
from fenbu._node.committer import Committer
from fenbu._node.executor import Executor
from fenbu._node.loader import Load, Loader
from fenbu._node.processes import Processes
from fenbu._node.resource import Resources
from fenbu._node.telemetry import Telemetry, log
from fenbu._node.wakeup import Wakeup
from fenbu._storage.protocol import InboxPosition, Received, Storage
from fenbu.errors import Unavailable

SLOW_DRAIN_SECONDS = 0.5

EFFECTS_PER_TURN = (64, 512)
"""Half of those that wait are carried out in a turn of the event loop, but not fewer, and not more."""

CLAIMS_MAX = 1000
"""Calls that are asked for at once."""

CLAIM_SECONDS = 10.0
"""How long a call that was asked for may take to come, before it is asked for again."""


class NodeOptions(Struct, frozen=True, kw_only=True):
    """How much a node takes on."""

    concurrency: int = 1000
    """Bodies that run at a time."""
    threads: int = 32
    """Threads for plain functions."""
    processes: int = 2
    """Processes for functions marked `cpu=True`; started when first needed."""
    process_tasks_max: int | None = None
    """After so many bodies such a process is replaced; None for no end."""
    process_megabytes_max: float | None = None
    """One that has more memory after a body is replaced; None for no end."""
    active_calls_max: int = limit.ACTIVE_CALLS_MAX
    """Calls in memory that have something to run."""
    idle_calls_max: int = limit.IDLE_CALLS_MAX
    """Calls in memory that only wait."""
    idle_seconds: float = limit.IDLE_SECONDS
    """How long a call may wait in memory."""
    entities_max: int = limit.ENTITIES_MAX
    """Entities whose state is cached."""
    field_cache_bytes: int = limit.FIELD_CACHE_BYTES
    """Of lazy fields of entities that are cached."""
    patience_seconds: float = limit.PATIENCE_SECONDS
    """How long a caller waits for a database that is away, before it gets an error."""


class Tenure:
    """See the module. `lost` is called once, with the reason, when it cannot go on."""

    def __init__(
        self,
        registry: Registry,
        storage: Storage,
        clock: Clock,
        *,
        options: NodeOptions,
        telemetry: Telemetry,
        callers: Callers,
        resources: Resources,
        lost: Callable[[BaseException], None],
    ) -> None:
        self._registry = registry
        self._storage = storage
        self._clock = clock
        self._callers = callers
        self._lost = lost
        self._concurrency = options.concurrency
        self._loop = asyncio.get_running_loop()
        self.engine = Engine(
            registry,
            active_calls_max=options.active_calls_max,
            idle_calls_max=options.idle_calls_max,
            idle_seconds=options.idle_seconds,
            entities_max=options.entities_max,
            field_cache_bytes=options.field_cache_bytes,
        )
        self.committer = Committer(self.engine, storage, telemetry, self._release)
        self.executor = Executor(
            clock,
            self._bodies_ended,
            storage.run_step,
            registry,
            resources,
            concurrency=options.concurrency,
            threads=options.threads,
            processes=lambda: Processes(
                options.processes, options.process_tasks_max, options.process_megabytes_max
            ),
        )
        self.executor.home = ChunkWriter(
            registry,
            storage,
            clock,
            engine=self.engine,
            committer=self.committer,
            runs=self.executor.runs,
        )
        self._loader = Loader(self.engine, storage, self.committer.written, self._apply)
        self._alarm = Alarm(self.engine, clock, self._tick, self._load_due)
        self._wakeup = Wakeup(
            storage,
            lambda: list(self.engine.partitions),
            receive=partial(self._receive, early=True),
            inherit=partial(self._receive, early=False),
            read_up_to=self.engine.inbox_read,
            durable_number=lambda: self.committer.durable_number,
        )
        self._effects: deque[Effect] = deque()
        self._carried_out = 0
        """How many effects so far."""
        self._releasing = False
        self._claimed: dict[str, float] = {}
        """Calls that it has asked for lately, and when."""
        self._tasks: list[asyncio.Task[None]] = []
        self.is_over = False

    # Life.

    def begin(self) -> None:
        """Drive the engine from now on."""
        for work in (
            self.committer.run(),
            self._alarm.run(),
            self._wakeup.run(),
        ):
            task = asyncio.create_task(work)
            task.add_done_callback(self._part_ended)
            self._tasks.append(task)

    @property
    def has_begun(self) -> bool:
        return bool(self._tasks)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self.is_over:
            error = task.exception() or AssertionError("a part of the node ended by itself")
            self.is_over = True
            # Whoever waits for a batch, to stop for example, need not wait for the tenure to be dropped.
            self.committer.stop(error)
            self._lost(error)

    async def take(self, numbers: Sequence[int]) -> None:
        """Run what is in these partitions; the database says that they are this node's."""
        self.executor.welcome(numbers)
        self.engine.will_take(numbers)
        # Side by side, because whoever calls there waits meanwhile.
        (last_sequences, next_due), _ = await asyncio.gather(self._revive(numbers), self._sent())
        # From here on nothing may fail: what the engine has taken is not looked at again.
        # Before any call of this process: those in the inbox were accepted earlier.
        await self._wakeup.adopt(numbers, lambda: self.engine.take(numbers, last_sequences))
        self.engine.caught_up(numbers)
        if next_due is not None:
            self._alarm.wake_at(next_due)
        # What this node has just sent there, when they were others', is in the inbox by then.
        self.committer.durable().add_done_callback(self._adopted)

    async def _revive(self, numbers: Sequence[int]) -> tuple[dict[int, int], float | None]:
        """What waits there for a handler that is here can run: it gets a place, and may have an instant.

        So both are asked for after that: the last sequence of each partition, and when something is due.
        """
        await self._storage.revive(self._registry.names(), numbers)
        last_sequences = await self._storage.last_sequences(numbers)
        return last_sequences, await self._storage.next_due(numbers)

    async def _sent(self) -> None:
        """What this node has sent so far is in the inbox, and comes first where it takes partitions."""
        if self.has_begun:
            await self.committer.written()

    def _adopted(self, durable: asyncio.Future[None]) -> None:
        if not durable.cancelled() and durable.exception() is None:
            self._wakeup.read()

    async def give_up(
        self,
        numbers: Sequence[int],
        seconds: float,
        *,
        resume: bool = True,
        released: Callable[[], None] = lambda: None,
    ) -> bool:
        """Hand partitions back in good order. False if something still runs there: then they stay.

        Args:
            numbers: The partitions.
            seconds: How long to wait until nothing runs there.
            resume: If they stay, start again what was held back meanwhile.
            released: Told as soon as others can take them.
        """
        numbers = [each for each in numbers if each in self.engine.partitions]
        self.executor.hold(numbers)
        if not await self.executor.quiet(numbers, seconds):
            if resume:
                self.executor.resume(numbers)
            return False
        self._let_go(numbers)
        # While a batch may still be tried again that has rows of them, nobody else may have them.
        await self.committer.written()
        await self._storage.release(numbers)
        released()
        waiting = self._callers.moved()
        # Some were made since, and are in a batch that is open or on its way.
        await self.committer.written()
        self._callers.left(numbers)
        self._callers.watch_all(waiting)
        return True

    def _let_go(self, numbers: Iterable[int]) -> None:
        self.engine.release(numbers, self._clock.now())
        self.executor.forget(numbers)

    def next_due(self) -> float | None:
        """When a timer or a call that sleeps will want to be woken, as far as is known."""
        return self._alarm.next_due()

    @property
    def load(self) -> int:
        """How many calls wait here for a free place; below 0, how many places are free."""
        backlog = sum(each.backlog for each in self.engine.partitions.values())
        bodies = self.executor.running_count + self.executor.waiting_count
        return bodies + backlog - self._concurrency

    def give(self, targets: Iterable[int]) -> int:
        """Let calls that wait here for a free place go on in these partitions, one in each; how many do."""
        partitions = list(targets)
        now, given = self._clock.now(), list[str]()
        place = self.engine.place
        waiting = self.executor.last_waiting(
            len(partitions), lambda partition, id_: partition == place(None, None, id_)
        )
        for (partition, id_), commands in waiting.items():
            if self.engine.give(partition, id_, commands, partitions[len(given)], now):
                self.executor.withdraw(id_, commands)
                given.append(id_)
        if given:
            self.committer.kick()
        return len(given)

    async def claim(self) -> None:
        """Ask for calls that wait elsewhere for a handler that is here."""
        here, now = list(self.engine.partitions), self._clock.now()
        if not here:
            return
        self._claimed = {id_: at for id_, at in self._claimed.items() if at > now - CLAIM_SECONDS}
        found = await self._storage.find_unhandled(
            self._registry.versions(), here, limit=CLAIMS_MAX
        )
        # Each has been asked for once, and is about to come.
        claims = [
            Claim(partition, id_, here[number % len(here)])
            for number, (id_, partition) in enumerate(found)
            if id_ not in self._claimed
        ]
        if claims:
            await self._storage.enqueue(claims)
            self._claimed.update((each.id, now) for each in claims)

    async def all_told(self) -> bool:
        """Wait until the open batch is on disk and what it tells is told; false if it never will be."""
        with suppress(Exception):  # Whatever it is, the tenure is over then.
            await self.committer.written()
        until = self._carried_out + len(self._effects)
        while self._carried_out < until and not self.is_over:  # noqa: ASYNC110  (some in each turn)
            await asyncio.sleep(0)
        return not self.is_over

    async def stop(self, drain_seconds: float) -> None:
        """Finish what runs, at most for so long, and hand everything back.

        Raises:
            Unavailable: The last batch could not be written; the next owner recovers.
        """
        cut = await self.executor.drain(drain_seconds)
        if cut:
            log.warning("%d bodies were still running and will run again at the next start", cut)
        try:
            numbers = list(self.engine.partitions)
            self._let_go(numbers)
            await self.committer.durable()
            while self._effects:
                self._release_some()
            self._callers.left(numbers)
        finally:
            await self.drop()

    async def drop(self, error: BaseException | None = None) -> None:
        """Let go of everything, written or not."""
        self.is_over = True
        self._alarm.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._wakeup.stop()
        await self._loader.stop()
        # Somebody may have asked for something that no batch has taken any more.
        self.committer.stop(error or Unavailable("the node has stopped before this was stored"))
        if error is not None:
            self.engine.abandon()
            await self.executor.drain(0.0)

    # Driving the engine.

    def post(self, message: Message) -> None:
        """A client of this process sends a message."""
        self.engine.post(message, self._clock.now())
        self.committer.kick()

    def has(self, id_: str, partition: int) -> bool:
        """Whether a call is in memory here; `partition` is -1 if it is not known."""
        owner = self.engine.partitions.get(partition)
        if owner is not None:
            return id_ in owner.residents
        return partition < 0 and any(
            id_ in each.residents for each in self.engine.partitions.values()
        )

    @property
    def inbox_position(self) -> InboxPosition | None:
        """Up to where the inbox has been read."""
        return self._wakeup.position

    def read_inbox(self) -> None:
        """There may be something in it."""
        self._wakeup.read()

    async def heard(self) -> None:
        """Wait until what is in the inbox now has been received: what is sent then comes after it."""
        if not self.is_over:
            await self._wakeup.heard()

    def _apply(self, event: Event) -> None:
        began = self._clock.now()
        self.engine.apply(event, began)
        self.committer.kick()
        self._warn_if_slow(began, self._clock.now(), type(event).__name__)

    def _bodies_ended(self, beats: list[BodyBeat], events: list[BodyEnded]) -> None:
        now, body_ended = self._clock.now, self.engine.body_ended
        began = now()
        for beat in beats:
            self.engine.apply(beat, began)
        with self.engine.stage:
            for event in events:
                body_ended(event, began)
                after = now()
                if after - began > SLOW_DRAIN_SECONDS:
                    self._warn_if_slow(began, after, event.id)
                began = after
        self.committer.kick()

    def _warn_if_slow(self, began: float, ended: float, after: str) -> None:
        if ended - began > SLOW_DRAIN_SECONDS:
            log.warning(
                "workflow or entity code held the event loop for %.0f ms after %s; move the work into a "
                "step", (ended - began) * 1000, after,
            )  # fmt: skip

    def _receive(self, found: list[Received], *, early: bool) -> None:
        engine, listen, now = self.engine, self._callers.listen, self._clock.now()
        with engine.stage:
            for each in found:
                engine.receive(each.message, now, each.number, early=early)
                listen(each.message)
        if found:
            bodies, engine.early_bodies = engine.early_bodies, []
            self.executor.run(bodies)
            # In the turn after theirs: what has ended at once goes into the same batch.
            self._loop.call_soon(self.committer.kick)

    def _tick(self) -> None:
        self.engine.tick(self._clock.now())
        self.committer.kick()

    async def _load_due(self) -> float | None:
        numbers = list(self.engine.partitions)
        while await self._loader.due(numbers, self._clock.now()):
            # What was loaded must be marked before it is asked for again.
            await self.committer.durable()
        await self.committer.durable()
        return await self._storage.next_due(numbers)

    # What durable batches release.

    def _release(self, effects: list[Effect]) -> None:
        """Do them in order, some in each turn of the event loop.

        So the first bodies of a batch have ended, and their outcomes are being written, while the last ones
        start: whoever writes and this thread work side by side, and calls that came together part.
        """
        self._effects.extend(effects)
        if not self._releasing:
            self._release_some()

    def _release_some(self) -> None:
        effects = self._effects
        if self.is_over:
            # Those who wait look for themselves; nothing may begin any more.
            effects.clear()
        least, most = EFFECTS_PER_TURN
        count = min(len(effects), most, max(least, len(effects) // 2))
        some = [effects.popleft() for _ in range(count)]
        self._releasing = True
        self._carry_out(some)
        self._carried_out += count
        self._releasing = bool(effects)
        if effects:
            # After the bodies that were just started, and so after the commit that they bring about.
            self._loop.call_soon(self._release_some)

    def _carry_out(self, effects: list[Effect]) -> None:
        loads: list[Load] = []
        bodies: list[RunBody] = []
        tell = self._callers.tell
        for effect in effects:
            kind = type(effect)
            if kind is RunBody:
                bodies.append(effect)  # type: ignore[arg-type]
            elif kind is Ended:
                tell(effect)  # type: ignore[arg-type]
            else:
                match effect:
                    case StopBody():
                        self.executor.run(bodies)
                        bodies.clear()
                        self.executor.stop_body((effect.id, effect.command))
                    case Written():
                        self._callers.streams.news(effect.id)
                    case Begin():
                        self._apply(MarkDurable(effect.partition, effect.id))
                    case Accepted():
                        self._callers.accepted(effect.id, existed=effect.existed)
                    case Moved():
                        self._callers.watch(effect.id)
                    case WakeAt():
                        self._alarm.wake_at(effect.at)
                    case ReadInbox():
                        self._wakeup.read()
                    case Warn():
                        log.warning("%s", effect.text)
                    case LoadCalls() | LoadEntity() | LoadFields() | LoadOperations() | LoadReady():
                        loads.append(effect)
                    case _:
                        raise AssertionError(effect)
        if bodies:
            self.executor.run(bodies)
        if loads:
            self._loader.load(loads)
        self._alarm.arm()
