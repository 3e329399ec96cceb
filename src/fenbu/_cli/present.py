"""How the commands show calls: instants, durations, statuses, payloads, tables, JSON."""

from __future__ import annotations

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

from fenbu._core.model import Failure, Invocation, Payload, Status

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
}

console = Console(highlight=False)


def status_text(status: Status) -> str:
    return f"[{COLOURS[status]}]{status}[/]"


def instant(at: float | None) -> str:
    if at is None:
        return ""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return (
        f"{minutes:.0f} min"
        if minutes < 120
        else f"{hours:.1f} h"
        if hours < 48
        else f"{hours / 24:.1f} d"
    )


def payload_text(payload: Payload | None, length: int = 200) -> str:
    """A payload for reading: JSON as it is, bytes by their size."""
    if payload is None:
        return ""
    text = payload if isinstance(payload, str) else _unpacked(payload)
    return text if len(text) <= length else text[: length - 1] + "…"


def _unpacked(data: bytes) -> str:
    try:
        return msgspec.json.encode(msgspec.msgpack.decode(data)).decode()
    except (msgspec.DecodeError, TypeError, ValueError):
        return f"<{len(data)} bytes>"


def failure_text(failure: Failure | None) -> str:
    return "" if failure is None else f"{failure.type.partition(':')[2]}: {failure.message}"


def as_data(value: Any) -> dict[str, Any]:
    """A struct as plain data, with its payloads as the JSON that they are."""
    data: dict[str, Any] = msgspec.to_builtins(value)
    for name in ("args", "result", "value", "state", "commands"):
        if isinstance(data.get(name), str):
            try:
                data[name] = msgspec.json.decode(data[name])
            except msgspec.DecodeError:
                continue
    return data


def print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def calls_table(calls: list[Invocation]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("ID", "HANDLER", "KEY", "STATUS", "CREATED", "TOOK", "RESULT, ERROR OR WAIT"):
        table.add_column(name, overflow="fold" if name == "ID" else "ellipsis")
    for each in calls:
        end = each.finished_at or time.time()
        took = duration(end - each.started_at) if each.started_at is not None else ""
        last = failure_text(each.failure) or payload_text(each.result, 60) or each.waiting or ""
        table.add_row(
            escape(each.id), escape(each.handler), escape(each.key or ""), status_text(each.status),
            instant(each.created_at), took, escape(last.splitlines()[0] if last else ""),
        )  # fmt: skip
    return table


def seconds_of(text: str) -> float:
    """`90`, `15m`, `2h`, `7d` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration: write 90, 15m, 2h or 7d")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def instant_of(text: str | None) -> float | None:
    """`2h` ago, or a date and time in ISO form, as seconds since 1970."""
    if text is None:
        return None
    try:
        return time.time() - seconds_of(text)
    except click.BadParameter:
        pass
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: write 2h (ago), or a date as 2026-01-31T12:00"
        ) from None
