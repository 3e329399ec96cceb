"""Beginning anew, and where code may ask for it."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from fenbu._api.context import required_activation
from fenbu._core.anew import ContinueAsNew, answering
from fenbu._core.handler import HandlerSpec
from fenbu.errors import UsageError


def continue_as_new(spec: HandlerSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
    """See `DurableFunction.continue_as_new`."""
    running = required_activation("continue_as_new()")
    if running.closed is not None:
        raise running.closed
    payload = spec.signature.check(args, kwargs)
    call = running.invocation
    if call.handler != spec.name or call.entity is not None:
        raise UsageError(
            f"{call.handler} can only continue as itself; to go on as {spec.name}, call or start it"
        )
    if answering.get() or asyncio.current_task(running.loop) is None:
        raise UsageError(
            f"{call.handler} {call.id}: continue_as_new() belongs into the workflow's own body, or what it "
            "awaits, not into an update, a query or a condition: let that set a variable, have the body wait "
            "for it with `wait_until`, and continue as new there"
        )
    running.anew = ContinueAsNew(spec.version, payload)
    raise running.anew
