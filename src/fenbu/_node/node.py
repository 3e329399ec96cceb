"""The node: puts engine, storage, committer, executor and the rest together, and carries their life.

Everything that drives the engine happens on one event loop, in one thread. After each drive the committer
is told; what the batch releases once it is durable comes back here.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from fenbu._core import limit
from fenbu._core.effect import (
    Accepted,
    Begin,
    Effect,
    Ended,
    LoadCalls,
    LoadEntity,
    LoadOperations,
    LoadReady,
    ReadInbox,
    RunBody,
    StopBody,
    WakeAt,
)
from fenbu._core.engine import Engine
from fenbu._core.event import BodyEnded, Event, MarkDurable
from fenbu._core.handler import Registry
from fenbu._core.message import Call, Cancel, Message, Retry, Signal
from fenbu._core.model import Outcome, Status
from fenbu._node import collector
from fenbu._node.alarm import Alarm
from fenbu._node.clock import Clock, SystemClock
from fenbu._node.committer import Committer
from fenbu._node.executor import Executor
from fenbu._node.gateway import read_status
from fenbu._node.loader import Load, Loader
from fenbu._node.retention import delete_finished
from fenbu._node.telemetry import Telemetry, log
from fenbu._node.wakeup import Wakeup
from fenbu._storage.protocol import Storage
from fenbu.errors import CallNotFound, FenbuError, OwnershipLost, Unavailable

SLOW_DRAIN_SECONDS = 0.5

EFFECTS_PER_TURN = 512

RECENT_OUTCOMES_MAX = 5_000


class NodeOptions(Struct, frozen=True, kw_only=True):
    """How much a node takes on."""

    concurrency: int = 1000
    """Bodies that run at a time."""
    threads: int = 32
    """Threads for plain functions."""
    processes: int = 2
    """Processes for functions marked `cpu=True`; started when first needed."""
    active_calls_max: int = limit.ACTIVE_CALLS_MAX
    """Calls in memory that have something to run."""
    idle_calls_max: int = limit.IDLE_CALLS_MAX
    """Calls in memory that only wait."""
    idle_seconds: float = limit.IDLE_SECONDS
    """How long a call may wait in memory."""
    entities_max: int = limit.ENTITIES_MAX
    """Entities whose state is cached."""


class Node:
    """A process that runs calls. It is also the gateway of the clients in its process."""

    def __init__(
        self,
        registry: Registry,
        storage: Storage,
        *,
        clock: Clock | None = None,
        options: NodeOptions | None = None,
    ) -> None:
        self.registry = registry
        self.storage = storage
        self._loop = asyncio.get_running_loop()
        self.clock: Clock = clock or SystemClock()
        self.telemetry = Telemetry()
        options = options or NodeOptions()
        self.engine = Engine(
            registry,
            active_calls_max=options.active_calls_max,
            idle_calls_max=options.idle_calls_max,
            idle_seconds=options.idle_seconds,
            entities_max=options.entities_max,
        )
        self.committer = Committer(self.engine, storage, self.telemetry, self._release)
        self.executor = Executor(
            self.clock,
            self._bodies_ended,
            concurrency=options.concurrency,
            threads=options.threads,
            processes=options.processes,
        )
        self._loader = Loader(
            self.engine, storage, lambda: self.committer.durable_number, self._apply
        )
        self._alarm = Alarm(self.engine, self.clock, self._tick, self._load_due)
        self._wakeup = Wakeup(
            storage,
            lambda: list(self.engine.partitions),
            self._receive,
            self.engine.inbox_read,
            lambda: self.committer.durable_number,
        )
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._recent: dict[str, Outcome] = {}
        self._less_recent: dict[str, Outcome] = {}
        """The last outcomes, which are what is asked for: `start` and then `result`."""
        self._unknown: dict[str, int] = {}
        """Calls that are waited for, are not in memory and are to be looked up, with their partitions."""
        self._looking: asyncio.Task[None] | None = None
        self._accepting: dict[str, list[asyncio.Future[None]]] = {}
        self._effects: deque[Effect] = deque()
        self._releasing = False
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self.stopped: asyncio.Future[None] | None = None
        """Ends when the node does; with its error if it was not asked to stop."""

    # Life.

    async def start(self) -> None:
        """Become the owner of the database's partitions and begin to run what is in them.

        Raises:
            StorageError: The database cannot be used, or another node owns it; the message says why.
        """
        numbers = await self._own_all()
        await self.storage.revive(self.registry.names(), numbers)
        self.engine.take(numbers, await self.storage.last_sequences(numbers))
        # Before any call of this process: those in the inbox were accepted earlier.
        await self._wakeup.read_all()
        next_due = await self.storage.next_due(list(self.engine.partitions))
        self.stopped = self._loop.create_future()
        collector.slow_down()
        # Its error has been logged, and reaches whoever waits for it; nobody has to.
        self.stopped.add_done_callback(lambda future: future.cancelled() or future.exception())
        for work in (
            self.committer.run(),
            self._alarm.run(),
            self._wakeup.run(),
            self._wakeup.watch(),
            delete_finished(self.registry, self.storage, self.clock),
        ):
            task = asyncio.create_task(work)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        if next_due is not None:
            self._alarm.wake_at(next_due)
        self.committer.kick()

    async def _own_all(self) -> list[int]:
        await self.storage.join(f"{platform.node()}:{os.getpid()}", self.clock.now())
        wanted = list(range(self.registry.partition_count))
        numbers = await self.storage.take(wanted)
        if numbers != wanted:
            others = ", ".join(str(each) for each in await self.storage.nodes() if each.partitions)
            raise OwnershipLost(
                f"{len(wanted) - len(numbers)} of {len(wanted)} partitions belong to other nodes ({others}): "
                "stop them first, or use this process as a client only"
            )
        return numbers

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part of the node fell over: without it the node cannot keep its promises."""
        if task.cancelled() or self.stopped is None or self.stopped.done():
            return
        error = task.exception() or FenbuError("a part of the node ended by itself")
        log.critical("the node stops: %s", error, exc_info=error)
        for each in self._tasks:
            each.cancel()
        self._give_up(error)
        self.stopped.set_exception(error)

    def _give_up(self, error: BaseException) -> None:
        self.committer.stop(error)
        for futures in (*self._waiting.values(), *self._accepting.values()):
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        self._waiting.clear()
        self._accepting.clear()

    async def stop(self, drain_seconds: float = limit.DRAIN_SECONDS) -> None:
        """Finish what runs, at most for so long, hand everything back and release the database."""
        if self.stopped is None or self.stopped.done():
            await self._close()
            return
        cut = await self.executor.drain(drain_seconds)
        if cut:
            log.warning("%d bodies were still running and will run again at the next start", cut)
        self.engine.stop(self.clock.now())
        durable = self.committer.durable()
        try:
            await durable
        except Unavailable as error:
            log.warning("stopping without a last write: %s; the next start recovers", error)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._give_up(Unavailable("the node has stopped; the call goes on when it starts again"))
        if not self.stopped.done():
            self.stopped.set_result(None)
        await self._close()

    async def _close(self) -> None:
        self._alarm.stop()
        await self._loader.stop()
        await self.storage.close()
        if self.stopped is not None and not self._closed:
            self._closed = True
            collector.restore()

    # Driving the engine.

    def _apply(self, event: Event) -> None:
        began = self.clock.now()
        self.engine.apply(event, began)
        self.committer.kick()
        self._warn_if_slow(began, self.clock.now(), type(event).__name__)

    def _bodies_ended(self, events: list[BodyEnded]) -> None:
        now, body_ended = self.clock.now, self.engine.body_ended
        began = now()
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

    def _receive(self, message: Message, number: int) -> None:
        self.engine.receive(message, self.clock.now(), number)
        self.committer.kick()

    def _tick(self) -> None:
        self.engine.tick(self.clock.now())
        self.committer.kick()

    async def _load_due(self) -> float | None:
        numbers = list(self.engine.partitions)
        while await self._loader.due(numbers, self.clock.now()):
            # What was loaded must be marked before it is asked for again.
            await self.committer.durable()
        await self.committer.durable()
        return await self.storage.next_due(numbers)

    # What durable batches release.

    def _release(self, effects: list[Effect]) -> None:
        """Do them in order, a bounded number in each turn of the event loop.

        So the first bodies of a large batch have ended, and their outcomes are being written, while the
        last ones start: the writer's thread and this one work side by side.
        """
        self._effects.extend(effects)
        if not self._releasing:
            self._release_some()

    def _release_some(self) -> None:
        effects = self._effects
        some = [effects.popleft() for _ in range(min(len(effects), EFFECTS_PER_TURN))]
        self._releasing = True
        self._carry_out(some)
        self._releasing = bool(effects)
        if effects:
            # After the bodies that were just started, and so after the commit that they bring about.
            self._loop.call_soon(self._release_some)

    def _carry_out(self, effects: list[Effect]) -> None:
        loads: list[Load] = []
        bodies: list[RunBody] = []
        for effect in effects:
            kind = type(effect)
            if kind is RunBody:
                bodies.append(effect)  # type: ignore[arg-type]
            elif kind is Ended:
                self._tell(effect)  # type: ignore[arg-type]
            else:
                match effect:
                    case StopBody():
                        self.executor.run(bodies)
                        bodies.clear()
                        self.executor.stop_body((effect.id, effect.command))
                    case Begin():
                        self._apply(MarkDurable(effect.partition, effect.id))
                    case Accepted():
                        for future in self._accepting.pop(effect.id, ()):
                            if not future.done():
                                future.set_result(None)
                    case WakeAt():
                        self._alarm.wake_at(effect.at)
                    case ReadInbox():
                        self._wakeup.read()
                    case LoadCalls() | LoadEntity() | LoadOperations() | LoadReady():
                        loads.append(effect)
                    case _:
                        raise AssertionError(effect)
        if bodies:
            self.executor.run(bodies)
        if loads:
            self._loader.load(loads)
        self._alarm.arm()

    def _tell(self, effect: Ended) -> None:
        if effect.outcome.status is Status.COMPLETED:
            # Any other may be tried again, and end differently.
            if len(self._recent) >= RECENT_OUTCOMES_MAX:
                self._less_recent, self._recent = self._recent, {}
            self._recent[effect.id] = effect.outcome
        futures = self._waiting.pop(effect.id, None)
        if futures is not None:
            for future in futures:
                if not future.done():
                    future.set_result(effect.outcome)

    # The gateway of clients in this process.

    def _check(self) -> None:
        if self.committer.trouble is not None:
            raise Unavailable(
                f"the database does not accept writes: {self.committer.trouble}. Nothing was accepted; "
                "try again when it does"
            )
        if self.stopped is None or self.stopped.done():
            raise Unavailable("the node is not running")

    async def start_calls(self, calls: Sequence[Call]) -> None:
        """Make the calls durable, all or none."""
        self._check()
        now = self.clock.now()
        accepting: list[asyncio.Future[None]] = []
        for call in calls:
            if not call.fresh:
                future: asyncio.Future[None] = self._loop.create_future()
                self._accepting.setdefault(call.invocation.id, []).append(future)
                accepting.append(future)
            self.engine.receive(call, now)
        durable = self.committer.durable()
        await asyncio.shield(durable)
        if accepting:
            await asyncio.gather(*accepting)

    async def call(self, call: Call) -> Outcome:
        """Make one call durable and wait for its outcome."""
        self._check()
        id_ = call.invocation.id
        if not call.fresh:
            await self.start_calls([call])
            return await self.outcome(id_, call.invocation.partition)
        future = self._wait(id_)
        self.engine.receive(call, self.clock.now())
        self.committer.kick()
        return await future

    def _wait(self, id_: str) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = self._loop.create_future()
        futures = self._waiting.get(id_)
        if futures is None:
            self._waiting[id_] = [future]
        else:
            futures.append(future)
        return future

    async def outcome(self, id: str, partition: int) -> Outcome:  # noqa: A002
        """Wait for the outcome of a call."""
        self._check()
        recent = self._recent.get(id) or self._less_recent.get(id)
        if recent is not None:
            return recent
        future = self._wait(id)
        if not self._in_memory(id, partition):
            self._unknown[id] = partition
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_up())
        return await future

    async def _look_up(self) -> None:
        """Ask the database for calls that are not in memory, for all who came meanwhile at once."""
        unknown: dict[str, int] = {}
        try:
            while self._unknown:
                # One may have ended in a batch that is being written: then that tells.
                await self.committer.durable()
                unknown, self._unknown = self._unknown, {}
                asked = [each for each in unknown if each in self._waiting]
                found = await self.storage.outcomes(asked) if asked else {}
                for id_ in asked:
                    outcome = found.get(id_)
                    if isinstance(outcome, Outcome):
                        self._tell(Ended(id_, outcome))
                    elif outcome is None and not self._in_memory(id_, unknown[id_]):
                        error = CallNotFound(
                            f"no call has the id {id_!r}, or its retention is over"
                        )
                        self._disappoint(id_, error)
        except Exception as error:  # noqa: BLE001 - those who wait must hear of it
            for id_ in (*self._unknown, *unknown):
                self._disappoint(id_, error)
            self._unknown.clear()
        finally:
            self._looking = None

    def _disappoint(self, id_: str, error: Exception) -> None:
        for each in self._waiting.pop(id_, ()):
            if not each.done():
                each.set_exception(error)

    def _in_memory(self, id_: str, partition: int) -> bool:
        owner = self.engine.partitions.get(partition)
        if owner is not None:
            return id_ in owner.residents
        return any(id_ in each.residents for each in self.engine.partitions.values())

    async def status(self, id: str) -> Status:  # noqa: A002
        """Where a call is in its life."""
        self._check()
        await self.committer.durable()
        return await read_status(self.storage, id)

    async def send(self, message: Signal | Cancel | Retry) -> None:
        """Make a signal, cancellation or retry durable."""
        self._check()
        if message.partition < 0:
            # Only the database knows where a call with this id lives.
            await self.storage.enqueue([message])
            self._wakeup.read()
            return
        if not self._in_memory(message.id, message.partition):
            await read_status(self.storage, message.id)
        self._receive(message, 0)
        await asyncio.shield(self.committer.durable())
