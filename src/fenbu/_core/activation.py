"""One workflow or operation in memory: its coroutine on a loop of its own, driven event by event.

`begin` and `apply` are the only ways to move it: each resolves one recorded event and drains the loop.
What the code asked for meanwhile stands in `issued`. It can be dropped at any time and rebuilt from its
journal.

Invariant: while the journal is replayed, everything that the code issues has taken effect before (the
batch that held the event held its consequences), so only what is still waited for is acted upon again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, ContextVar
from typing import Any

from fenbu._core import ids, journal, location
from fenbu._core.anew import ContinueAsNew
from fenbu._core.answer import Answers
from fenbu._core.command import (
    Command,
    EndUpdate,
    MarkPatch,
    ParentEnd,
    StartCall,
    StartTimer,
)
from fenbu._core.lazy import LazyValues
from fenbu._core.loop import DeterministicLoop, Stage
from fenbu._core.model import Entry, EntryKind, Invocation, Outcome, Payload
from fenbu._core.writing import Writing

current: ContextVar[Activation | None] = ContextVar("fenbu_activation", default=None)
"""The activation whose code is running: set in the context in which all of its code runs.

A context variable, because asking asyncio for the running loop costs ten times as much on Python 3.11.
"""


CLOSES_MAX = 20
"""Code that awaits while it is dropped, as a TaskGroup does, has to be told again."""


class Leaving(BaseException):
    """Raised into code that asks for something durable while its activation is dropped."""


class Activation:
    """See the module. `run` names this run of the call in ids derived from it."""

    __slots__ = (
        "_count",
        "_forks",
        "_inside",
        "_patches",
        "_random",
        "_recorded",
        "anew",
        "answers",
        "attempts",
        "began",
        "bound",
        "chain",
        "closed",
        "conditions",
        "context",
        "forks",
        "invocation",
        "is_replaying",
        "issued",
        "lazy",
        "lent",
        "loop",
        "main",
        "position",
        "restate",
        "retries",
        "run",
        "signal_waiters",
        "signals",
        "timers",
        "unheard",
        "waiting",
        "writing",
    )

    def __init__(
        self,
        invocation: Invocation,
        coroutine: Coroutine[Any, Any, Any],
        now: float,
        context: Any,
        stage: Stage | None = None,
    ) -> None:
        self.invocation = invocation
        self.context = context
        """What the API needs to serve the code: the registry and codec of its node."""
        self.run = ids.run_id(invocation.id, invocation.attempt)
        self.forks: tuple[journal.Fork, ...] = ()
        """Where its journal goes from the copy of another one to its own."""
        self.chain = invocation.chain
        if invocation.entity is not None:
            self.chain = (*self.chain, f"{invocation.entity}/{invocation.key}")
        self.issued: list[tuple[int, Command]] = []
        self.waiting: dict[int, tuple[asyncio.Future[Entry], Command]] = {}
        self.timers: dict[int, Any] = {}
        self.attempts: dict[int, int] = {}
        """Attempts of steps that have failed, by command."""
        self.began: dict[int, float] = {}
        """When the first attempt of such a step began."""
        self.retries: dict[int, float] = {}
        """When a failed step runs again, by command."""
        self.signals: dict[str, deque[Entry]] = {}
        self.signal_waiters: dict[str, list[asyncio.Future[Entry]]] = {}
        self.unheard: list[dict[str, Any]] = []
        self.anew: ContinueAsNew | None = None
        """The code has asked for that: it is still to arrive where the code ends."""
        self.conditions: list[tuple[Callable[[], object], asyncio.Future[None]]] = []
        """What the code waits for to hold, looked at after everything that happens."""
        self.bound: dict[int, StartCall] = {}
        """Calls that it has started and that do not just go on when it ends, by command."""
        self.position = 0
        """In the journal: how many events the code has seen."""
        self.writing: Writing | None = None
        """What the code has done with streams, if it has to be known later."""
        self.lent: str | None = None
        """The reentrant operation that runs in its turn: until that has ended, it stands still."""
        self.lazy: LazyValues | None = None
        """Those of its entity, if that has lazy fields."""
        self.restate: Callable[[Payload], None] | None = None
        """Sets the state of its entity."""
        self.answers: Answers | None = None
        """The queries and updates that the code has registered, if it has any."""
        self.closed: BaseException | None = None
        """While the code may ask for nothing: what is raised if it does."""
        self._count = 0
        self._random: random.Random | None = None
        self._patches: dict[str, bool] = {}
        self.is_replaying = False
        """What it asks for has been asked for before."""
        self._forks: Sequence[Entry] = ()
        """While the journal is replayed, the forks right behind the position that the code has come to."""
        self._recorded: str | None = None
        """While the journal is replayed, what was recorded at the position that the code has come to."""
        self.loop = DeterministicLoop(self, now, stage or Stage())
        self._inside = inside = Context()
        inside.run(current.set, self)
        self.main = self.loop.create_task(coroutine, name=invocation.handler, context=inside)

    # Driven by the partition.

    def begin(self) -> None:
        """Run the code to its first wait."""
        self._drain()

    def apply(self, entry: Entry) -> None:
        """Let the code see one event, then run it to its next wait.

        Raises:
            NonDeterminismError: The code does not wait for this event.
        """
        loop, kind = self.loop, entry.kind
        loop.now = max(loop.now, entry.at)
        self.position = entry.position
        if kind in journal.ANSWERS:
            found = self.waiting.pop(entry.command, None)
            if found is None:
                journal.unexpected(self.invocation, entry)
            if not found[0].done():
                found[0].set_result(entry)
        elif not self._apply(kind, entry):
            return
        self._drain()

    def _apply(self, kind: EntryKind, entry: Entry) -> bool:
        """An event that is not what a command waits for; false if the code sees nothing of it."""
        match kind:
            case EntryKind.TIMER_FIRED:
                handle = self.timers.pop(entry.command, None)
                if handle is None:
                    journal.unexpected(self.invocation, entry)
                self.loop.fire(handle)
            case EntryKind.SIGNAL_RECEIVED:
                self._receive(entry.name or "", entry)
            case EntryKind.CANCEL_REQUESTED:
                self.main.cancel(entry.name)
            case EntryKind.UPDATE_RECEIVED:
                self._begin_update(entry)
            case EntryKind.STEP_RETRYING:
                self.attempts[entry.command] = entry.attempt
                self.retries[entry.command] = entry.retry_at or 0.0
                self.began.setdefault(entry.command, entry.at - (entry.seconds or 0.0))
                return False
            case EntryKind.INNER_BEGAN:
                self.lent = entry.name
                return False
            case EntryKind.INNER_SET:
                if self.lazy is not None and entry.value is not None:
                    self.lazy.set(entry.name or "", entry.value)
                return False
            case EntryKind.INNER_ENDED:
                self.lent = None
                if entry.value is not None and self.restate is not None:
                    self.restate(entry.value)
                return False
            case _:
                raise AssertionError(entry)
        return True

    def _drain(self) -> None:
        """Run the code to its next wait; and on, for as long as a condition holds that it waits for."""
        self.loop.drain()
        while self.conditions and self._look():
            self.loop.drain()

    def _look(self) -> bool:
        """Whether a condition holds, or nobody waits for it any more."""
        before, self.conditions = self.conditions, []
        for condition, future in before:
            try:
                if future.done() or self._inside.run(condition):
                    if not future.done():
                        future.set_result(None)
                    continue
            except Exception as error:  # noqa: BLE001 - it is the code's own
                future.set_exception(error)
                continue
            self.conditions.append((condition, future))
        return len(self.conditions) < len(before)

    def replay(
        self, entries: Sequence[Entry], before: Callable[[int], None] = lambda _: None
    ) -> None:
        """Run the code through its journal, checking at each position that it asks for the same.

        Args:
            entries: The journal.
            before: Told each position before the code comes to it.

        Raises:
            NonDeterminismError: It does not.
        """
        invocation = self.invocation
        self.forks = journal.forks_of(entries)
        self.is_replaying = True
        self._expect(invocation.commands, entries, 0)
        before(0)
        self.begin()
        self._compare(invocation.commands, 0)
        for index, entry in enumerate(entries, 1):
            if entry.kind is not EntryKind.FORKED:
                if self.main.done() and not self.owes:
                    journal.unexpected(invocation, entry)
                self._expect(entry.commands, entries, index)
                before(entry.position)
                self.apply(entry)
                self._compare(entry.commands, entry.position)
            else:
                self._forks = self._forks[1:]
                if entry.attempt:  # Else the code is free here.
                    self._compare(entry.commands, entry.position)
        self._recorded, self._forks = None, ()
        self.is_replaying = False

    def _expect(self, commands: str | None, entries: Sequence[Entry], index: int) -> None:
        """What was recorded for what the code asks for next, and where it is forked amid that."""
        self._recorded, end = commands or "", index
        while end < len(entries) and entries[end].kind is EntryKind.FORKED:
            end += 1
        self._forks = entries[index:end]
        if self._forks:
            self.is_replaying = bool(self._forks[-1].attempt)

    def _compare(self, commands: str | None, position: int) -> None:
        """Check what the code has asked for; what comes behind a fork is left for later."""
        behind: list[tuple[int, Command]] = []
        if self._forks:
            last = self._forks[0].command
            known = [i for i, (number, _) in enumerate(self.issued, 1) if 0 < number <= last]
            first = known[-1] if known else 0
            self.issued, behind = self.issued[:first], self.issued[first:]
        issued, self.issued = self.issued, behind
        journal.compare(self.invocation, position, commands, issued)

    def leave(self) -> None:
        """Drop the code where it stands. Its `finally` blocks run, but whatever they ask for is void.

        In their own context: in any other, a call of theirs would be one from outside the workflow.
        """
        self.closed, loop = Leaving(), self.loop
        for task in loop.tasks:
            if task.done():
                continue
            setattr(task, "_log_destroy_pending", False)  # noqa: B010 - known to asyncio only
            close = task.get_coro().close
            for _ in range(CLOSES_MAX):
                try:
                    loop.look(task.inside, close, (), {})
                except KeyboardInterrupt:
                    raise
                except BaseException:  # noqa: BLE001, S112 - a TaskGroup makes a group of what is thrown at it
                    continue  # The code's own trouble with being dropped concerns nobody: it runs again.
                break
            task.let_go()
        # Else all of this holds each other until the garbage collector comes, which in a process that holds
        # much is hardly ever: the loop, its tasks, what they wait for, and the frames where it was raised.
        for each in (self.waiting, self.timers, self.signal_waiters, self.conditions, loop.tasks):
            each.clear()
        self.answers = None
        self.closed = Leaving()
        del self.loop, self.main, self._inside

    @property
    def ended(self) -> bool:
        """It has ended, and no task of its code is left."""
        tasks = self.loop.tasks
        return self.main.done() and (len(tasks) == 1 or all(each.done() for each in tasks))

    @property
    def owes(self) -> bool:
        """Calls that it has started have to end before it does."""
        return any(
            number in self.waiting
            for number, command in self.bound.items()
            if command.parent_end is ParentEnd.WAIT
        )

    def unread(self) -> list[Entry]:
        """The signals that the code has not asked for, in the order in which they came.

        Without those that complete a callback, which belongs to this run.
        """
        found = [
            each
            for name, entries in self.signals.items()
            if not name.startswith(ids.CALLBACK)
            for each in entries
        ]
        return sorted(found, key=lambda each: each.position)

    @property
    def hopeless(self) -> bool:
        """It has not ended and nothing that fenbu knows of could ever wake it."""
        return not (
            self.main.done()
            or self.waiting
            or self.timers
            or self._awaits_signal()
            or (self.answers is not None and self.answers.updates)
        )

    def _awaits_signal(self) -> bool:
        return any(not each.done() for waiters in self.signal_waiters.values() for each in waiters)

    def next_due(self) -> float | None:
        """The earliest instant at which it wants to be woken by itself."""
        due = [handle.when() for handle in self.timers.values()]
        due += [self.retries[number] for number in self.waiting if number in self.retries]
        return min(due, default=None)

    # Updates.

    def _begin_update(self, entry: Entry) -> None:
        name, _ = journal.update_of(entry.name)
        answers = answers_of(self)
        handler = answers.updates.get(name)
        if handler is None:
            journal.unexpected(self.invocation, entry)
        answers.running.add(entry.name or "")
        what = answers.described(name, self.invocation.id, is_replay=self.is_replaying)
        work = answers.serve(entry.name or "", handler, entry.value or "", what)
        self.loop.create_task(work, name=name, context=self._inside.copy())

    # Called by the code, through the API and the loop.

    def issue(self, command: Command) -> int:
        """Number a command."""
        if self.closed is not None:
            raise self.closed
        self._count += 1
        self.issued.append((self._count, command))
        return self._count

    def ask(self, command: Command) -> tuple[int, asyncio.Future[Entry]]:
        """Number a command, and a future for the entry that will hold its outcome."""
        number = self.issue(command)
        future: asyncio.Future[Entry] = self.loop.create_future()
        self.waiting[number] = (future, command)
        return number, future

    def abandon(self, number: int) -> bool:
        """The code no longer waits for this command; false if its outcome has come already."""
        if self.closed is not None:
            raise self.closed
        self.retries.pop(number, None)
        return self.waiting.pop(number, None) is not None

    def patched(self, name: str) -> bool:
        """Whether this call takes the new way of a change: yes, unless it came by before there was one.

        Decided once for a call, and recorded. The same idea as in Temporal's `patched`.
        """
        new = self._patches.get(name)
        if new is None:
            recorded = self.recorded()
            new = recorded is None or journal.has_patch(recorded, name)
            self._patches[name] = new
            if new:
                self.issued.append((0, MarkPatch(name, location.caller())))
        return new

    def recorded(self) -> str | None:
        """What stands in the journal for where the code is; None if it comes here for the first time."""
        if self.closed is not None:
            raise self.closed
        for fork in reversed(self._forks):
            if self._count >= fork.command:
                return fork.commands or "" if fork.attempt else None
        return self._recorded

    def start_timer(self, when: float, handle: Any) -> int:
        number = self.issue(StartTimer(when, location.caller()))
        self.timers[number] = handle
        return number

    def next_signal(self, name: str) -> asyncio.Future[Entry]:
        """A future for the entry of the next signal of this name: at once if one came before."""
        if self.closed is not None:
            raise self.closed
        future: asyncio.Future[Entry] = self.loop.create_future()
        queue = self.signals.get(name)
        if queue:
            future.set_result(queue.popleft())
        else:
            self.signal_waiters.setdefault(name, []).append(future)
        return future

    def until(self, condition: Callable[[], object]) -> asyncio.Future[None]:
        """A future that is done when the condition holds."""
        if self.closed is not None:
            raise self.closed
        future: asyncio.Future[None] = self.loop.create_future()
        self.conditions.append((condition, future))
        return future

    def return_signal(self, name: str, future: asyncio.Future[Entry]) -> None:
        """A wait was cancelled: if its signal had come already, the next wait gets it."""
        if future.done() and not future.cancelled():
            waiters = self.signal_waiters.get(name)
            while waiters:
                waiter = waiters.pop(0)
                if not waiter.done():
                    waiter.set_result(future.result())
                    return
            self.signals.setdefault(name, deque()).appendleft(future.result())

    def _receive(self, name: str, entry: Entry) -> None:
        waiters = self.signal_waiters.get(name)
        while waiters:
            waiter = waiters.pop(0)
            if not waiter.done():
                waiter.set_result(entry)
                return
        self.signals.setdefault(name, deque()).append(entry)

    @property
    def random(self) -> random.Random:
        """Random numbers that are the same at each replay, different for each call and run."""
        if self.closed is not None:
            raise self.closed
        if self._random is None:
            seed = ids.seed(self.run, self.invocation.created_at)
            if self.forks:
                seed = self.forks[0].seed
            self._random = random.Random(seed)  # noqa: S311
        return self._random


def answers_of(activation: Activation) -> Answers:
    """What its code answers, made at first use."""
    if activation.answers is None:

        def ended(entry_name: str, outcome: Outcome) -> None:
            if activation.closed is not None:
                raise activation.closed
            activation.issued.append((0, EndUpdate(entry_name, outcome)))

        activation.answers = Answers(activation.context, ended)
    return activation.answers
