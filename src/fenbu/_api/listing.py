"""Finding calls: by handler, status, time and search attributes, page by page; and changing attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeAlias, cast

from msgspec import Struct
from msgspec.structs import replace

from fenbu._api.bulk import Action, Calls, Forks, steer
from fenbu._api.context import activation, required_activation
from fenbu._api.runtime import Runtime
from fenbu._core import limit as limits
from fenbu._core.attribute import AttributeValue, Condition, condition, decoded, encoded
from fenbu._core.command import SetAttributes
from fenbu._core.location import caller
from fenbu._core.model import Invocation, Status
from fenbu._storage.observer import CallFilter, Observer
from fenbu.errors import UsageError

Where: TypeAlias = tuple[str, Literal["=", "<", "<=", ">", ">="], AttributeValue]
"""A condition on a search attribute: its name, an operator, a value."""


class CallInfo(Struct, frozen=True, kw_only=True):
    """What is known of a call, without its arguments and result.

    Attributes:
        id: The call's id, for `App.handle`.
        handler: The name of its task, workflow or operation.
        version: Of the handler.
        status: Where it is in its life.
        entity: The name of the entity's class, for an operation.
        key: The entity's key, for an operation.
        created_at: When it was accepted, in UTC.
        started_at: When its code began.
        finished_at: When it ended.
        waiting: In words, what it waits for while it is in no node's memory.
        error: The error that it ended with, or that of the last attempt: type and text.
        attributes: Its search attributes.
    """

    id: str
    handler: str
    version: int
    status: Status
    entity: str | None
    key: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    waiting: str | None
    error: str | None
    attributes: dict[str, AttributeValue]


class CallPage(Struct, frozen=True):
    """Some calls, newest first.

    Attributes:
        calls: They.
        next: Give it as `after` for the page that follows; None if there is none.
    """

    calls: list[CallInfo]
    next: str | None


async def list_calls(
    runtime: Runtime,
    *,
    handler: str | None,
    statuses: Iterable[Status] | None,
    where: Sequence[Where],
    since: datetime | None,
    before: datetime | None,
    limit: int,
    after: str | None,
) -> CallPage:
    """See `App.list_calls`."""
    _check_outside("list_calls()")
    if not 1 <= limit <= limits.LIST_CALLS_MAX:
        raise UsageError(f"limit must be from 1 to {limits.LIST_CALLS_MAX:,}, not {limit!r}")
    wanted = replace(
        _filter(handler, statuses, where, since, before),
        after=None if after is None else _read_cursor(after),
        limit=limit + 1,
    )
    storage = cast("Observer", runtime.gateway.storage)
    found = await storage.list_calls(wanted)
    page = found[:limit]
    more = f"{page[-1].created_at!r}~{page[-1].id}" if len(found) > limit else None
    return CallPage([_info(each) for each in page], more)


async def steer_calls(
    runtime: Runtime,
    action: Action,
    *,
    handler: str | None,
    statuses: Iterable[Status] | None,
    where: Sequence[Where],
    since: datetime | None,
    before: datetime | None,
    reason: str,
    step: int | str | None,
    progress: Callable[[int], None] | None,
) -> int:
    """See `App.steer_calls`."""
    _check_outside("steer_calls()")
    gateway = runtime.gateway
    steered = await steer(
        action,
        _filter(handler, statuses, where, since, before),
        reason=reason,
        calls=cast("Calls", gateway.storage),
        forks=Forks(gateway.clock, runtime.registry.partition_count, step),
        send=gateway.send_many,
        progress=progress,
    )
    return steered.told


def _check_outside(what: str) -> None:
    if activation() is not None:
        raise UsageError(f"{what} changes from moment to moment: ask for it in a step")


def _filter(
    handler: str | None,
    statuses: Iterable[Status] | None,
    where: Sequence[Where],
    since: datetime | None,
    before: datetime | None,
) -> CallFilter:
    return CallFilter(
        statuses=None if statuses is None else tuple(statuses),
        handler=handler,
        created_after=None if since is None else since.timestamp(),
        created_before=None if before is None else before.timestamp(),
        where=tuple(map(_condition, where)),
    )


def _condition(each: Where) -> Condition:
    if not isinstance(each, tuple | list) or len(each) != 3:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(
            "where: a condition is a name, an operator and a value, as in [('customer', '=', 'c-1')], not "
            f"{each!r}"
        )
    return condition(*each)


def _read_cursor(text: str) -> tuple[float, str]:
    at, _, id_ = text.partition("~")
    try:
        return float(at), id_
    except ValueError:
        raise UsageError(f"after={text!r}: it must be the `next` of another page") from None


def _info(call: Invocation) -> CallInfo:
    failure = call.failure
    return CallInfo(
        id=call.id,
        handler=call.handler,
        version=call.version,
        status=call.status,
        entity=call.entity,
        key=call.key,
        created_at=datetime.fromtimestamp(call.created_at, UTC),
        started_at=_instant(call.started_at),
        finished_at=_instant(call.finished_at),
        waiting=call.waiting,
        error=None if failure is None else f"{failure.type.rpartition(':')[2]}: {failure.message}",
        attributes=decoded(call.attributes),
    )


def _instant(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def set_attributes(**values: AttributeValue | None) -> None:
    """Change search attributes of the running workflow or operation; None takes one away.

    It is recorded like everything that the code asks for, and a replay does not do it again. Attributes are
    not encrypted.

    Args:
        values: By name: a text of at most 1,000 bytes, an int, a float, a bool, or a datetime with its zone.

    Raises:
        UsageError: This is not the code of a workflow or operation, or no attribute can have such a value.

    Example:
        ```python
        set_attributes(stage="paid", total=order.total)
        ```
    """
    running = required_activation("set_attributes()")
    changes = encoded(values)
    if changes is not None:
        running.issue(SetAttributes(" ".join(sorted(values)), caller(), changes))
