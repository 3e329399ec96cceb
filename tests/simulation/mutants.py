"""Bugs to plant into the engine: each changes one thing that a promise rests on. `plant.py` plants them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fenbu._api.topic_log import Logs
from fenbu._core.absent import Absent
from fenbu._core.activation import Activation
from fenbu._core.batch import Batch
from fenbu._core.engine import Engine
from fenbu._core.field import Fields
from fenbu._core.mailbox import Mailbox
from fenbu._core.message import Cancel, Reply, Restore, Signal
from fenbu._core.model import EntryKind
from fenbu._core.partition import Partition
from fenbu._core.program import Program
from fenbu._core.resident import Resident
from fenbu._node.callers import Callers
from fenbu._node.chunks import ChunkWriter
from fenbu._node.committer import Committer
from fenbu._node.membership import Membership
from fenbu._node.tenure import Tenure
from fenbu._node.wakeup import Wakeup
from fenbu._storage.memory.database import MemoryDatabase
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu._testing.storage import Session, SimulatedStorage
from fenbu.errors import Unavailable


class Mutant(Struct):
    """A planted bug."""

    name: str
    target: Any
    attribute: str
    make: Callable[[Any], Any]
    """From what is right, what is wrong."""


def overtake_what_is_not_loaded(right: Any) -> Any:
    def push(self: Any, resident: Any, *, in_order: bool = True) -> None:
        del in_order
        right(self, resident)

    return push


def answer_before_it_is_read(right: Any) -> Any:
    async def heard(self: Any) -> None:
        self.read_inbox()

    return heard


def keep_the_first_place(right: Any) -> Any:
    del right
    return Partition.bring


def skip_the_fence(right: Any) -> Any:
    async def commit(self: Any, batch: Any) -> Any:
        session = Session(self.network)
        session._check_owned = lambda rows: None
        try:
            return await self.network.ask(
                self._with_hints(session.commit(batch)), session.connection
            )
        except Unavailable as error:
            return Commit(CommitOutcome.REFUSED, str(error))

    return commit


def keep_lazy_fields(right: Any) -> Any:
    def delete(self: Any) -> None:
        """The entity's row alone goes."""

    return delete


def lose_inner_lazy_fields(right: Any) -> Any:
    def note(self: Any, kind: Any, name: str, value: Any, now: float) -> None:
        if kind is not EntryKind.INNER_SET:
            right(self, kind, name, value, now)

    return note


def keep_what_failed(right: Any) -> Any:
    def fail(self: Any, *args: Any, **kwargs: Any) -> None:
        if (
            self.mailbox is not None
            and self.mailbox.fields is not None
            and self.activation is not None
        ):
            self.mailbox.fields.keep(self.activation.lazy)
        right(self, *args, **kwargs)

    return fail


def share_locks(right: Any) -> Any:
    def owner_of(self: Any, partition: int) -> None:
        """Nobody owns it, whoever asks."""

    return owner_of


def skip_the_fence_of_steps(right: Any) -> Any:
    async def finish_step(self: Any, *, step: Any, epoch: int, payload: Any, done: Any) -> bool:
        database = await self._database()
        database.step_results[step.id, step.run, step.command] = payload
        done.commit()
        return True

    return finish_step


def ring_early(right: Any) -> Any:
    def arm(self: Any, when: float, command: int) -> None:
        right(self, when - 0.5, command)

    return arm


def acknowledge_before_commit(right: Any) -> Any:
    async def write(self: Any, batch: Any) -> None:
        self._release(batch.effects)
        batch.effects = []
        await right(self, batch)

    return write


def take_unknown_for_written(right: Any) -> Any:
    async def commit(self: Any, batch: Any) -> Any:
        done = await right(self, batch)
        return Commit(CommitOutcome.COMMITTED) if done.outcome is CommitOutcome.UNKNOWN else done

    return commit


def apply_a_message_twice(right: Any) -> Any:
    def consume(self: Any, number: int) -> None:
        """It stays in the inbox, for the next owner."""

    return consume


def forget_what_came_before_the_take(right: Any) -> Any:
    async def adopt(self: Any, numbers: Any, take: Any) -> None:
        take()

    return adopt


def forget_timers_on_takeover(right: Any) -> Any:
    async def next_due(self: Any, partitions: Any) -> None:
        await right(self, partitions)

    return next_due


def reuse_command_numbers(right: Any) -> Any:
    def child_id(run: str, number: int) -> str:
        return right(run, (number + 1) // 2)

    return child_id


def drop_early_signals(right: Any) -> Any:
    def hold(self: Any, id_: str, message: Any, number: int) -> None:
        if isinstance(message, Signal):
            self._partition.consume(number)
        else:
            right(self, id_, message, number)

    return hold


def lose_replies(right: Any) -> Any:
    def must_wait(self: Any, message: Any) -> bool:
        return right(self, message) and not isinstance(message, Reply)

    return must_wait


def cancel_before_its_entry(right: Any) -> Any:
    def read_mail(self: Any, now: float) -> None:
        self.mail = [each for each in self.mail if not isinstance(each[0], Cancel)]
        right(self, now)

    return read_mail


def send_past_the_inbox(right: Any) -> Any:
    def will_take(self: Any, numbers: Any) -> None:
        """Nothing is remembered."""

    return will_take


def run_steps_again(right: Any) -> Any:
    def replay(self: Any, entries: Any) -> None:
        right(self, [each for each in entries if each.kind != "step_completed"])

    return replay


def deliver_out_of_order(right: Any) -> Any:
    async def load_inbox(self: Any, *args: Any, **options: Any) -> Any:
        read = await right(self, *args, **options)
        return replace(read, found=read.found[::-1])

    return load_inbox


def begin_before_it_is_written(right: Any) -> Any:
    def body_ended(self: Any, event: Any, now: float) -> None:
        if self.bodies.get(event.command) is not None:
            self.save()
        right(self, event, now)
        self.partition.engine.batch.rows.entries[-1:] = []

    return body_ended


def keep_chosen_ids_in_memory(right: Any) -> Any:
    del right

    def carry(self: Any, message: Any, now: float) -> None:
        self.receive(message, now, 0)

    return carry


def leave_in_any_context(right: Any) -> Any:
    def leave(self: Any) -> None:
        for task in self.loop.tasks:
            task.inside = copy_context()
        right(self)

    return leave


def never_look_by_oneself(right: Any) -> Any:
    async def beat(self: Any, *args: Any, **options: Any) -> Any:
        self._looked_at = math.inf
        return replace(await right(self, *args, **options), has_messages=False)

    return beat


def answer_from_memory(right: Any) -> Any:
    return lambda self: False


def miss_what_is_on_its_way(right: Any) -> Any:
    def moved(self: Any) -> list[str]:
        # And nobody looks again when it has arrived.
        self.watch_all(right(self))
        return []

    return moved


def lose_errors_of_callbacks(right: Any) -> Any:
    def signal(self: Any, message: Any, now: float) -> None:
        right(self, replace(message, failure=None, value=message.value or "0"), now)

    return signal


def cancel_all_who_wait(right: Any) -> Any:
    def durable(self: Any) -> Any:
        waiting = self._durable.get(self._engine.batch.number)
        return waiting[0] if waiting else right(self)

    return durable


def append_again(right: Any) -> Any:
    def append(self: Any, chunks: Any) -> None:
        self.chunk_sources.clear()
        right(self, chunks)

    return append


def forget_how_far_it_was(right: Any) -> Any:
    async def resume(self: Any, body: Any, stream: str) -> Any:
        found = await right(self, body, stream)
        body.places[stream].count = 0
        return found

    return resume


def publish_failed_operations(right: Any) -> Any:
    def fail(self: Any, error: Any, now: float, **options: Any) -> None:
        writing = self.activation and self.activation.writing
        for number, command in writing.held if writing else ():
            self._code_writes(number, command, now)
        right(self, error, now, **options)

    return fail


def number_backwards(right: Any) -> Any:
    def append(self: Any, chunks: Any) -> None:
        right(self, reversed(list(chunks)))

    return append


def number_events_twice(right: Any) -> Any:
    def chunk_of(log: str, number: int, value: Any, now: float) -> Any:
        return right(log, number - (number % 5 == 4), value, now)

    return chunk_of


def tell_nobody_of_events(right: Any) -> Any:
    async def tell(self: Any, call: str) -> None:
        if self.runtime.clock.random() < 0.9:
            await right(self, call)

    return tell


def fork_without_history(right: Any) -> Any:
    def until(entries: Any, place: int, about: Any) -> Any:
        return right(entries, place, about)[:1]

    return until


def import_the_same_again(right: Any) -> Any:
    async def enqueue_new(self: Any, messages: Any) -> list[str]:
        await self.enqueue(messages)
        return []

    return enqueue_new


def leave_mail_behind(right: Any) -> Any:
    def arrivals(*args: Any, **options: Any) -> Any:
        return [each for each in right(*args, **options) if isinstance(each, Restore)]

    return arrivals


def look_again_and_again(right: Any) -> Any:
    async def snapshot(self: Any, walk: Any) -> Any:
        def once(look: Any) -> Any:
            return (yield look)

        look = next(walk)
        while True:
            seen = await right(self, once(look))
            try:
                look = walk.send(seen)
            except StopIteration as end:
                return end.value

    return snapshot


def mistake_a_ghost(right: Any) -> Any:
    async def beat(self: Any) -> Any:
        heard = await self._storage.beat(self._tenure.inbox_position, self._tenure.load)
        name = next((each.name for each in heard.nodes if each.id == heard.node), None)
        ids = [each.id for each in heard.nodes if each.name == name]
        return replace(heard, node=min(ids, default=heard.node))

    return beat


def forget_children(right: Any) -> Any:
    def in_journal(engine: Any, loaded: Any) -> list[Any]:
        return []

    return in_journal


MUTANTS = (
    Mutant("give two events one number", "fenbu._core.topic", "chunk_of", number_events_twice),
    Mutant("tell not all who wait for events", Logs, "tell", tell_nobody_of_events),
    Mutant("fork without the history", "fenbu._core.fork", "_until", fork_without_history),
    Mutant("append what is there already", MemoryDatabase, "append", append_again),
    Mutant("number chunks of a batch backwards", MemoryDatabase, "append", number_backwards),
    Mutant("go on from the first place", ChunkWriter, "resume", forget_how_far_it_was),
    Mutant("publish what failed operations wrote", Program, "fail", publish_failed_operations),
    Mutant("commit without the locks", SimulatedStorage, "commit", skip_the_fence),
    Mutant("two owners of one partition", MemoryDatabase, "owner_of", share_locks),
    Mutant("transactional steps without a fence", Session, "finish_step", skip_the_fence_of_steps),
    Mutant("acknowledge before the commit", Committer, "_write", acknowledge_before_commit),
    Mutant(
        "take an unknown commit for a good one",
        SimulatedStorage,
        "commit",
        take_unknown_for_written,
    ),
    Mutant("leave applied messages in the inbox", Partition, "consume", apply_a_message_twice),
    Mutant("forget the inbox at a take-over", Wakeup, "adopt", forget_what_came_before_the_take),
    Mutant("forget timers at a take-over", MemoryStorage, "next_due", forget_timers_on_takeover),
    Mutant("reuse numbers of commands", "fenbu._core.ids", "child_id", reuse_command_numbers),
    Mutant("lose errors of callbacks", Program, "signal", lose_errors_of_callbacks),
    Mutant("drop signals sent early", Absent, "hold", drop_early_signals),
    Mutant("drop replies to calls that are being loaded", Resident, "must_wait", lose_replies),
    Mutant("forget cancellations while loading", Program, "_read_mail", cancel_before_its_entry),
    Mutant("overtake the inbox after a take-over", Engine, "will_take", send_past_the_inbox),
    Mutant("run recorded steps again", Activation, "replay", run_steps_again),
    Mutant("deliver the inbox backwards", MemoryStorage, "load_inbox", deliver_out_of_order),
    Mutant("lose journal entries", Program, "body_ended", begin_before_it_is_written),
    Mutant("keep lazy fields of what is deleted", Fields, "delete", keep_lazy_fields),
    Mutant("lose lazy fields of inner operations", Program, "note", lose_inner_lazy_fields),
    Mutant("see lazy fields of failed operations", Program, "fail", keep_what_failed),
    Mutant("ring early", Resident, "_arm", ring_early),
    Mutant("cancel all who wait for a batch", Committer, "durable", cancel_all_who_wait),
    Mutant("keep calls with chosen ids in memory", Partition, "carry", keep_chosen_ids_in_memory),
    Mutant("drop code outside its context", Activation, "leave", leave_in_any_context),
    Mutant("import the same again", MemoryStorage, "enqueue_new", import_the_same_again),
    Mutant("import without mail", "fenbu._api.moving", "arrivals", leave_mail_behind),
    Mutant("export at several moments", SimulatedStorage, "snapshot", look_again_and_again),
    Mutant("mistake a lost session for one's own", Membership, "_beat", mistake_a_ghost),
    Mutant("leave the children of parked calls", "fenbu._core.tie", "in_journal", forget_children),
    Mutant("answer from memory without a session", Batch, "tells", answer_from_memory),
    Mutant("miss calls that are on their way", Callers, "moved", miss_what_is_on_its_way),
    Mutant("let delayed operations overtake", Partition, "_wake", keep_the_first_place),
    Mutant("overtake what is not loaded yet", Mailbox, "push", overtake_what_is_not_loaded),
    Mutant("answer before the inbox is read", Tenure, "heard", answer_before_it_is_read),
    Mutant("trust hints alone", SimulatedStorage, "beat", never_look_by_oneself),
)
