"""Forking a call: another one goes on from somewhere in its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fenbu._api.context import activation
from fenbu._api.options import checked_id
from fenbu._api.runtime import Runtime
from fenbu._core import ids
from fenbu._core.fork import forked, place_of
from fenbu._core.journal import commands_of
from fenbu._core.message import Restore, Signal
from fenbu._core.model import FINISHED, Invocation, Loaded, Payload
from fenbu._core.trial import check_results
from fenbu._node.clock import Clock
from fenbu._storage.protocol import Storage
from fenbu.errors import AlreadyExists, CallNotFound, UsageError


async def fork_call(
    runtime: Runtime,
    id_: str,
    step: int | str | None,
    results: Mapping[int | str, object],
    new_id: str | None,
) -> Invocation:
    """See `Handle.fork`."""
    if activation() is not None:
        raise UsageError("fork() is for operators: use it outside workflow and entity code")
    gateway = runtime.gateway
    loaded = await gateway.load(id_)
    if loaded is None:
        raise CallNotFound(f"no call has the id {id_!r}, or its retention is over")
    codec, clock = runtime.registry.codec.of(Any), gateway.clock
    payloads = {key: codec.encode(value) for key, value in results.items()}
    made, completions = await fork_of(
        gateway.storage,
        loaded,
        step=step,
        results=payloads,
        new_id=new_id,
        clock=clock,
        partition_count=runtime.registry.partition_count,
    )
    spec = runtime.registry.get(loaded.invocation.handler, loaded.invocation.version)
    if payloads and spec is not None:
        given = {place_of(loaded, key): value for key, value in payloads.items()}
        check_results(runtime.registry, spec, loaded, given)
    await gateway.send_many([made, *completions])
    return made.invocation


async def fork_of(
    storage: Storage,
    loaded: Loaded,
    *,
    step: int | str | None,
    results: Mapping[int | str, Payload],
    new_id: str | None,
    clock: Clock,
    partition_count: int,
) -> tuple[Restore, list[Signal]]:
    """What makes the new call, and what completes callbacks of it.

    Raises:
        AlreadyExists: There is a call with the new id.
        UsageError: The call cannot be forked so.
    """
    call = loaded.invocation
    if call.status in FINISHED and call.key is None and not commands_of(loaded):
        raise UsageError(
            f"{call.handler} {call.id} has asked for no step or call, as tasks never do, so there is nothing "
            "to go on from: if it has failed, retry it"
        )
    now = clock.now()
    chosen = checked_id(new_id) or ids.invocation_id(now, clock.entropy())
    if new_id is not None and await storage.outcomes([new_id]):
        raise AlreadyExists(f"there is a call with the id {new_id!r} already")
    return forked(
        loaded,
        step=step,
        results={place_of(loaded, key): value for key, value in results.items()},
        id_=chosen,
        partition_count=partition_count,
        now=now,
    )
