"""Drives the engine line by line, as a node would, with a dictionary for a database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from fenbu._core.batch import CommitBatch
from fenbu._core.codec import Codec
from fenbu._core.effect import Begin, Effect, LoadCalls, RunBody
from fenbu._core.engine import Engine
from fenbu._core.event import BodyEnded, CallsLoaded, Event, MarkDurable, ReadyLoaded
from fenbu._core.failure import failure_of
from fenbu._core.handler import EntitySpec, HandlerSpec, Registry
from fenbu._core.message import Call, Message
from fenbu._core.model import Entry, Invocation, Kind, Loaded, Outcome, Status
from fenbu._core.signature import Signature


class Drive:
    """One partition, one database, and a clock that moves when told."""

    def __init__(self, **options: Any) -> None:
        self.registry = Registry(Codec())
        self.registry.partition_count = 1
        self.options = options
        self.now = 1000.0
        self.rows: dict[str, Invocation] = {}
        self.entries: dict[str, list[Entry]] = {}
        self.states: dict[tuple[str, str], Any] = {}
        self.fields: dict[tuple[str, str, str], Any] = {}
        self.inbox: dict[int, Message] = {}
        self._numbers = 0
        self._unread: list[int] = []
        """What this node put into the inbox, by number."""
        self.batches: list[CommitBatch] = []
        self.start()

    def start(self) -> None:
        """A new process: nothing but the database is left."""
        self.engine = Engine(self.registry, **self.options)
        last = max((each.sequence for each in self.rows.values()), default=0)
        self.engine.take([0], {0: last})

    def register(self, function: Callable[..., Any], kind: Kind, **options: Any) -> HandlerSpec:
        signature = Signature(function, self.registry.codec)
        spec = HandlerSpec(
            name=function.__name__, kind=kind, function=function, signature=signature, **options
        )
        self.registry.add(spec)
        return spec

    def register_entity(self, cls: type[Any], **options: Any) -> None:
        entity = EntitySpec(cls.__name__, cls, self.registry.codec)
        for name, function in vars(cls).items():
            if callable(function) and not name.startswith("_"):
                signature = Signature(function, self.registry.codec, skip_first=True)
                self.registry.add(
                    HandlerSpec(
                        name=f"{cls.__name__}.{name}",
                        kind=Kind.OPERATION,
                        function=function,
                        signature=signature,
                        entity=entity,
                        **options,
                    )
                )

    def call(
        self, handler: str, *args: Any, id: str, waited: bool = False, **fields: Any
    ) -> list[Effect]:
        """Accept a call and commit; the effects that the batch releases."""
        spec = self.registry.latest(handler)
        assert spec is not None
        invocation = Invocation(
            id=id,
            partition=0,
            handler=handler,
            entity=spec.entity.name if spec.entity else None,
            args=spec.signature.encode(args, {}),
            created_at=self.now,
            **fields,
        )
        return self.message(Call(invocation, fresh=True, waited=waited))

    def message(self, message: Message, number: int = 0) -> list[Effect]:
        self.engine.receive(message, self.now, number)
        return self.commit()

    def event(self, event: Event) -> list[Effect]:
        self.engine.apply(event, self.now)
        return self.commit()

    def tick(self, seconds: float = 0.0) -> list[Effect]:
        self.now += seconds
        self.engine.tick(self.now)
        return self.commit()

    def completed(self, body: RunBody, value: Any = None) -> list[Effect]:
        payload = self.registry.codec.of(Any).encode(value)
        return self._ended(body, Outcome(Status.COMPLETED, payload))

    def failed(self, body: RunBody, error: Exception, *, retryable: bool = False) -> list[Effect]:
        return self._ended(body, Outcome(Status.FAILED, None, failure_of(error)), retryable)

    def cancelled(self, body: RunBody) -> list[Effect]:
        return self._ended(body, Outcome(Status.CANCELLED))

    def from_inbox(self, message: Message) -> list[Effect]:
        """Another process has sent it."""
        self._numbers += 1
        self.inbox[self._numbers] = message
        return self.message(message, self._numbers)

    def read_inbox(self) -> None:
        """What this node put into the inbox has been read."""
        unread, self._unread = self._unread, []
        for number in unread:
            self.message(self.inbox[number], number)
        self.engine.inbox_read(self.engine.batch.number)

    def event_after_load(self, message: Message) -> list[Effect]:
        """A message from the inbox to a call that is in no memory."""
        effects = self.from_inbox(message)
        (request,) = [each for each in effects if isinstance(each, LoadCalls)]
        return self.event(CallsLoaded(0, request.batch, request.ids, self.loaded(*request.ids)))

    def _ended(self, body: RunBody, outcome: Outcome, retryable: bool = False) -> list[Effect]:
        event = BodyEnded(
            0, body.id, body.command, body.attempt, outcome, 0.1, retryable, 0.5, None, body.run
        )
        self.engine.body_ended(event, self.now)
        return self.commit()

    def commit(self) -> list[Effect]:
        """Write the open batch. Rows are copied, as a database would."""
        batch = self.engine.next_batch()
        rows = batch.finish()
        self.batches.append(rows)
        for invocation in rows.inserted:
            assert invocation.id not in self.rows
            self.rows[invocation.id] = _copy(invocation)
        for invocation in rows.updated:
            assert invocation.id in self.rows
            self.rows[invocation.id] = _copy(invocation)
        for invocation in rows.rewritten:
            assert invocation.id in self.rows
            self.rows[invocation.id] = _copy(invocation)
            self.entries.pop(invocation.id, None)
        for entry in rows.entries:
            journal = self.entries.setdefault(entry.id, [])
            assert entry.position == len(journal) + 1
            journal.append(_copy(entry))
        for id_ in rows.deleted:
            del self.rows[id_]
            self.entries.pop(id_, None)
        for state in rows.entities:
            self.states[state.entity, state.key] = state
        for name in rows.entities_deleted:
            self.states.pop(name, None)
        for field in rows.fields:
            self.fields[field.entity, field.key, field.name] = field.value
        for place in rows.fields_deleted:
            del self.fields[place]
        for number in rows.inbox_deleted:
            del self.inbox[number]
        for message in rows.inbox:
            self._numbers += 1
            self.inbox[self._numbers] = message
            self._unread.append(self._numbers)
        return batch.effects

    def loaded(self, *ids: str) -> list[Loaded]:
        return [
            Loaded(_copy(self.rows[id_]), [_copy(each) for each in self.entries.get(id_, [])])
            for id_ in ids
        ]

    def load_ready(self, *ids: str) -> list[Effect]:
        """Answer the request for the backlog, and make the marks of what was loaded durable."""
        last = max(each.sequence for each in self.rows.values())
        effects = self.event(
            ReadyLoaded(0, self.load_begins(), last, self.loaded(*ids), complete=True)
        )
        return self.marks(effects)

    def load_begins(self) -> int:
        """A load that sees all that has been committed."""
        return self.engine.loads.begin(self.engine.batch.number - 1)

    def marks(self, effects: Iterable[Effect]) -> list[Effect]:
        released: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Begin):
                released += self.event(MarkDurable(effect.partition, effect.id))
            else:
                released.append(effect)
        return released


def bodies(effects: Iterable[Effect]) -> list[RunBody]:
    return [each for each in effects if isinstance(each, RunBody)]


def _copy(value: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))
