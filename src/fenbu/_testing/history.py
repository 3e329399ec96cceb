"""What a call did, for assertions: what its code asked for, how often it was tried, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from fenbu._api.handle import Handle
from fenbu._core import journal
from fenbu._core.codec import Codec
from fenbu._core.command import UNNUMBERED
from fenbu._core.model import EntryKind, Loaded, Status
from fenbu._storage.seal import Seal
from fenbu._testing.cluster import Cluster
from fenbu.errors import CallNotFound, UsageError


class CallHistory(Struct, frozen=True):
    """A call as its journal tells it."""

    id: str
    handler: str
    version: int
    status: Status
    asked: tuple[str, ...]
    """What its code asked for, in order: `step charge`, `call Stock.reserve`, `timer`, `signal paid`."""
    events: tuple[str, ...]
    """What came, in order: `step_completed charge`, `timer_fired`, `signal_received paid`, …"""
    result: Any
    """What it returned, as plain Python data; None while it is open, or if it has failed."""
    error: str | None
    """The error with which it ended, as `ValueError: no money`."""
    _attempts: dict[str, int]

    @property
    def steps(self) -> list[str]:
        """The names of its steps, in the order in which the code asked for them."""
        return [each.removeprefix("step ") for each in self.asked if each.startswith("step ")]

    def attempts(self, step: str) -> int:
        """How often a step was tried until its outcome was recorded, all steps of this name together."""
        return self._attempts.get(step, 0)

    def has_asked(self, *wanted: str) -> bool:
        """Whether its code asked for all of these, in this order, with or without others between them."""
        return _in_order(self.asked, wanted)

    def has_seen(self, *wanted: str) -> bool:
        """Whether all of these events came, in this order, with or without others between them."""
        return _in_order(self.events, wanted)


def _in_order(found: Sequence[str], wanted: Sequence[str]) -> bool:
    rest = iter(found)
    return all(each in rest for each in wanted)


def history_of(call: Handle[Any] | str) -> CallHistory:
    """What a call has done so far, inside a scenario of `run`, `crash_everywhere` or `simulate`.

    Args:
        call: Its handle or id.

    Raises:
        UsageError: No scenario is running.
        CallNotFound: No node has accepted such a call yet, or its retention is over.

    Example:
        ```python
        history = fenbu.testing.history_of("order-7")
        assert history.steps == ["charge", "refund"]
        assert history.attempts("charge") == 3
        ```
    """
    cluster = Cluster.open_one
    if cluster is None:
        raise UsageError("history_of() is for scenarios of fenbu.testing, while they run")
    id_ = call if isinstance(call, str) else call.id
    found = cluster.database.invocations.get(id_)
    if found is None:
        raise CallNotFound(f"no node has accepted a call {id_!r}, or its retention is over")
    (loaded,) = cluster.database.load([found])
    if cluster.app.registry.hook is not None:
        loaded = Seal(cluster.app.registry.hook).open_loaded(loaded)
    return _told(loaded, cluster.app.registry.codec)


def _told(loaded: Loaded, codec: Codec) -> CallHistory:
    call = loaded.invocation
    texts = [call.commands, *(each.commands for each in loaded.entries)]
    recorded = [each for text in texts for each in journal.recorded(text)]
    asked = [f"{kind} {name}".strip() for kind, name, _ in recorded]
    numbered = [name for kind, name, _ in recorded if kind not in UNNUMBERED]
    events: list[str] = []
    attempts: dict[str, int] = {}
    for entry in loaded.entries:
        name = entry.name or (numbered[entry.command - 1] if entry.command else "")
        events.append(f"{entry.kind} {name}".strip())
        if entry.kind in (EntryKind.STEP_COMPLETED, EntryKind.STEP_FAILED):
            attempts[name] = attempts.get(name, 0) + entry.attempt
    result = codec.of(Any).decode(call.result) if call.result is not None else None
    error = None
    if call.finished_at is not None and call.failure is not None:
        error = f"{call.failure.type.rpartition(':')[2]}: {call.failure.message}"
    return CallHistory(
        call.id,
        call.handler,
        call.version,
        call.status,
        tuple(asked),
        tuple(events),
        result,
        error,
        attempts,
    )
