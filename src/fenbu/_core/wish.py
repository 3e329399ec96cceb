"""What an operation asks for its entity besides new values of fields: alarms, and to be deleted.

It waits on the instance until the operation ends well, and is then done in the batch that has its result.
So it needs no command in the journal: a replay asks for the same again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct, field

from fenbu._core import ids
from fenbu._core.model import Invocation, Payload
from fenbu.errors import UsageError

ATTRIBUTE: Final = "_wishes"
"""Under which an instance has them."""

Alarms = dict[str, str]
"""Of an entity: by the name of an operation, the call that waits for its instant."""

_decoder = msgspec.json.Decoder(Alarms)


class Alarm(Struct, frozen=True):
    """A call of an operation at an instant."""

    at: float
    handler: str
    version: int
    args: Payload


class Wishes(Struct):
    """See the module."""

    deleted: bool = False
    alarms: dict[str, Alarm | None] = field(default_factory=dict)
    """By operation; None is none any more."""


def read_only_refusal(operation: str, entity: str, wishes: Wishes | None) -> UsageError:
    """What an operation hears that may not change its entity, and has done so."""
    did = "changed the state of"
    if wishes is not None:
        did = "deleted" if wishes.deleted else "set or cancelled an alarm of"
    return UsageError(f"{operation} is marked read_only, but it {did} {entity}")


def wishes_of(instance: Any) -> Wishes:
    """Those of the operation that runs on an instance."""
    attributes: dict[str, Any] = instance.__dict__
    found = attributes.get(ATTRIBUTE)
    if found is None:
        found = attributes[ATTRIBUTE] = Wishes()
    return found


def read_alarms(text: str | None) -> Alarms:
    """Those of an entity, as its row has them."""
    return {} if text is None else _decoder.decode(text)


def write_alarms(alarms: Alarms) -> str | None:
    """As `read_alarms` reads them."""
    return msgspec.json.encode(alarms).decode() if alarms else None


def alarm_call(alarm: Alarm, operation: str, by: Invocation, now: float) -> Invocation:
    """The call that waits for the instant of an alarm, which an operation has set."""
    run = ids.run_id(by.id, by.attempt)
    return Invocation(
        id=ids.alarm_id(run, operation),
        partition=by.partition,
        handler=alarm.handler,
        version=alarm.version,
        entity=by.entity,
        key=by.key,
        args=alarm.args,
        created_at=now,
        wake_at=alarm.at,
    )
