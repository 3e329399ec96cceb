"""Today's code over a recorded history, without effects: would the call go on, and end as it did?

Nothing is run again: steps, calls and timers get the outcomes that the journal holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from fenbu._core.activation import Activation
from fenbu._core.codec import Codec
from fenbu._core.failure import failure_of
from fenbu._core.handler import HandlerSpec, Registry
from fenbu._core.history import History
from fenbu._core.loop import EndlessLoopError
from fenbu._core.middleware import replayed
from fenbu._core.model import FINISHED, TERMINATED, Kind, Loaded, Payload, Status
from fenbu.errors import EncodingError, NonDeterminismError, UsageError


class Divergence(Struct, frozen=True):
    """Where today's code and a history part ways."""

    id: str
    handler: str
    version: int
    reason: str
    """In words."""
    position: int | None = None
    """In the journal; 0 is before its first entry, None is where it has no place."""
    recorded: str | None = None
    asked: str | None = None


def rehearse(
    registry: Registry, history: History, before: Callable[[int], None] = lambda _: None
) -> Divergence | None:
    """Run the code of a call through its history.

    Args:
        registry: Today's code.
        history: Of a call that is open or finished.
        before: Told each position of the journal before the code comes to it.

    Returns:
        The first divergence; None if there is none.
    """
    call = history.loaded.invocation
    spec = registry.get(call.handler, call.version)
    if spec is None:
        return _divergence(
            history.loaded, f"it needs {registry.missing(call.handler, call.version)}"
        )
    try:
        if spec.kind is Kind.TASK or not has_begun(history.loaded):
            spec.signature.decode(call.args)
            return None
        return _replay(registry, spec, history, before)
    except NonDeterminismError as error:
        reason = f"recorded was {error.recorded}, the code now asks for {error.asked}"
        return _divergence(history.loaded, reason, error.position, error.recorded, error.asked)
    except (EncodingError, EndlessLoopError, UsageError) as error:
        if call.status is Status.FAILED and call.failure and call.failure.message == str(error):
            return None
        return _divergence(history.loaded, str(error))


def has_begun(loaded: Loaded) -> bool:
    """Its code has: a call that ended while it waited to begin has no history."""
    call = loaded.invocation
    if call.status in (Status.CANCELLED, Status.TIMED_OUT):
        return bool(loaded.entries)
    return call.started_at is not None


def _divergence(
    loaded: Loaded,
    reason: str,
    position: int | None = None,
    recorded: str | None = None,
    asked: str | None = None,
) -> Divergence:
    call = loaded.invocation
    return Divergence(call.id, call.handler, call.version, reason, position, recorded, asked)


def _replay(
    registry: Registry, spec: HandlerSpec, history: History, before: Callable[[int], None]
) -> Divergence | None:
    call = history.loaded.invocation
    instance = None
    if spec.entity is not None:
        if call.status in FINISHED:
            raise UsageError(
                "an operation can be replayed only while it is open: the state of its entity before it is "
                "not kept"
            )
        instance = spec.entity.instance(call.key or "", history.state, history.state_version)
    code = spec.coroutine(call.args, instance)
    coroutine = replayed(registry.middleware, call, spec.kind, code)
    activation = Activation(call, coroutine, call.started_at or 0.0, registry)
    if spec.entity is not None:
        activation.restate = partial(spec.entity.assign, instance)
    try:
        activation.replay(history.loaded.entries, before)
        reason = _unlike(spec, history.loaded, activation)
    finally:
        activation.leave()
    last = len(history.loaded.entries)
    return None if reason is None else _divergence(history.loaded, reason, last)


def _unlike(spec: HandlerSpec, loaded: Loaded, activation: Activation) -> str | None:
    """What is different behind the end of the journal."""
    call = loaded.invocation
    if activation.hopeless:
        return "it waits for something that nothing will ever do: no step, call, signal or timer"
    if call.status not in FINISHED or (call.cancel_reason or "").startswith(TERMINATED):
        return None
    if not activation.main.done():
        return (
            f"it is {call.status}, and the code of today still waits for {activation.waits_for()}"
        )
    ended = _ended(spec, activation)
    was = (call.status, call.result, None if call.failure is None else call.failure.message)
    if call.status is Status.TIMED_OUT and ended[0] in (Status.CANCELLED, Status.FAILED):
        return None
    if ended[::2] == was[::2] and _same(activation.main, call.result, ended[1]):
        return None
    return f"it ended {_words(*was)}, and with the code of today it ends {_words(*ended)}"


def _ended(spec: HandlerSpec, activation: Activation) -> tuple[Status, Payload | None, str | None]:
    main = activation.main
    if main.cancelled():
        return Status.CANCELLED, None, None
    error = main.exception()
    if error is None:
        return Status.COMPLETED, spec.signature.result.encode(main.result()), None
    return Status.FAILED, None, failure_of(error).message


def _same(main: asyncio.Task[Any], was: Payload | None, is_: Payload | None) -> bool:
    """Whether two results are the same: the recorded one may be in another format than is written today."""
    if was is None or is_ is None or isinstance(was, str) == isinstance(is_, str):
        return was == is_
    try:
        data = Codec(format="json" if isinstance(was, str) else "msgpack").write(main.result())
    except (TypeError, ValueError, OverflowError):
        return False  # A value that the other format does not know.
    return data == (was.encode() if isinstance(was, str) else was)


def _words(status: Status, value: object, message: str | None) -> str:
    if status is Status.COMPLETED:
        return f"completed with {value!r}"
    return str(status) + (f" with {message!r}" if message else "")
