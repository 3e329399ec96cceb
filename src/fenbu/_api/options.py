"""How one call is made: its id, delay and timeout."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from fenbu._core import limit
from fenbu.errors import UsageError


class CallOptions(Struct, frozen=True, kw_only=True):
    """See `DurableFunction.options`."""

    id: str | None = None
    delay_seconds: float = 0.0
    timeout_seconds: float | None = None


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


def checked_id(id_: str | None) -> str | None:
    """An id that a caller chose.

    Raises:
        UsageError: It is empty or too long.
    """
    if id_ is None:
        return None
    if not isinstance(id_, str) or not 0 < len(id_) <= limit.ID_LENGTH_MAX:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"id must be a text of 1 to {limit.ID_LENGTH_MAX} characters, not {id_!r}")
    return id_


def checked_key(entity: str, key: str) -> str:
    """The key of an entity.

    Raises:
        UsageError: It is no text, empty or too long.
    """
    if not isinstance(key, str) or not 0 < len(key) <= limit.KEY_LENGTH_MAX:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(
            f"{entity}(key): the key must be a text of 1 to {limit.KEY_LENGTH_MAX} characters, "
            f"not {key!r}"
        )
    return key
