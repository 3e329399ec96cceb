"""Search attributes: typed values by name, by which calls are found. Stored readable, as a JSON object.

Text, numbers and booleans are themselves; an instant is `{"time": seconds since 1970}`. Each value has a
kind, and is compared with values of its kind only: 7 and 7.0 are equal, 7 and "7" and true are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from fenbu._core import limit
from fenbu.errors import UsageError

AttributeValue: TypeAlias = str | int | float | bool | datetime

OPERATORS: Final = ("=", "<", "<=", ">", ">=")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Condition(Struct, frozen=True):
    """What an attribute must be."""

    name: str
    operator: str
    kind: str
    """`text`, `number`, `bool` or `time`."""
    value: str | float | int
    """As it is compared: a bool is 0 or 1, an instant its seconds since 1970."""


def encoded(values: Mapping[str, AttributeValue | None]) -> str | None:
    """The JSON of attributes, null for one that is to go; None if there are none.

    Raises:
        UsageError: A name or value is none that an attribute can have, or there are too many.
    """
    if not values:
        return None
    if len(values) > limit.ATTRIBUTES_MAX:
        raise UsageError(f"a call may have {limit.ATTRIBUTES_MAX} attributes, not {len(values)}")
    return msgspec.json.encode(
        {_name(name): _plain(name, each) for name, each in values.items()}
    ).decode()


def given(values: Mapping[str, AttributeValue | None]) -> str | None:
    """The JSON of those that a call begins with: without those that are None. See `encoded`."""
    return encoded({name: each for name, each in values.items() if each is not None})


def merged(before: str | None, changes: str) -> str | None:
    """Attributes after a change."""
    values = {**(_decode(before) if before else {}), **_decode(changes)}
    left = {name: each for name, each in values.items() if each is not None}
    return msgspec.json.encode(left).decode() if left else None


def decoded(text: str | None) -> dict[str, AttributeValue]:
    """The values by name."""
    found: dict[str, AttributeValue] = {}
    for name, plain in (_decode(text) if text else {}).items():
        kind, value = _compared(plain)
        found[name] = datetime.fromtimestamp(value, UTC) if kind == "time" else plain
    return found


def condition(name: str, operator: str, value: AttributeValue) -> Condition:
    """One that calls are to fulfil.

    Raises:
        UsageError: There is no such operator, or no attribute can have this name or value.
    """
    if operator not in OPERATORS:
        raise UsageError(f"attribute {name}: {operator!r} is none of {', '.join(OPERATORS)}")
    plain = _plain(_name(name), value)
    kind, comparable = _compared(plain)
    return Condition(name, operator, kind, comparable)


def holds(wanted: Condition, text: str | None) -> bool:
    """Whether these attributes fulfil a condition."""
    plain = (_decode(text) if text else {}).get(wanted.name)
    if plain is None:
        return False
    kind, value = _compared(plain)
    if kind != wanted.kind:
        return False
    match wanted.operator:
        case "=":
            return value == wanted.value
        case "<":
            return value < wanted.value
        case "<=":
            return value <= wanted.value
        case ">":
            return value > wanted.value
        case _:
            return value >= wanted.value


def _compared(plain: Any) -> tuple[str, Any]:
    if isinstance(plain, bool):
        return "bool", int(plain)
    if isinstance(plain, str):
        return "text", plain
    return ("number", plain) if isinstance(plain, int | float) else ("time", float(plain["time"]))


def _name(name: Any) -> str:
    if (
        isinstance(name, str)
        and name.isidentifier()
        and len(name) <= limit.ATTRIBUTE_NAME_LENGTH_MAX
    ):
        return name
    raise UsageError(
        f"an attribute's name is letters, digits and _, at most {limit.ATTRIBUTE_NAME_LENGTH_MAX} of them, "
        f"and not {_brief(name)}"
    )


def _plain(name: str, value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case str() if len(value.encode("utf-8", "replace")) <= limit.ATTRIBUTE_TEXT_BYTES_MAX and (
            value.isprintable()
        ):
            return str(value)
        case int() if -(2**63) <= value < 2**63:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case datetime() if value.tzinfo is not None:
            return {"time": value.timestamp()}
        case datetime():
            raise UsageError(
                f"attribute {name}: {value} has no time zone; write datetime(…, tzinfo=UTC)"
            )
        case _:
            raise UsageError(
                f"attribute {name}: a value is a printable text of at most "
                f"{limit.ATTRIBUTE_TEXT_BYTES_MAX:,} bytes, an int of 64 bits, a finite float, a bool or a "
                f"datetime, and not {_brief(value)}"
            )


def _brief(value: object) -> str:
    text = f"{value!r}"
    return text if len(text) <= 80 else f"{text[:79]}…"
