"""What happened, for whoever listens: every batch that has become durable, and the node's own troubles.

Listeners get the rows themselves, so a node without listeners pays nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fenbu._core.batch import CommitBatch

log = logging.getLogger("fenbu")

Listener = Callable[[CommitBatch], None]


class Telemetry:
    """Carries durable batches to listeners; a listener that raises is dropped, and logged."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def durable(self, rows: CommitBatch) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(rows)
            except Exception:
                log.exception("a telemetry listener failed and is dropped: %r", listener)
                self._listeners.remove(listener)
