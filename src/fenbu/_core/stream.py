"""What running bodies say to their calls: chunks of streams, which the call's node takes while they run."""

from __future__ import annotations

from fenbu._core.effect import RunBody
from fenbu._core.engine import Engine
from fenbu._core.model import Payload


def body_writes(
    engine: Engine,
    body: RunBody,
    stream: str,
    position: int,
    value: Payload | None,
    *,
    now: float,
) -> bool:
    """A body appends to a stream, or ends it if the value is None; false if nobody waits for the body.

    Another attempt may run, here or elsewhere, so what this one says counts no longer.
    """
    partition = engine.partitions.get(body.partition)
    resident = partition.residents.get(body.id) if partition is not None else None
    if resident is None or resident.bodies.get(body.command) != body.attempt:
        return False
    if resident.activation is not None and resident.activation.run != body.run:
        return False  # A step of this run has the same number.
    engine.now = now
    resident.write(stream, body.command, position, value, now, ends=value is None)
    return True


def is_closed(engine: Engine, body: RunBody, stream: str) -> bool:
    """The code that a body is a step of has ended a stream."""
    partition = engine.partitions.get(body.partition)
    resident = partition.residents.get(body.id) if partition is not None else None
    code = resident.activation if resident is not None else None
    return (
        code is not None
        and code.writing is not None
        and code.run == body.run
        and stream in code.writing.closed
    )
