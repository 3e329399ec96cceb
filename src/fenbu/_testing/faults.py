"""Faults: drawn from a seed as a plan, which can be shortened, and then done to a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from msgspec import Struct

from fenbu._testing.cluster import Cluster, Machine

Does = Callable[[Cluster, "Fault"], None]


class Fault(Struct, frozen=True):
    """One thing that goes wrong. Times are virtual seconds."""

    at: float
    kind: str
    node: int = 0
    """Which of the nodes that are up then, counted round."""
    seconds: float = 0.0
    """How long it lasts, or until the node is replaced."""
    amount: float = 0.0
    """In [0, 1): how bad it is."""

    def __str__(self) -> str:
        return f"{self.at:7.3f} s  {self.kind} (node {self.node}, {self.seconds:.3f} s, {self.amount:.3f})"


def draw(random: Random, count: int, horizon: float, kinds: tuple[str, ...]) -> tuple[Fault, ...]:
    """A plan of so many faults before the horizon."""
    found = [
        Fault(
            random.random() * horizon,
            random.choice(kinds),
            random.randrange(8),
            min(60.0, random.expovariate(0.3)),
            random.random(),
        )
        for _ in range(count)
    ]
    return tuple(sorted(found, key=lambda each: each.at))


async def inject(cluster: Cluster, plan: tuple[Fault, ...]) -> None:
    """Do them, each at its time, and then make everything well again."""
    loop = cluster.loop
    for fault in plan:
        await asyncio.sleep(max(0.0, fault.at - loop.time()))
        cluster.trace("fault", str(fault))
        KINDS[fault.kind](cluster, fault)
    await asyncio.sleep(max((each.seconds for each in plan), default=0.0))
    heal(cluster)


def heal(cluster: Cluster) -> None:
    """All is well from now on, and somebody is there to do the work."""
    network = cluster.network
    network.latency, network.hint_latency = network.usual_latency, 0.001
    network.loss = network.refusal = network.hint_loss = network.notice_seconds = 0.0
    network.is_down = False
    for machine in cluster.machines.values():
        cluster.resume(machine)
        machine.storage.before_commit = lambda: None
        cluster.crash_now(machine)
    if not cluster.nodes:
        cluster.start_node()


def _chosen(cluster: Cluster, fault: Fault) -> Machine | None:
    return cluster.nodes[fault.node % len(cluster.nodes)] if cluster.nodes else None


def _crash(cluster: Cluster, fault: Fault, notice_seconds: float = 0.001) -> None:
    machine = _chosen(cluster, fault)
    if machine is not None:
        cluster.crash(machine, after=int(fault.amount**3 * 1000), notice_seconds=notice_seconds)
        cluster.network.later(fault.seconds, cluster.start_node)


def _vanish(cluster: Cluster, fault: Fault) -> None:
    _crash(cluster, fault, notice_seconds=10.0 * fault.amount)


def _stall(cluster: Cluster, fault: Fault) -> None:
    machine = _chosen(cluster, fault)
    if machine is not None:
        cluster.stall(machine, fault.seconds)
        if fault.amount < 0.5:
            # Others take what it had, while it still believes that it has it.
            cluster.network.later(
                fault.amount * fault.seconds, lambda: cluster.end_session(machine)
            )


def _stall_in_transaction(cluster: Cluster, fault: Fault) -> None:
    """The next transactional step stands still before it commits, and others take its partition."""
    machine = _chosen(cluster, fault)
    if machine is None:
        return

    def stall() -> None:
        machine.storage.before_commit = lambda: None
        cluster.stall(machine, fault.seconds)
        cluster.end_session(machine)

    machine.storage.before_commit = stall


def _end_session(cluster: Cluster, fault: Fault) -> None:
    machine = _chosen(cluster, fault)
    if machine is not None:
        cluster.end_session(machine)


def _break_session(cluster: Cluster, fault: Fault) -> None:
    machine = _chosen(cluster, fault)
    if machine is not None:
        cluster.network.notice_seconds = 10.0 * fault.amount
        machine.storage.lose_session()


def _restart_server(cluster: Cluster, fault: Fault) -> None:
    network = cluster.network
    network.is_down = True
    for machine in cluster.machines.values():
        cluster.end_session(machine)
    network.later(fault.seconds, lambda: setattr(network, "is_down", False))


def _for_a_while(name: str, change: Callable[[Fault], float], usual: float) -> Does:
    """A property of the network is another for so long."""

    def do(cluster: Cluster, fault: Fault) -> None:
        network = cluster.network
        setattr(network, name, change(fault))
        network.later(fault.seconds, lambda: setattr(network, name, usual))

    return do


def _set_clock(cluster: Cluster, fault: Fault) -> None:
    machine = _chosen(cluster, fault)
    if machine is not None:
        machine.clock.offset += (fault.amount - 0.5) * 10.0


def _join(cluster: Cluster, fault: Fault) -> None:
    cluster.start_node((fault.amount - 0.5) * 4.0)


def _leave(cluster: Cluster, fault: Fault) -> None:
    machine = _chosen(cluster, fault)
    if machine is not None and len(cluster.nodes) > 1:
        cluster.stop_node(machine)


def _notify_for_nothing(cluster: Cluster, fault: Fault) -> None:
    del fault
    for machine in cluster.machines.values():
        cluster.network.later(cluster.network.delay(), machine.storage.notice)


KINDS: dict[str, Does] = {
    "a node crashes": _crash,
    "a host vanishes": _vanish,
    "a node stands still": _stall,
    "a transaction stands still": _stall_in_transaction,
    "a session is ended": _end_session,
    "a session breaks": _break_session,
    "the server restarts": _restart_server,
    "requests are slow": _for_a_while("latency", lambda fault: 0.01 + fault.amount * 0.5, 0.01),
    "connections break": _for_a_while("loss", lambda fault: fault.amount * 0.3, 0.0),
    "the disk is full": _for_a_while("refusal", lambda fault: fault.amount, 0.0),
    "hints are lost": _for_a_while("hint_loss", lambda fault: fault.amount, 0.0),
    "hints are late": _for_a_while("hint_latency", lambda fault: fault.amount * 3.0, 0.001),
    "hints come for nothing": _notify_for_nothing,
    "a clock is set": _set_clock,
    "a node joins": _join,
    "a node leaves": _leave,
}
"""What can go wrong."""
