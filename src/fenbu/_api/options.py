"""Options of calls and of handlers, checked where they are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from fenbu._core import ids, limit
from fenbu._core.attribute import AttributeValue, given
from fenbu._core.command import ParentEnd
from fenbu._core.handler import HandlerSpec
from fenbu._core.message import Call, IfExists
from fenbu._core.need import Limits
from fenbu.errors import UsageError

IfExistsPolicy: TypeAlias = Literal["reuse", "reject", "replace", "after_failure", "after_end"]


class CallOptions(Struct, frozen=True, kw_only=True, gc=False):
    """See `DurableFunction.options`."""

    id: str | None = None
    delay_seconds: float = 0.0
    timeout_seconds: float | None = None
    transaction: Any = None
    parent_end: ParentEnd = ParentEnd.ABANDON
    if_exists: IfExists = IfExists.REUSE
    attributes: str | None = None


DEFAULT = CallOptions()


def seconds(value: float | timedelta | None, name: str) -> float | None:
    """A duration in seconds.

    Raises:
        UsageError: It is negative or no number.
    """
    if value is None:
        return None
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not number >= 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{name} must be seconds (a number ≥ 0) or a timedelta, not {value!r}")
    return float(number)


def changed_options(
    before: CallOptions,
    *,
    id_: str | None,
    delay: float | timedelta | None,
    timeout: float | timedelta | None,
    transaction: object,
    on_parent_end: str | None,
    if_exists: str | None,
    attributes: Mapping[str, AttributeValue | None] | None,
) -> CallOptions:
    """Other options: None leaves one as it was.

    Raises:
        UsageError: A value makes no sense.
    """
    chosen = checked_id(id_) or before.id
    most = seconds(timeout, "timeout")
    return CallOptions(
        id=chosen,
        delay_seconds=seconds(delay, "delay") or before.delay_seconds,
        timeout_seconds=before.timeout_seconds if most is None else most,
        transaction=before.transaction if transaction is None else transaction,
        parent_end=before.parent_end if on_parent_end is None else _parent_end(on_parent_end),
        if_exists=before.if_exists if if_exists is None else _if_exists(if_exists, chosen),
        attributes=before.attributes if attributes is None else given(attributes),
    )


def ticketed(call: Call, options: CallOptions, ticket: str) -> Call:
    """A call whose sender hears by a ticket what became of it; in his own transaction there is none.

    Raises:
        UsageError: He wants to hear there whether it is rejected.
    """
    if options.transaction is None:
        return replace(call, if_exists=options.if_exists, ticket=ticket)
    if options.if_exists is IfExists.REJECT:
        raise UsageError(
            f"{call.invocation.handler}: whether the call is rejected is known only when your transaction "
            "has committed: if_exists='reject' is for calls outside of it"
        )
    return replace(call, if_exists=options.if_exists)


def check_inside(options: CallOptions, name: str, *, wait: bool) -> None:
    """Whether a call can be made so by workflow and entity code.

    Raises:
        UsageError: It cannot.
    """
    if options.transaction is not None:
        raise UsageError(
            f"{name}: workflow and entity code has no transaction of its own; start calls with your "
            "connection inside a step: `await tx_step(function, …)`"
        )
    if options.if_exists is IfExists.REJECT and not wait:
        raise UsageError(
            f"{name}: code of a workflow that only starts a call does not hear whether it is rejected: "
            "await the call itself, or start it in a step"
        )


def check_outside(options: CallOptions, name: str) -> None:
    """Whether a call can be made so elsewhere: also by the body of a task or step.

    Raises:
        UsageError: It cannot.
    """
    if options.parent_end is not ParentEnd.ABANDON:
        raise UsageError(
            f"{name}: on_parent_end is for calls that the code of a workflow or operation makes; this one is "
            "made elsewhere, and has no parent"
        )


def _parent_end(value: str) -> ParentEnd:
    try:
        return ParentEnd(value)
    except ValueError:
        raise UsageError(
            f"on_parent_end must be 'abandon', 'cancel' or 'wait', not {value!r}"
        ) from None


def _if_exists(value: str, id_: str | None) -> IfExists:
    try:
        policy = IfExists(value)
    except ValueError:
        raise UsageError(
            "if_exists must be 'reuse', 'reject', 'replace', 'after_failure' or 'after_end', not "
            f"{value!r}"
        ) from None
    if id_ is None:
        raise UsageError(
            "if_exists belongs to calls with an id of your own: `options(id=…, if_exists=…)`"
        )
    return policy


def checked_id(id_: str | None) -> str | None:
    """An id that a caller chose for a new call.

    Raises:
        UsageError: It is empty, too long, or looks like an id that fenbu makes.
    """
    if id_ is not None and not (isinstance(id_, str) and ids.is_valid(id_)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(
            f"id must be a text of 1 to {limit.ID_LENGTH_MAX} printable characters without / and ~, "
            f"not {id_!r}"
        )
    return id_


def checked_key(entity: str, key: str) -> str:
    """The key of an entity.

    Raises:
        UsageError: It is no text, empty or too long.
    """
    text = isinstance(key, str)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not text or not (0 < len(key) <= limit.KEY_LENGTH_MAX and key.isprintable()):
        raise UsageError(
            f"{entity}(key): the key must be a text of 1 to {limit.KEY_LENGTH_MAX} printable characters, "
            f"not {key!r}"
        )
    return key


def count(value: int, name: str) -> int:
    """A whole number from 1 on.

    Raises:
        UsageError: It is none.
    """
    if type(value) is not int or value < 1:
        raise UsageError(f"{name} must be a whole number from 1 on, not {value!r}")
    return value


def megabytes(value: float | None, name: str) -> float | None:
    """A size in megabytes, above zero; None for no limit.

    Raises:
        UsageError: It is none.
    """
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{name} must be megabytes (a number above 0), not {value!r}")
    return value


def check_soft(limits: Limits | None, hard_seconds: float | None, hard: str) -> None:
    """Whether a soft limit comes before the hard one, which is called `hard`.

    Raises:
        UsageError: It does not, and so would never be told.
    """
    soft = None if limits is None else limits.soft_seconds
    if soft is not None and hard_seconds is not None and soft >= hard_seconds:
        raise UsageError(
            f"soft_timeout ({soft:g} seconds) must be shorter than {hard} ({hard_seconds:g} seconds), which "
            "ends the attempt"
        )


def limits_of(
    soft_timeout: float | timedelta | None, heartbeat_timeout: float | timedelta | None
) -> Limits | None:
    """The limits of an attempt; None if there are none.

    Raises:
        UsageError: A duration makes no sense.
    """
    soft, silence = (
        seconds(soft_timeout, "soft_timeout"),
        seconds(heartbeat_timeout, "heartbeat_timeout"),
    )
    return None if soft is None and silence is None else Limits(soft, silence)


def make_spec(
    *,
    version: int = 1,
    timeout: float | timedelta | None = None,
    attempt_timeout: float | timedelta | None = None,
    soft_timeout: float | timedelta | None = None,
    heartbeat_timeout: float | timedelta | None = None,
    retention: float | timedelta | None = None,
    **fields: Any,
) -> HandlerSpec:
    """A HandlerSpec from the options of a decorator.

    Raises:
        UsageError: A duration makes no sense, also beside another, or the version is no positive number.
    """
    most = seconds(attempt_timeout, "attempt_timeout")
    limits = limits_of(soft_timeout, heartbeat_timeout)
    check_soft(limits, most, "attempt_timeout")
    kept = seconds(retention, "retention")
    return HandlerSpec(
        version=count(version, "version"),
        timeout_seconds=seconds(timeout, "timeout"),
        attempt_timeout_seconds=most,
        limits=limits,
        retention_seconds=limit.RETENTION_SECONDS if kept is None else kept,
        **fields,
    )
