"""One run of a scenario on a simulated cluster under a plan of faults, all of it drawn from a seed.

The same seed gives the same run, to the byte: `Report.digest` is a hash of its trace.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fenbu._api.app import App
from fenbu._core import limit
from fenbu._node.tenure import NodeOptions
from fenbu._testing.cluster import Cluster
from fenbu._testing.faults import KINDS, Fault, draw, heal, inject
from fenbu._testing.loop import NeverEnds, SimulatedLoop

Scenario = Callable[[Cluster], Coroutine[Any, Any, None]]

FAULTS_MAX = 10
HORIZON_SECONDS = 8.0
END_SECONDS = 3_600.0
"""Virtual time after which a scenario that has not ended never will."""
SETTLE_SECONDS = 5.0
"""Until a node that has stood still has noticed what happened meanwhile."""
CALM_SECONDS = 120.0
"""How long a cluster may take to finish what is left when the scenario has ended."""


class Plan(Struct, frozen=True):
    """What is drawn before a run begins."""

    seed: int
    nodes: int
    partition_count: int
    size: int
    """How much the scenario does."""
    faults: tuple[Fault, ...]
    idle_seconds: float = 0.5
    calls_max: int = 64
    """Calls that a node keeps in memory."""
    latency: float = 0.001
    """Seconds that a request needs to the server, on average, when all is well."""


class Report(Struct):
    """What a run has shown."""

    plan: Plan
    violations: list[str]
    trace: list[tuple[float, str, str]]
    seconds: float = 0.0
    """Virtual ones."""
    turns: int = 0

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def digest(self) -> str:
        """The same for the same run."""
        text = "\n".join(f"{at:.6f} {who} {what}" for at, who, what in self.trace)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_of(seed: int, *, faults: bool = True, kinds: tuple[str, ...] = tuple(KINDS)) -> Plan:
    """The plan of a seed. Most are small, so that many seeds can be tried."""
    random = Random(seed)  # noqa: S311 - a seed is meant to be known
    count = random.randrange(FAULTS_MAX + 1) if faults else 0
    return Plan(
        seed,
        nodes=random.randint(1, 4),
        partition_count=random.choice((2, 8, 16)),
        size=random.randint(1, 8),
        faults=draw(random, count, HORIZON_SECONDS, kinds),
        idle_seconds=random.choice((0.0, 0.2, 5.0)),
        calls_max=random.choice((2, 8, 64, 1000)),
        latency=random.choice((0.001, 0.001, 0.03)),
    )


def run(app: App, scenario: Scenario, plan: Plan, *, seconds: float = END_SECONDS) -> Report:
    """Run the scenario as planned, for so many virtual seconds at most.

    What went wrong is in the report; nothing is raised for it.
    """
    loop = SimulatedLoop(plan.seed)
    report = Report(plan, [], [])
    trace = report.trace

    def note(who: str, what: str) -> None:
        trace.append((loop.time(), who, what))

    options = NodeOptions(
        concurrency=plan.calls_max,
        active_calls_max=plan.calls_max,
        idle_calls_max=plan.calls_max,
        idle_seconds=plan.idle_seconds,
        # Half of them keep no lazy field in memory.
        field_cache_bytes=limit.FIELD_CACHE_BYTES * (plan.seed % 2),
        patience_seconds=5.0,
    )
    cluster = Cluster(app, loop, partition_count=plan.partition_count, options=options, trace=note)
    cluster.violations = report.violations
    cluster.network.latency = cluster.network.usual_latency = plan.latency
    collecting = gc.isenabled()
    gc.disable()  # What is collected when is nothing that a seed decides.
    handler = _LogHandler(note)
    log = logging.getLogger("fenbu")
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        loop.run(_run(cluster, scenario, plan, seconds))
    except NeverEnds as error:
        cluster.violation(f"{error}; " + "; ".join(cluster.leftovers()[:5]))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
        cluster.violation(f"{type(error).__name__}: {error}")
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
        cluster.close()
        report.seconds, report.turns = loop.time(), loop.turns
        loop.close()
        if collecting:
            gc.enable()
    return report


async def _run(cluster: Cluster, scenario: Scenario, plan: Plan, seconds: float) -> None:
    cluster.open()
    for _ in range(plan.nodes):
        cluster.start_node()
    faults = asyncio.create_task(_disturb(cluster, plan))
    operator = asyncio.create_task(_operate(cluster))
    try:
        async with asyncio.timeout(seconds):
            await scenario(cluster)
            await faults
    except TimeoutError:
        left = "; ".join(cluster.leftovers()[:5])
        cluster.violation(f"the scenario has not ended after {seconds:g} s: {left}")
        return
    heal(cluster)
    await _drain(cluster)
    operator.cancel()


async def _disturb(cluster: Cluster, plan: Plan) -> None:
    await inject(cluster, plan.faults)
    cluster.skip_idle_time()


async def _operate(cluster: Cluster) -> None:
    """An operator comes by, less and less often: what needs him comes of the faults at the beginning."""
    pause = 20.0
    while True:
        await asyncio.sleep(pause)
        cluster.revive()
        pause *= 1.2


async def _drain(cluster: Cluster) -> None:
    """Everything ends, nothing is left, and the locks are given back."""
    end = cluster.loop.time() + CALM_SECONDS
    await asyncio.sleep(SETTLE_SECONDS)
    # A node may have in memory what its database could not store until now.
    while not (cluster.is_drained() and not cluster.memory()) and cluster.loop.time() < end:
        await asyncio.sleep(0.5)
    for each in cluster.leftovers():
        cluster.violation(f"left over: {each}")
    for each in cluster.memory():
        cluster.violation(f"left in memory: {each}")
    await asyncio.gather(*(cluster.stop_node(each) for each in list(cluster.nodes)))
    await asyncio.sleep(60.0)
    for node in cluster.database.nodes.values():
        cluster.violation(f"a session is left with {len(node.partitions)} partitions")


class _LogHandler(logging.Handler):
    """What nodes say of themselves belongs to the trace."""

    def __init__(self, note: Callable[[str, str], None]) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note("log", record.getMessage())


def shrink(run: Callable[[Plan], Report], plan: Plan) -> Plan:
    """A smaller plan that fails too: fewer faults, then less to do and fewer nodes."""

    def fails(plan: Plan) -> bool:
        return not run(plan).ok

    def first_failing(plans: Iterable[Plan]) -> Plan | None:
        return next(filter(fails, plans), None)

    smaller: Plan | None = plan
    while smaller is not None:
        plan, faults = smaller, smaller.faults
        smaller = first_failing(
            replace(plan, faults=faults[:index] + faults[index + 1 :])
            for index in range(len(faults))
        )
    plan = first_failing(replace(plan, size=size) for size in range(1, plan.size)) or plan
    return first_failing(replace(plan, nodes=nodes) for nodes in range(1, plan.nodes)) or plan
