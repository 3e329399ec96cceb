"""Forking a call: another one goes on from somewhere in its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fenbu._api.context import activation
from fenbu._api.options import checked_id
from fenbu._api.runtime import Runtime
from fenbu._core import ids
from fenbu._core.fork import forked, place_of
from fenbu._core.model import Invocation
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
    codec, now = runtime.registry.codec.of(Any), gateway.clock.now()
    chosen = checked_id(new_id) or ids.invocation_id(now, gateway.clock.entropy())
    if new_id is not None and await gateway.storage.outcomes([new_id]):
        raise AlreadyExists(f"there is a call with the id {new_id!r} already")
    spec = runtime.registry.get(loaded.invocation.handler, loaded.invocation.version)
    seconds = None if spec is None else spec.timeout_seconds
    message = forked(
        loaded,
        step=step,
        results={place_of(loaded, key): codec.encode(value) for key, value in results.items()},
        id_=chosen,
        partition_count=runtime.registry.partition_count,
        now=now,
        deadline_at=None if seconds is None else now + seconds,
    )
    await gateway.send_many([message])
    return message.invocation
