"""Turn-taking of one entity: its operations run one at a time, in order of acceptance.

It holds the entity's state, the operation that runs and those that wait. The state changes only when an
operation ends well, in the batch that also holds its result and messages.
Guarantee: entity-linear.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from fenbu._core import limit
from fenbu._core.effect import LoadEntity, LoadOperations
from fenbu._core.handler import EntitySpec
from fenbu._core.model import EntityState, Payload, Status
from fenbu.errors import EncodingError, UsageError

if TYPE_CHECKING:
    from fenbu._core.partition import Partition
    from fenbu._core.resident import Resident


class Mailbox:
    """See the module."""

    __slots__ = (
        "_advancing",
        "_fetching",
        "_loading",
        "current",
        "cursor",
        "entity",
        "instance",
        "key",
        "loaded",
        "partition",
        "queue",
        "spilled_until",
        "state",
    )

    def __init__(self, partition: Partition, entity: EntitySpec, key: str) -> None:
        self.partition = partition
        self.entity = entity
        self.key = key
        self.state: Payload | None = None
        self.loaded = False
        self.instance: Any = None
        """Built from `state` when first needed; dropped when an operation fails half-way."""
        self.current: Resident | None = None
        self.queue: deque[Resident] = deque()
        self.cursor = -1
        """The highest sequence that has been in the queue."""
        self.spilled_until = -1
        """The highest sequence that waits in the database only; up to `cursor`: none."""
        self._loading = False
        self._fetching = False
        self._advancing = False

    @property
    def name(self) -> str:
        return f"{self.entity.name}/{self.key}"

    @property
    def spilled(self) -> bool:
        """Operations wait in the database that are not in the queue."""
        return self.spilled_until > self.cursor

    @property
    def idle(self) -> bool:
        return self.current is None and not self.queue and not self.spilled and not self._loading

    def full(self) -> bool:
        """A further operation has to wait in the database."""
        return self.spilled or len(self.queue) >= limit.MAILBOX_OPERATIONS_MAX

    def spill(self, sequence: int) -> None:
        """An accepted operation stays in the database until its turn comes nearer."""
        self.spilled_until = max(self.spilled_until, sequence)
        if self.current is None and not self.queue:
            self._fetch()

    def push(self, resident: Resident) -> None:
        """Queue an operation; `advance` starts it."""
        self.queue.append(resident)
        self.cursor = max(self.cursor, resident.invocation.sequence)

    def advance(self, now: float) -> None:
        """Start operations while none runs and one waits."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.current is None and self.queue:
                if not self.loaded:
                    self._load()
                    return
                if not self.queue[0].marked:
                    return
                resident = self.queue.popleft()
                self.current = resident
                if self.instance is None:
                    try:
                        self.instance = self.entity.instance(self.key, self.state)
                    except (EncodingError, UsageError) as error:
                        resident.park(Status.STUCK, error)
                        return
                resident.start(now)
        finally:
            self._advancing = False
        if self.spilled and self.current is None:
            self._fetch()

    def remove(self, resident: Resident) -> None:
        """An operation leaves before its turn, or while it runs."""
        if self.current is resident:
            self.current = None
        elif resident in self.queue:
            self.queue.remove(resident)

    def loaded_state(self, state: EntityState | None, now: float) -> None:
        """The state has come from the database."""
        self._loading = False
        if not self.loaded:
            self.loaded = True
            self.state = state.state if state is not None else None
        self.advance(now)

    def operations_loaded(self, last: int) -> None:
        """Spilled operations up to this sequence have been queued."""
        self._fetching = False
        self.cursor = max(self.cursor, last)

    def keep(self, resident: Resident, now: float) -> None:
        """The running operation ended well: its state counts from now on.

        Raises:
            EncodingError: The state does not fit the class, or a read-only operation changed it.
        """
        deleted = self.instance.__dict__.pop("_deleted", False)
        state = None if deleted else self.entity.encode(self.instance)
        if deleted:
            self.instance = None
        if state == self.state or (self.state is None and state == self.entity.initial):
            return
        if resident.spec.read_only:
            self.instance = None
            raise EncodingError(
                f"{resident.spec.name} is marked read_only, but it changed the state of {self.name}"
            )
        self.state = state
        name = (self.entity.name, self.key)
        number = self.partition.number
        self.partition.engine.batch.entities[name] = (
            None if state is None else EntityState(*name, number, state, 1, now)
        )

    def discard(self, resident: Resident) -> None:
        """An operation failed: if it had begun, what it did to the state is void."""
        if self.current is resident:
            self.instance = None

    def _load(self) -> None:
        if not self._loading:
            self._loading = True
            effect = LoadEntity(self.partition.number, self.entity.name, self.key)
            self.partition.engine.batch.effects.append(effect)

    def _fetch(self) -> None:
        if not self._fetching:
            self._fetching = True
            engine = self.partition.engine
            effect = LoadOperations(
                self.partition.number,
                engine.loads.begin(engine.batch.number),
                self.entity.name,
                self.key,
                self.cursor,
                self.spilled_until,
            )
            engine.batch.effects.append(effect)
