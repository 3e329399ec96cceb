"""Who waits for whom: finds the circle that an operation would close by waiting for its turn.

An operation that waits holds up its caller, which holds its entity, and so on along its chain. From the
operations whose turn it is, a depth-first walk follows what that one waits for. Where the trail leads to a
partition of another node, a `Probe` carries it on: edge chasing, after Chandy, Misra and Haas (1983). The
last wait that closes a circle finds all others there, so it is enough to look when an operation begins to
wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fenbu._core import fork
from fenbu._core.command import AwaitCall, StartCall
from fenbu._core.message import Deadlock, Probe
from fenbu._core.nest import MARK
from fenbu.errors import DeadlockError

if TYPE_CHECKING:
    from fenbu._core.engine import Engine
    from fenbu._core.mailbox import Mailbox
    from fenbu._core.resident import Resident

Trail: TypeAlias = "tuple[Resident, tuple[str, ...]]"
"""A call, and the entities on the way to it."""

PATH_MAX = 100
"""Entities on a trail; a longer one is not followed."""


def search(engine: Engine, message: Probe | Deadlock, now: float) -> None:
    """The search for a deadlock has come here, or has found one."""
    if isinstance(message, Probe):
        follow(engine, message)
        return
    resident = engine.partitions[message.partition].residents.get(message.id)
    if resident is None or resident.mailbox is None:
        return
    if not resident.mailbox.runs(resident):
        refuse(resident, message.path, now)


def refuse(resident: Resident, path: str, now: float) -> None:
    """End an operation that would wait for itself."""
    error = DeadlockError(
        f"{resident.spec.name} {resident.invocation.id} would wait for itself: {path}. An entity runs "
        "one operation at a time, so call back after the operation has ended, use `.start()`, or mark "
        "the operation as reentrant"
    )
    resident.fail(error, now)


def refuse_chain(resident: Resident, name: str, now: float) -> None:
    """An operation was called by one that its own entity waits for."""
    held = [each for each in resident.invocation.chain if not each.startswith(MARK)]
    refuse(resident, " → ".join((*held, name)), now)


def holds_up(box: Mailbox, resident: Resident) -> bool:
    """An operation that waits does so for those that run, and not only to be loaded."""
    if box.nest is not None and resident in box.nest.waiting:
        return box.nest.is_behind_another(resident)
    if box.current is not None or not box.readers:
        return box.current is not None
    for each in box.queue:
        if each is resident:
            break
        if not each.spec.read_only:
            return True
    return not resident.spec.read_only


def _ahead_of(box: Mailbox, resident: Resident) -> list[Resident]:
    """Those that an operation waits for."""
    if box.nest is not None and resident in box.nest.waiting:
        top = box.nest.top()
        return [] if top is None else [top]
    return box.running()


def _is_held(box: Mailbox, resident: Resident, chain: tuple[str, ...]) -> bool:
    """Whether one of a chain of callers holds up an operation that waits."""
    if box.nest is not None and resident in box.nest.waiting:
        return any(f"{MARK}{each.invocation.id}" in chain for each in _ahead_of(box, resident))
    return box.name in chain


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
    return _walk(engine, origin, [(each, origin.path) for each in _ahead_of(mailbox, waiting)])


def follow(engine: Engine, probe: Probe) -> None:
    """Go on with a trail that has come from another node."""
    owner = engine.partitions.get(probe.partition)
    resident = owner.residents.get(probe.id) if owner is not None else None
    if resident is None:
        return  # It has ended, or is yet to come: then it looks for itself.
    path = _arrive(probe, resident)
    if path is None:
        path = _walk(engine, probe, _onwards(resident, probe.path))
    if path is not None:
        engine.send(Deadlock(probe.origin_partition, probe.origin_id, path))


def _arrive(probe: Probe, resident: Resident) -> str | None:
    """Whether this call waits for the turn of an entity that the origin's callers hold."""
    box = resident.mailbox
    if box is None or box.runs(resident) or not _is_held(box, resident, probe.held):
        return None
    if not holds_up(box, resident):
        return None
    return " → ".join((box.name, *probe.path, box.name))


def _onwards(resident: Resident, path: tuple[str, ...]) -> list[Trail]:
    """Where the trail goes on: with the call itself or, if it waits, with those whose turn it is."""
    box = resident.mailbox
    if box is None or box.runs(resident):
        return [(resident, path)]
    if not holds_up(box, resident):
        return []
    return [(each, (*path, box.name)) for each in _ahead_of(box, resident)]


def _walk(engine: Engine, probe: Probe, stack: list[Trail]) -> str | None:
    seen: set[str] = set()
    while stack:
        resident, path = stack.pop()
        if resident.activation is None or len(path) > PATH_MAX:
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
            onwards = _onwards(child, path)
            waits = onwards and box is not None and not box.runs(child)
            if waits and box is not None and _is_held(box, child, probe.held):
                return " → ".join((box.name, *path, box.name))
            stack += onwards
    return None


def _waited_for(engine: Engine, resident: Resident) -> list[tuple[int, str]]:
    """The calls that it waits for, with their partitions."""
    activation = resident.activation
    found: list[tuple[int, str]] = []
    if activation is not None:
        for number, (_, command) in activation.waiting.items():
            if isinstance(command, StartCall):
                id_ = command.id or fork.child_id(activation, number)
                found.append((engine.place(command.entity, command.key, id_), id_))
            elif isinstance(command, AwaitCall):
                found.append((command.partition, command.name))
    return found
