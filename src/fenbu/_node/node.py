"""The node: joins the others on its database, runs its share of the calls, and carries its own life.

It is also the gateway of the clients in its process. A session that is lost ends a tenure, and not the node:
it joins again as soon as the database is back. Those who wait for a call go on waiting, because the call goes
on elsewhere; those who start one wait for a while, and get an error that may be tried again.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from fenbu._core import limit
from fenbu._core.handler import Registry
from fenbu._core.message import Call, Cancel, Message, Pause, Restore, Retry, Signal, Update
from fenbu._core.model import EntityState, Loaded, Outcome, Status
from fenbu._node import collector
from fenbu._node.callers import Callers
from fenbu._node.clock import Clock, SystemClock
from fenbu._node.expiry import forget_expired
from fenbu._node.gateway import check_accepted, load_call, read_status
from fenbu._node.membership import Membership
from fenbu._node.resource import Resources
from fenbu._node.retention import delete_events, delete_finished
from fenbu._node.states import EntityCursor
from fenbu._node.telemetry import Telemetry, log
from fenbu._node.tenure import NodeOptions, Tenure
from fenbu._storage.protocol import Storage
from fenbu._storage.sealed import sealed
from fenbu._storage.stream import StreamPage
from fenbu.errors import FenbuError, OwnershipLost, Unavailable

REJOIN_SECONDS_MIN = 0.1
REJOIN_SECONDS_MAX = 5.0

SESSION_ERRORS = (OwnershipLost, Unavailable)


class Node:
    """A process that runs calls."""

    def __init__(
        self,
        registry: Registry,
        storage: Storage,
        *,
        clock: Clock | None = None,
        options: NodeOptions | None = None,
    ) -> None:
        self.registry = registry
        self.storage = storage = sealed(storage, registry.hook)
        self._loop = asyncio.get_running_loop()
        self.clock: Clock = clock or SystemClock()
        self.telemetry = Telemetry()
        self.options = options or NodeOptions()
        self.name = f"{platform.node()}:{os.getpid()}:{self.clock.entropy():016x}"
        self.tenure: Tenure | None = None
        """What it runs; None while it has no session with the database."""
        self._membership: Membership | None = None
        self._joined = asyncio.Event()
        self._resources = Resources(registry.overrides)
        self._callers = Callers(storage, self._has_news, self._owned, self._all_told)
        self._tells_states = False
        """Somebody here has watched an entity."""
        self._tasks: list[asyncio.Task[None]] = []
        self._errands: set[asyncio.Task[None]] = set()
        self._lost: asyncio.Future[BaseException] = self._loop.create_future()
        self._stopping = False
        self._closed = False
        self.stopped: asyncio.Future[None] | None = None
        """Ends when the node does; with its error if it was not asked to stop."""

    # Life.

    async def start(self) -> None:
        """Join, take a share of the database's partitions and begin to run what is in them.

        Raises:
            StorageError: The database cannot be used, or allows one node and another is it; the message
                says why.
            UsageError: A registered class cannot be an entity.
        """
        self.registry.prepare()
        await self._join()
        self.stopped = self._loop.create_future()
        collector.slow_down()
        # Its error has been logged, and reaches whoever waits for it; nobody has to.
        self.stopped.add_done_callback(lambda future: future.cancelled() or future.exception())
        works = [
            self._live(),
            self._watch(),
            delete_finished(self.registry, self.storage, self.clock),
            delete_events(self.registry, self.storage, self.clock),
        ]
        if any(each.ttl_seconds is not None for each in self.registry.entities.values()):
            works.append(
                forget_expired(self.registry, self.storage, self.clock, lambda: self.tenure)
            )
        for work in works:
            task = asyncio.create_task(work)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        if self.registry.standing:
            # Not before whoever starts the node knows it: bodies may ask for it.
            task = asyncio.create_task(self._stand(self.clock.now()))
            self._errands.add(task)
            task.add_done_callback(self._errands.discard)

    async def _stand(self, now: float) -> None:
        """Start the calls that are to exist wherever their handler does."""
        count = self.registry.partition_count
        while not self._stopping:
            try:
                await self.start_calls([each.call(now, count) for each in self.registry.standing])
            except Unavailable as error:
                log.warning("consumer groups cannot be started yet: %s", error)
                await asyncio.sleep(REJOIN_SECONDS_MAX)
            else:
                return

    async def _join(self) -> None:
        await self.storage.join(self.name, self.clock.now(), self.registry.digest())
        self._lost = self._loop.create_future()
        tenure = Tenure(
            self.registry, self.storage, self.clock, options=self.options,
            telemetry=self.telemetry, callers=self._callers,
            resources=self._resources, lost=self._session_lost,
        )  # fmt: skip
        count = self.registry.partition_count
        membership = Membership(self.storage, count, tenure)
        try:
            await membership.enter()
        except BaseException as error:
            await tenure.drop(error)
            raise
        tenure.begin()
        self.tenure, self._membership = tenure, membership
        self._joined.set()

    def _session_lost(self, error: BaseException) -> None:
        if not self._lost.done():
            self._lost.set_result(error)

    async def _live(self) -> None:
        """Beat while there is a session, and get a new one when it is lost."""
        while True:
            tenure, membership = self.tenure, self._membership
            if tenure is None or membership is None:
                await self._rejoin()
                continue
            beats = asyncio.create_task(membership.run())
            try:
                await asyncio.wait((beats, self._lost), return_when=asyncio.FIRST_COMPLETED)
                error = self._lost.result() if self._lost.done() else beats.exception()
            finally:
                beats.cancel()
                await asyncio.gather(beats, return_exceptions=True)
                await membership.stop()
            if self._stopping:
                return
            if not isinstance(error, SESSION_ERRORS):
                raise error or FenbuError("a part of the node ended by itself")
            log.warning("the session with the database is lost (%s): joining again", error)
            self._joined.clear()
            self.tenure = self._membership = None
            lost = Unavailable(f"the database was lost before this was stored: {error}")
            await tenure.drop(lost)
            self._callers.refuse(lost)

    async def _rejoin(self) -> None:
        pause = REJOIN_SECONDS_MIN
        while self.tenure is None:
            try:
                await self._join()
            except SESSION_ERRORS as error:
                log.warning("cannot join yet: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, REJOIN_SECONDS_MAX)
        log.warning("joined again")
        self._callers.doubt_all()

    async def _watch(self) -> None:
        """Turn hints of the database into looks."""
        while True:
            await self._joined.wait()
            if not await self.storage.wait_for_change(limit.LOOK_SECONDS):
                continue
            if self.tenure is not None:
                self.tenure.read_inbox()
            if self._membership is not None:
                self._membership.heard()
            self._callers.look()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part of the node fell over: without it the node cannot keep its promises."""
        if self.stopped is None or self.stopped.done() or self._stopping:
            return
        if task.cancelled():
            error = Unavailable(
                "the node was cancelled from outside, as all tasks are when their event loop ends before the "
                "app is closed; its calls go on when it starts again"
            )
            log.warning("the node stops: %s", error)
        else:
            error = task.exception() or FenbuError("a part of the node ended by itself")
            log.critical("the node stops: %s", error, exc_info=error)
        self.stopped.set_exception(error)
        for each in self._tasks:
            each.cancel()
        self._tasks.append(asyncio.create_task(self._collapse(error)))

    async def _collapse(self, error: BaseException) -> None:
        self._joined.clear()
        tenure, self.tenure = self.tenure, None
        # First: bodies, which are cancelled now, may wait for calls while they clean up.
        await self._callers.stop(error)
        if tenure is not None:
            await tenure.drop(error)

    async def stop(self, drain_seconds: float = limit.DRAIN_SECONDS) -> None:
        """Finish what runs, at most for so long, hand everything back and release the database."""
        if self.stopped is None or self.stopped.done():
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._close()
            return
        self._stopping = True
        if self._membership is not None and drain_seconds > 0:
            try:
                await self._membership.retire(drain_seconds)
            except SESSION_ERRORS as error:
                log.warning("nothing more can be handed over: %s", error)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        tenure = self.tenure
        if tenure is not None:
            try:
                await tenure.stop(0.0)
            except SESSION_ERRORS as error:
                log.warning("stopping without a last write: %s; the next start recovers", error)
        self.tenure = None
        if not self.stopped.done():
            self.stopped.set_result(None)
        await self._close()

    async def _close(self) -> None:
        stopped = Unavailable("the node has stopped; the call goes on when it starts again")
        await self._callers.stop(stopped)
        await self._resources.close()
        await self.storage.close()
        if self.stopped is not None and not self._closed:
            self._closed = True
            collector.restore()

    def _owned(self) -> Collection[int]:
        return () if self.tenure is None else self.tenure.engine.partitions

    # Listeners in other processes.

    def _has_news(self, listener: str) -> None:
        self.storage.hint(clients=(listener,))

    # The gateway of clients in this process.

    async def _running(self) -> Tenure:
        """What accepts calls: at once as a rule, else when the database is back."""
        tenure = self.tenure
        if tenure is None:
            if self.stopped is None or self.stopped.done():
                raise Unavailable("the node is not running")
            try:
                async with asyncio.timeout(self.options.patience_seconds):
                    await self._joined.wait()
            except TimeoutError:
                tenure = None
            else:
                tenure = self.tenure
            if tenure is None:
                raise Unavailable(
                    "the database is away. Nothing was accepted; try again when it is back"
                )
        if tenure.committer.trouble is not None:
            raise Unavailable(
                f"the database does not accept writes: {tenure.committer.trouble}. Nothing was accepted; "
                "try again when it does"
            )
        return tenure

    async def start_calls(self, calls: Sequence[Call | Signal | Update]) -> None:
        """Make the calls durable, with what is sent to them, all or none, in order."""
        tenure = await self._running()
        accepting: list[asyncio.Future[None]] = []
        owned = tenure.engine.partitions
        for call in calls:
            if isinstance(call, Call) and not call.fresh:
                self._callers.begins(call.invocation.id)
                if call.partition in owned:
                    accepting.append(self._callers.expect(call.invocation.id, call.partition))
            tenure.post(call)
        try:
            await tenure.committer.durable()
            if accepting:
                await asyncio.gather(*accepting)
        except SESSION_ERRORS as error:
            if not tenure.is_over:
                raise
            await self._confirm(calls, error)
        for call in calls:
            if isinstance(call, Call) and call.ticket is not None:
                check_accepted(call, await self._verdict(call.ticket))

    async def _verdict(self, ticket: str) -> Outcome:
        recent = self._callers.recent(ticket)
        if recent is not None:
            return recent
        future = self._callers.wait(ticket)
        self._callers.watch(ticket, must_exist=False)
        return await future

    async def _confirm(self, calls: Sequence[Call | Signal | Update], lost: Exception) -> None:
        """The session was lost while these were written: see whether they were, as far as one can."""
        doubt = Unavailable(
            f"{lost}; it may or may not have been accepted: starting a call again with the same id is safe"
        )
        tickets = [
            each.ticket for each in calls if isinstance(each, Call) and each.ticket is not None
        ]
        ids = [
            each.invocation.id
            for each in calls
            if not isinstance(each, Signal) and (isinstance(each, Update) or each.ticket is None)
        ]
        try:
            await self._running()
            found = await self.storage.outcomes([*ids, *tickets])
        except SESSION_ERRORS:
            raise doubt from lost
        if any(id_ not in found for id_ in ids):
            raise Unavailable(f"{lost}; it was not accepted") from lost
        # A signal leaves no trace, and what is to take the place of a call may lie in the inbox yet.
        if any(each not in found for each in tickets) or any(isinstance(e, Signal) for e in calls):
            raise doubt from lost

    async def call(self, call: Call) -> Outcome:
        """Make one call durable and wait for its outcome."""
        tenure = self.tenure
        if tenure is None or tenure.committer.trouble is not None:
            tenure = await self._running()
        id_, partition = call.invocation.id, call.invocation.partition
        if not call.fresh:
            await self.start_calls([replace(call, listener=self.storage.listener)])
            return await self.outcome(id_, partition)
        future = self._callers.wait(id_)
        if partition not in tenure.engine.partitions:
            call = replace(call, listener=self.storage.listener)
            self._callers.watch_new(id_)
        tenure.post(call)
        return await future

    async def outcome(self, id: str, partition: int) -> Outcome:  # noqa: A002
        """Wait for the outcome of a call."""
        recent = self._callers.recent(id)
        if recent is not None:
            return recent
        tenure = await self._running()
        if tenure.has(id, partition):
            return await self._callers.wait(id)
        # It may have ended in a batch that is being written: then that tells.
        future = self._callers.wait(id)
        try:
            await self._settled(tenure)
        except BaseException:
            future.cancel()
            raise
        if not future.done():
            self._callers.watch(id)
        return await future

    async def status(self, id: str) -> Status:  # noqa: A002
        """Where a call is in its life."""
        await self._settled(await self._running())
        return await read_status(self.storage, id)

    async def _all_told(self) -> bool:
        """Wait until whoever waits for what has ended here has heard; false if a session was lost."""
        tenure = self.tenure
        return tenure is not None and await tenure.all_told()

    async def _settled(self, tenure: Tenure) -> None:
        """Wait until what this process has asked for so far is in the database, or never will be."""
        try:
            await tenure.committer.durable()
        except SESSION_ERRORS:
            if not tenure.is_over:
                raise
            await self._running()

    async def read_stream(self, id: str, stream: str, after: int) -> StreamPage:  # noqa: A002
        """What comes in a stream of a call after a chunk."""
        return await self._callers.streams.read(id, stream, after)

    async def read_state(self, cursor: EntityCursor) -> EntityState | None:
        """The state of an entity as soon as it is another than its watcher has seen."""
        if not self._tells_states:
            self._tells_states = True
            self.telemetry.listen(self._callers.states.committed)
        return await self._callers.states.wait(cursor)

    async def load(self, id: str) -> Loaded | None:  # noqa: A002
        """A call with its journal, as the database has it."""
        await self._settled(await self._running())
        return await load_call(self.storage, id)

    async def send_many(
        self, messages: Sequence[Cancel | Retry | Pause | Restore | Signal]
    ) -> None:
        """Make what is for calls whose places are known durable, all or none."""
        await self._running()
        await self._enqueue(messages)

    async def _enqueue(self, messages: Sequence[Message]) -> None:
        """By way of the inbox. What is sent next may be for a call in memory, and must not overtake it."""
        await self.storage.enqueue(messages)
        if self.tenure is not None:
            await self.tenure.heard()

    async def send(self, message: Signal | Cancel | Retry | Pause | Update) -> None:
        """Make a signal, cancellation, retry or update durable."""
        tenure = await self._running()
        if isinstance(message, Update):
            message = replace(message, listener=self.storage.listener)
        if message.partition < 0:
            # Only the database knows where a call with this id lives.
            await self._enqueue([message])
            return
        if not tenure.has(message.id, message.partition):
            await read_status(self.storage, message.id)
        tenure.post(message)
        try:
            await tenure.committer.durable()
        except SESSION_ERRORS as error:
            raise Unavailable(f"{error}; what was sent may or may not have been stored") from error
