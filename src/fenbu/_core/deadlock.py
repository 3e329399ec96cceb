"""Who waits for whom: finds the circle that an operation would close by waiting for its turn.

An operation that waits holds up its caller, which holds its entity, and so on along its chain. From the
operation whose turn it is, a depth-first walk follows what that one waits for. Where the trail leads to a
partition of another node, a `Probe` carries it on: edge chasing, after Chandy, Misra and Haas (1983). The
last wait that closes a circle finds all others there, so it is enough to look when an operation begins to
wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fenbu._core import ids
from fenbu._core.command import AwaitCall, StartCall
from fenbu._core.message import Deadlock, Probe
from fenbu.errors import DeadlockError

if TYPE_CHECKING:
    from fenbu._core.engine import Engine
    from fenbu._core.mailbox import Mailbox
    from fenbu._core.resident import Resident

PATH_MAX = 100
"""Entities on a trail; a longer one is not followed."""


def find(engine: Engine, waiting: Resident, mailbox: Mailbox) -> str | None:
    """The circle that would close if this operation waited for its turn, in words.

    None if there is none on this node; what leads elsewhere is followed there.
    """
    invocation = waiting.invocation
    if not invocation.chain:
        return None  # Nobody holds an entity for it.
    origin = Probe(
        invocation.partition, invocation.id, invocation.partition, invocation.id, invocation.chain,
        (mailbox.name,),
    )  # fmt: skip
    return _walk(engine, origin, mailbox.current)


def receive(engine: Engine, message: Probe | Deadlock, now: float) -> None:
    """The search has come to a partition of this node, or has found something there."""
    if isinstance(message, Probe):
        follow(engine, message)
        return
    resident = engine.partitions[message.partition].residents.get(message.id)
    if resident is None or resident.mailbox is None:
        return
    if resident.mailbox.current is not resident:
        refuse(resident, message.path, now)


def refuse(waiting: Resident, path: str, now: float) -> None:
    """An operation that would wait for itself fails."""
    error = DeadlockError(
        f"{waiting.spec.name} {waiting.invocation.id} would wait for itself: {path}. An entity runs one "
        "operation at a time, so call back after the operation has ended, or use `.start()`"
    )
    waiting.fail(error, now)


def follow(engine: Engine, probe: Probe) -> None:
    """Go on with a trail that has come from another node."""
    owner = engine.partitions.get(probe.partition)
    resident = owner.residents.get(probe.id) if owner is not None else None
    if resident is None:
        return  # It has ended, or is yet to come: then it looks for itself.
    path = _arrive(probe, resident)
    if path is None:
        path = _walk(engine, probe, resident)
    if path is not None:
        engine.send(Deadlock(probe.origin_partition, probe.origin_id, path))


def _arrive(probe: Probe, resident: Resident) -> str | None:
    """Whether this call waits for the turn of an entity that the origin's callers hold."""
    box = resident.mailbox
    if box is None or box.current is resident or box.name not in probe.held:
        return None
    return " → ".join((box.name, *probe.path, box.name))


def _walk(engine: Engine, probe: Probe, start: Resident | None) -> str | None:
    seen: set[str] = set()
    stack: list[tuple[Resident | None, tuple[str, ...]]] = [(start, probe.path)]
    if start is not None and start.mailbox is not None and start.mailbox.current is not start:
        # It waits itself: the trail goes on with the one whose turn it is.
        stack = [(start.mailbox.current, (*probe.path, start.mailbox.name))]
    while stack:
        resident, path = stack.pop()
        if resident is None or resident.activation is None or len(path) > PATH_MAX:
            continue
        if resident.invocation.id in seen:
            continue
        seen.add(resident.invocation.id)
        for partition, id_ in _waited_for(engine, resident):
            owner = engine.partitions.get(partition)
            if owner is None:
                engine.send(
                    Probe(partition, id_, probe.origin_partition, probe.origin_id, probe.held, path)
                )
                continue
            child = owner.residents.get(id_)
            if child is None:
                continue
            box = child.mailbox
            if box is not None and box.current is not child:
                if box.name in probe.held:
                    return " → ".join((box.name, *path, box.name))
                stack.append((box.current, (*path, box.name)))
            else:
                stack.append((child, path))
    return None


def _waited_for(engine: Engine, resident: Resident) -> list[tuple[int, str]]:
    """The calls that it waits for, with their partitions."""
    activation = resident.activation
    found: list[tuple[int, str]] = []
    if activation is not None:
        for number, (_, command) in activation.waiting.items():
            if isinstance(command, StartCall):
                id_ = command.id or ids.child_id(activation.run, number)
                found.append((engine.place(command.entity, command.key, id_), id_))
            elif isinstance(command, AwaitCall):
                found.append((command.partition, command.name))
    return found
