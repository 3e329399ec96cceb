"""Options of calls and of handlers, checked where they are given."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec import Struct

from fenbu._core import ids, limit
from fenbu._core.command import ParentEnd
from fenbu._core.handler import HandlerSpec
from fenbu._core.message import IfExists
from fenbu._core.need import Limits
from fenbu.errors import UsageError


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


def checked_parent_end(value: str) -> ParentEnd:
    """What becomes of a call when its parent ends.

    Raises:
        UsageError: It is none of the three.
    """
    try:
        return ParentEnd(value)
    except ValueError:
        raise UsageError(
            f"on_parent_end must be 'abandon', 'cancel' or 'wait', not {value!r}"
        ) from None


def checked_if_exists(value: str, id_: str | None) -> IfExists:
    """What the call means if its id exists.

    Raises:
        UsageError: It is none of the four, or there is no id that could exist.
    """
    try:
        policy = IfExists(value)
    except ValueError:
        raise UsageError(
            f"if_exists must be 'reuse', 'reject', 'replace' or 'after_failure', not {value!r}"
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
        UsageError: A duration makes no sense, or the version is no positive number.
    """
    if type(version) is not int or version < 1:
        raise UsageError(f"version must be a whole number from 1 on, not {version!r}")
    kept = seconds(retention, "retention")
    return HandlerSpec(
        version=version,
        timeout_seconds=seconds(timeout, "timeout"),
        attempt_timeout_seconds=seconds(attempt_timeout, "attempt_timeout"),
        limits=limits_of(soft_timeout, heartbeat_timeout),
        retention_seconds=limit.RETENTION_SECONDS if kept is None else kept,
        **fields,
    )
