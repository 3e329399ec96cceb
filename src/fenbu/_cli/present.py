"""How the commands show calls: instants, durations, statuses, payloads, tables, JSON."""

from __future__ import annotations

import base64
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fenbu._core import journal
from fenbu._core.attribute import Condition, condition, decoded
from fenbu._core.command import MarkPatch
from fenbu._core.field import read_names
from fenbu._core.model import (
    EntityState,
    Entry,
    Failure,
    Invocation,
    Loaded,
    Payload,
    Status,
)
from fenbu._core.pause import NEVER_SECONDS
from fenbu._storage.seal import MARK
from fenbu._storage.stream import StreamInfo
from fenbu.errors import UsageError

COLOURS = {
    Status.PENDING: "cyan",
    Status.RUNNING: "blue",
    Status.SUSPENDED: "magenta",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
    Status.TIMED_OUT: "yellow",
    Status.STUCK: "bold red",
    Status.QUARANTINED: "bold red",
    Status.UNHANDLED: "bold yellow",
    Status.PAUSED: "yellow",
}

SEALED = b"\xc1"
"""How bytes begin that a hook has made."""

COLUMNS_MAX = 10_000
"""The width of what is no terminal: nothing is cut or wrapped for a program that reads it."""


def _width() -> int | None:
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else COLUMNS_MAX


console = Console(highlight=False, width=_width())


# For reading.


def status_text(status: Status) -> str:
    return f"[{COLOURS[status]}]{status}[/]"


def instant(at: float | None) -> str:
    return "" if at is None else _local(at).strftime("%Y-%m-%d %H:%M:%S")


def instant_short(at: float) -> str:
    """Without the date if it is today's."""
    local = _local(at)
    today = datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M")


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone()


def duration(seconds: float | None) -> str:
    """In the unit that a person would use."""
    if seconds is None:
        return ""
    for unit, length, until in (("ms", 0.001, 1.0), ("s", 1, 120.0), ("min", 60, 7200.0)):
        if seconds < until:
            return f"{seconds / length:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def count_of(count: int, noun: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def payload_text(payload: Payload | None, length: int = 200) -> str:
    """A payload for reading: JSON as it is, MessagePack as JSON, other bytes by their size."""
    if not payload:
        return ""
    text = payload if isinstance(payload, str) else _unpacked(payload)
    return text if len(text) <= length else text[: length - 1] + "…"


def _unpacked(data: bytes) -> str:
    try:
        return msgspec.json.encode(msgspec.msgpack.decode(data)).decode()
    except (msgspec.DecodeError, TypeError, ValueError):
        hidden = ", which the app's hook can read: pass --app" if data[:1] == SEALED else ""
        return f"<{len(data)} bytes{hidden}>"


def failure_text(failure: Failure | None) -> str:
    if failure is None:
        return ""
    message = failure.message
    if message.startswith(MARK):
        message = "<text that the app's hook can read: pass --app>"
    return f"{failure.type.rpartition(':')[2]}: {message}"


def attributes_text(text: str | None) -> str:
    """Search attributes for reading."""
    return ", ".join(f"{name}={value}" for name, value in decoded(text).items())


def patches_of(loaded: Loaded) -> list[str]:
    """The changes whose new way a call has taken."""
    texts = [loaded.invocation.commands, *(each.commands for each in loaded.entries)]
    return [
        name for text in texts for kind, name, _ in journal.recorded(text) if kind == MarkPatch.kind
    ]


def due_at(call: Invocation) -> float | None:
    """When it wakes by itself; while it is paused, when it would have."""
    if call.status is Status.PAUSED and call.wake_at is not None:
        return call.wake_at - NEVER_SECONDS or None
    return call.wake_at


def calls_table(calls: list[Invocation]) -> Table:
    """One line for each call; what does not fit is cut, but never an id."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("ID", no_wrap=True, min_width=max((len(each.id) for each in calls), default=2))
    for name in ("HANDLER", "KEY", "STATUS", "ACCEPTED", "TOOK", "RESULT, ERROR OR WAIT"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for each in calls:
        end = each.finished_at or time.time()
        took = duration(end - each.started_at) if each.started_at is not None else ""
        last = failure_text(each.failure) or payload_text(each.result, 60) or each.waiting or ""
        if each.status is Status.UNHANDLED:
            last = each.waiting or last
        table.add_row(
            escape(each.id), escape(each.handler), escape(each.key or ""), status_text(each.status),
            instant_short(each.created_at), took, escape(first_line(last)),
        )  # fmt: skip
    return table


# For programs. The keys are written out, so that they stay when a field of the engine's is renamed.


def print_json(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def payload_data(payload: Payload | None) -> Any:
    """A payload as the JSON that it is; bytes that are no MessagePack as `{"base64": …}`."""
    if not payload:
        return None
    try:
        if isinstance(payload, bytes):
            return msgspec.Raw(msgspec.json.encode(msgspec.msgpack.decode(payload)))
        msgspec.json.decode(payload)
        # As it stands there: numbers keep all their digits.
        return msgspec.Raw(payload.encode())
    except (msgspec.DecodeError, TypeError, ValueError):
        data = payload if isinstance(payload, bytes) else payload.encode()
        return {"base64": base64.b64encode(data).decode()}


def failure_data(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {
        "type": failure.type,
        "message": failure.message,
        "traceback": failure.traceback,
    }


def call_data(call: Invocation) -> dict[str, Any]:
    """A call; instants are seconds since 1970."""
    return {
        "id": call.id,
        "handler": call.handler,
        "version": call.version,
        "entity": call.entity,
        "key": call.key,
        "status": call.status,
        "args": payload_data(call.args),
        "result": payload_data(call.result),
        "failure": failure_data(call.failure),
        "created_at": call.created_at,
        "started_at": call.started_at,
        "finished_at": call.finished_at,
        "wake_at": due_at(call),
        "deadline_at": call.deadline_at,
        "attempt": call.attempt,
        "waiting": call.waiting,
        "cancel_reason": call.cancel_reason,
        "parent": None if call.parent is None else call.parent.id,
        "attributes": msgspec.Raw((call.attributes or "{}").encode()),
        "context": call.context,
        "heartbeats": [
            {"command": each.command, "at": each.at, "value": payload_data(each.value)}
            for each in call.heartbeats
        ],
    }


def stream_data(info: StreamInfo) -> dict[str, Any]:
    """A stream of a call; instants are seconds since 1970."""
    return {
        "stream": info.stream,
        "chunks": info.chunk_count,
        "closed": info.is_closed,
        "changed_at": info.changed_at,
    }


def stream_text(info: StreamInfo) -> str:
    """A stream in words: `tokens (812, closed)`."""
    return f"{info.stream} ({info.chunk_count}{', closed' if info.is_closed else ''})"


def commands_data(text: str | None) -> list[dict[str, str]]:
    """What code asked for."""
    return [
        {"kind": kind, "name": name, "location": location}
        for kind, name, location in journal.recorded(text)
    ]


def entry_data(entry: Entry) -> dict[str, Any]:
    """A journal entry."""
    return {
        "position": entry.position,
        "kind": entry.kind,
        "at": entry.at,
        "command": entry.command or None,
        "name": entry.name,
        "attempt": entry.attempt or None,
        "seconds": entry.seconds,
        "status": entry.status,
        "value": payload_data(entry.value),
        "failure": failure_data(entry.failure),
        "retry_at": entry.retry_at,
        "commands": commands_data(entry.commands),
    }


def entity_data(state: EntityState) -> dict[str, Any]:
    """The state of an entity."""
    return {
        "entity": state.entity,
        "key": state.key,
        "state": payload_data(state.state),
        "lazy": read_names(state.fields),
        "version": state.version,
        "changed_at": state.changed_at,
        "expires_at": state.expires_at,
    }


# What people write.


def seconds_of(text: str) -> float:
    """`90`, `15m`, `2h`, `7d` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration: write 90, 15m, 2h or 7d")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def instant_of(text: str) -> float:
    """`2h` ago, or a date and time in ISO form, as seconds since 1970."""
    try:
        return time.time() - seconds_of(text)
    except click.BadParameter:
        pass
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r}: write 2h (ago), or a date as 2026-01-31T12:00"
        ) from None


def condition_of(text: str) -> Condition:
    """`customer=7`, `total>100.5`, `paid=true`, `due<2026-01-31`, `city=Oslo`, `code="7"`."""
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|=|<|>)\s*(.*)", text, re.DOTALL)
    if found is None:
        raise click.BadParameter(f"{text!r} is no condition: write customer=7 or 'total>100'")
    name, operator, written = found.groups()
    value: Any = written
    try:
        value = msgspec.json.decode(written)
    except msgspec.DecodeError:
        try:
            value = datetime.fromisoformat(written).astimezone()
        except ValueError:
            pass
    try:
        return condition(name, operator, value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None
