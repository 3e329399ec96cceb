"""A cluster in one thread: real nodes and real clients as simulated processes on a simulated database.

What happens in it is drawn from the seed of its loop, so that a run can be had again. What a cluster must
never do, and did, stands in `violations`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from fenbu._api.app import App
from fenbu._core.batch import CommitBatch
from fenbu._core.handler import Registry
from fenbu._core.ids import run_id
from fenbu._core.message import Call, Cancel, Pause, Restore, Retry, Signal, Update, encode
from fenbu._core.model import FINISHED, EntityState, EntryKind, Invocation, Loaded, Outcome, Status
from fenbu._node.attempt import current
from fenbu._node.clock import Clock
from fenbu._node.gateway import Gateway, RemoteGateway
from fenbu._node.node import Node
from fenbu._node.states import EntityCursor
from fenbu._node.tenure import NodeOptions
from fenbu._storage.protocol import Storage
from fenbu._storage.stream import StreamPage
from fenbu._testing.database import SimulatedDatabase
from fenbu._testing.loop import Process, SimulatedLoop, process_now
from fenbu._testing.network import Network
from fenbu._testing.storage import SimulatedStorage
from fenbu.errors import StorageError, Unavailable, UsageError

T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""When simulations begin."""

RESTART_SECONDS = 1.0
"""Until a process that found no database tries again."""

DRAIN_SECONDS = 30.0

STEP_ENDS = frozenset({EntryKind.STEP_COMPLETED, EntryKind.STEP_FAILED})


class SimulatedClock:
    """A process's own clock: it may be wrong, and may be set."""

    def __init__(self, loop: SimulatedLoop, offset: float = 0.0) -> None:
        self._loop = loop
        self.offset = offset

    def now(self) -> float:
        return EPOCH + self._loop.time() + self.offset

    def elapsed(self) -> float:
        return self._loop.time()

    def random(self) -> float:
        return self._loop.random.random()

    def entropy(self) -> int:
        return self._loop.random.getrandbits(64)


class Machine:
    """One simulated process: a node, or a client."""

    def __init__(self, process: Process, storage: SimulatedStorage, clock: SimulatedClock) -> None:
        self.process = process
        self.storage = storage
        self.clock = clock
        self.gateway: Gateway | None = None
        self.node: Node | None = None
        self.notice_seconds = 0.0
        """How long the server takes to see that it has crashed."""
        self.mourners: list[asyncio.Future[None]] = []
        """Who is told that it has crashed."""

    @property
    def name(self) -> str:
        return self.process.name


class Cluster:
    """See the module."""

    open_one: ClassVar[Cluster | None] = None
    """The one whose scenario is running."""

    def __init__(
        self,
        app: App,
        loop: SimulatedLoop,
        *,
        partition_count: int = 16,
        options: NodeOptions | None = None,
        trace: Callable[[str, str], None] = lambda _who, _what: None,
    ) -> None:
        self.app = app
        self.registry = app.registry
        """What nodes have that come up from now on."""
        self.loop = loop
        self.trace = trace
        self.options = options or app.node_options
        self.violations: list[str] = []
        self.revived: set[str] = set()
        """Ids of calls that were quarantined until the operator let them try again."""
        self.ended: set[str] = set()
        """Ids of operations of which he saw that they cannot."""
        self.database = SimulatedDatabase(partition_count, self.violation)
        self.network = Network(loop, self.database, trace)
        self.machines: dict[Process, Machine] = {}
        self.nodes: list[Machine] = []
        """Those that are up, first come first."""
        self._count = 0
        loop.died = self._died
        app.registry.partition_count = partition_count

    def violation(self, text: str) -> None:
        """Something happened that must never happen."""
        self.trace("auditor", text)
        self.violations.append(text)

    def open(self) -> None:
        """Calls of the app go to this cluster from now on."""
        self.app.runtime.opened(_Router(self, self.app.registry))
        Cluster.open_one = self

    def close(self) -> None:
        """The app is closed again."""
        for machine in self.machines.values():
            # Of processes that were killed: else the garbage collector would run the clean-up of their code.
            if machine.node is not None and machine.node.tenure is not None:
                machine.node.tenure.engine.abandon()
        Cluster.open_one = None
        self.app.runtime.closed()

    def machine(self) -> Machine:
        """The one whose code is running.

        Raises:
            UsageError: It is none.
        """
        process = process_now.get()
        machine = None if process is None else self.machines.get(process)
        if machine is None:
            raise UsageError("this code runs in no process of the simulation")
        return machine

    def _machine(self, name: str) -> Machine:
        process = self.loop.process(name)
        storage = SimulatedStorage(self.network, name)
        machine = self.machines[process] = Machine(process, storage, SimulatedClock(self.loop))
        return machine

    # Clients.

    def client(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Run a coroutine in a process of its own, which reaches the nodes through the database."""
        machine = self._machine(name)

        async def run() -> T:
            await self._patiently(machine, machine.storage.open)
            registry = self.app.registry
            machine.gateway = RemoteGateway(registry, machine.clock, machine.storage)
            return await work()

        return self.loop.spawn(machine.process, run(), name)

    async def _patiently(
        self, machine: Machine, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        while True:
            try:
                await work()
            except StorageError as error:
                self.trace(machine.name, f"has to wait: {error}")
                await machine.storage.close()
                await asyncio.sleep(RESTART_SECONDS)
            else:
                return

    # Nodes.

    def start_node(self, clock_offset: float = 0.0) -> Machine:
        """Add a node; it joins as soon as the database lets it."""
        self._count += 1
        machine = self._machine(f"node-{self._count}")
        machine.clock.offset = clock_offset
        self.nodes.append(machine)
        self.trace(machine.name, "starts")
        self.loop.spawn(machine.process, self._serve(machine), machine.name)
        return machine

    async def _serve(self, machine: Machine) -> None:
        async def start() -> None:
            await machine.storage.open()
            node = Node(self.registry, machine.storage, clock=machine.clock, options=self.options)
            node.telemetry.listen(lambda rows: self.trace(machine.name, _described(rows)))
            await node.start()
            machine.node = machine.gateway = node

        await self._patiently(machine, start)
        self.trace(machine.name, "runs")
        stopped = machine.node.stopped if machine.node is not None else None
        if stopped is None:
            raise AssertionError("a node that runs has no end")
        try:
            await asyncio.shield(stopped)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not happen
            self.violation(f"{machine.name} fell over: {type(error).__name__}: {error}")

    def stop_node(self, machine: Machine) -> asyncio.Task[None]:
        """It gets a SIGTERM: it hands over what it has and ends."""
        self.nodes.remove(machine)
        self.trace(machine.name, "is asked to stop")

        async def stop() -> None:
            while machine.node is None:  # It has not come up yet.
                await asyncio.sleep(RESTART_SECONDS)
            try:
                await machine.node.stop(DRAIN_SECONDS)
            except (Exception, asyncio.CancelledError) as error:
                self.violation(f"{machine.name} could not stop: {type(error).__name__}: {error}")
                raise
            self.trace(machine.name, "has stopped")

        return self.loop.spawn(machine.process, stop())

    def crash(self, machine: Machine, *, after: int = 0, notice_seconds: float = 0.001) -> None:
        """It is gone after so many more callbacks; the server sees that a while later."""
        machine.process.fuse = after
        machine.notice_seconds = notice_seconds
        if machine in self.nodes:
            self.nodes.remove(machine)

    def crash_now(self, machine: Machine, *, anyhow: bool = False) -> None:
        """If it is to crash at all, or anyhow."""
        if machine.process.is_alive and (anyhow or machine.process.fuse >= 0):
            self.loop.kill(machine.process)
            self._died(machine.process)

    def _died(self, process: Process) -> None:
        machine = self.machines[process]
        self.trace(machine.name, "crashes")
        if machine in self.nodes:
            self.nodes.remove(machine)
        machine.gateway = None
        for each in machine.mourners:
            if not each.done():
                each.set_result(None)
        for session in machine.storage.sessions:
            self.network.later(machine.notice_seconds, session.end)

    def stall(self, machine: Machine, seconds: float) -> None:
        """Nothing of it runs for so long; its session stays."""
        self.trace(machine.name, f"stands still for {seconds:.3f} s")
        machine.process.is_stopped = True
        self.network.later(seconds, lambda: self.resume(machine))

    def resume(self, machine: Machine) -> None:
        if machine.process.is_stopped:
            self.trace(machine.name, "goes on")
            machine.process.is_stopped = False

    def end_session(self, machine: Machine) -> None:
        """The server ends its session; the node finds out when it uses it."""
        session = machine.storage.session
        if session is not None:
            self.trace(machine.name, "its session is ended by the server")
            session.end()

    def skip_idle_time(self) -> None:
        """From now on time in which nodes would only look whether something has happened takes no turns."""
        self.database.heard = self.loop.busy
        self.loop.foresee = self._next_instant

    def _next_instant(self) -> float | None:
        """When something will happen: a durable timer, or one of a body or of the scenario itself."""
        nodes = {each.process: each for each in self.nodes}
        if self.network.is_busy or not all(map(_is_at_rest, self.nodes)):
            return self.loop.time()  # Soon there may be something to do.
        instants = [
            when
            for when, process, context in self.loop.timers()
            if (process not in nodes or context.get(current) is not None) and not context.get(_asks)
        ]
        ends = [
            self.database.expiring(each.name)[:1]
            for each in self.registry.entities.values()
            if each.ttl_seconds is not None
        ]
        for machine in nodes.values():
            tenure = machine.node.tenure if machine.node is not None else None
            due = tenure.next_due() if tenure is not None else None
            known = [end[0][0] for end in ends if end] + ([] if due is None else [due])
            instants += [each - machine.clock.now() + self.loop.time() for each in known]
        return min(instants, default=None)

    def inside(
        self, machine: Machine, name: str, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> asyncio.Task[T]:
        """Run a coroutine beside a node, as code of its own process would that calls handlers."""

        async def run() -> T:
            while machine.gateway is None:
                await asyncio.sleep(RESTART_SECONDS)
            beside.gateway = machine.gateway
            return await work()

        process = self.loop.process(name)
        beside = self.machines[process] = Machine(process, machine.storage, machine.clock)
        return self.loop.spawn(process, run(), name)

    # What must hold.

    def body_begins(self) -> None:
        """For the bodies of steps: tells the auditor that one begins.

        Guarantee: step-once. Whoever owns the partition must not run what its journal has an outcome of.
        """
        body, machine = current.get(), self.machine()
        session = machine.storage.session
        node = self.database.nodes.get(session) if session is not None else None
        if body is None or node is None or body.partition not in node.partitions:
            return  # It owns it no longer, and does not know it yet: what it does is void.
        call = self.database.invocations.get(body.id)
        for loaded in self.database.load([call] if call is not None else []):
            for entry in loaded.entries:
                if entry.command == body.command and entry.kind in STEP_ENDS:
                    self.violation(f"step {body.command} of {body.id} runs, and has an outcome")

    def leftovers(self) -> list[str]:
        """What should not be there when all calls have ended."""
        database = self.database
        found = [
            f"call {each.id} ({each.handler}) is {each.status}"
            + (f": {each.failure.message}" if each.failure else f", waiting for {each.waiting}")
            for each in database.invocations.values()
            if each.status not in FINISHED and not self._rests(each)
        ]
        found += [f"inbox row {number}" for number in database.inbox]
        found += [
            f"result of a transactional step {key}"
            for key in database.step_results
            if not self._was_given_up(*key)
        ]
        return found

    def _was_given_up(self, id_: str, run: str, command: int) -> bool:
        """Whether a transactional step's call ended while it committed: what is left goes with the call."""
        call = self.database.invocations.get(id_)
        if call is None or call.status not in FINISHED:
            return False
        (loaded,) = self.database.load([call])
        return run != run_id(id_, call.attempt) or all(
            entry.command != command or entry.kind is not EntryKind.STEP_COMPLETED
            for entry in loaded.entries
        )

    def is_drained(self) -> bool:
        """Nothing is left to be done, by nodes or by the operator."""
        return not self.database.inbox and all(
            each.status in FINISHED
            or each.status in {Status.STUCK, Status.UNHANDLED}
            or self._rests(each)
            for each in self.database.invocations.values()
        )

    def _rests(self, call: Invocation) -> bool:
        """Whether it is one that never ends, and it waits for what others do."""
        return (
            call.status is Status.SUSPENDED
            and call.wake_at is None
            and any(each.id == call.id for each in self.registry.standing)
        )

    def revive(self) -> None:
        """What an operator does about calls that were there each time when a process went down."""
        for each in list(self.database.invocations.values()):
            if each.status is Status.QUARANTINED:
                self.trace("operator", f"lets {each.id} try again")
                self.revived.add(each.id)
                self.database.put([encode(Retry(each.partition, each.id, parked=True))])
            elif each.status is Status.STUCK and each.id in self.revived and each.key is not None:
                # The state is another by now, and its code does not do there what its journal says.
                self.trace("operator", f"ends {each.id}")
                self.ended.add(each.id)
                self.database.put([encode(Cancel(each.partition, each.id, "stuck", at_once=True))])

    def memory(self) -> list[str]:
        """What nodes still have in memory when there is nothing to do."""
        found: list[str] = []
        for machine in self.nodes:
            tenure = machine.node.tenure if machine.node is not None else None
            if tenure is None:
                continue
            for partition in tenure.engine.partitions.values():
                found += [f"{machine.name} keeps call {each}" for each in partition.residents]
            if tenure.executor.running_count or tenure.executor.waiting_count:
                found.append(f"{machine.name} still runs bodies")
        return found


def _is_at_rest(machine: Machine) -> bool:
    """It has a place in the cluster, and nothing that the database would not store until now."""
    tenure = machine.node.tenure if machine.node is not None else None
    return tenure is not None and tenure.committer.trouble is None


_asks: ContextVar[bool] = ContextVar("fenbu_asks", default=False)
"""Set where a gateway works for a scenario or body: how often it looks for an answer is not their doing."""


@contextmanager
def _asking() -> Generator[None]:
    before = _asks.set(True)
    try:
        yield
    finally:
        # Code that is dropped where it stands is closed in another context.
        with suppress(ValueError):
            _asks.reset(before)


class _Router:
    """The app's gateway in a simulation: that of the process whose code asks."""

    def __init__(self, cluster: Cluster, registry: Registry) -> None:
        self._cluster = cluster
        self.registry = registry

    @property
    def _here(self) -> Gateway:
        machine = self._cluster.machine()
        if machine.gateway is None:
            raise Unavailable(f"{machine.name} is not connected")
        return machine.gateway

    @property
    def clock(self) -> Clock:
        return self._cluster.machine().clock

    @property
    def storage(self) -> Storage:
        return self._here.storage

    async def start_calls(self, calls: Sequence[Call | Signal | Update]) -> None:
        await self._here.start_calls(calls)

    async def call(self, call: Call) -> Outcome:
        with _asking():
            return await self._here.call(call)

    async def outcome(self, id: str, partition: int) -> Outcome:  # noqa: A002 - the protocol's name
        with _asking():
            return await self._here.outcome(id, partition)

    async def status(self, id: str) -> Status:  # noqa: A002 - the protocol's name
        return await self._here.status(id)

    async def read_stream(self, id: str, stream: str, after: int) -> StreamPage:  # noqa: A002
        with _asking():
            return await self._here.read_stream(id, stream, after)

    async def read_state(self, cursor: EntityCursor) -> EntityState | None:
        with _asking():
            return await self._here.read_state(cursor)

    async def send_many(
        self, messages: Sequence[Cancel | Retry | Pause | Restore | Signal]
    ) -> None:
        await self._here.send_many(messages)

    async def send(self, message: Signal | Cancel | Retry | Pause | Update) -> None:
        await self._here.send(message)

    async def load(self, id: str) -> Loaded | None:  # noqa: A002 - the protocol's name
        return await self._here.load(id)


def _described(rows: CommitBatch) -> str:
    """A batch in words."""
    parts = [
        *(f"+{each.id} {each.handler} {each.status}" for each in rows.inserted),
        *(f"{each.id} {each.status}" for each in rows.updated),
        *(f"{each.id}[{each.position}] {each.kind}" for each in rows.entries),
        *(f"{each.entity}/{each.key}={each.state!r}" for each in rows.entities),
        *(f"{each.id}:{each.stream}+{each.value}" for each in rows.chunks),
        *(f"-> {type(each).__name__}" for each in rows.inbox),
    ]
    return "commits " + ", ".join(parts) if parts else "commits"
