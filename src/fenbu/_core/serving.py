"""A workflow in memory, as far as it takes updates: they are refused or begun, and sent their answers.

See `update.py` for what an update is. Guarantee: message-once-in-order. While it is looked up whether an
update exists, all that comes after it waits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from fenbu._core import journal, update
from fenbu._core.activation import Activation, answers_of
from fenbu._core.answer import Answers, arguments
from fenbu._core.failure import failure_of
from fenbu._core.message import Reply, Update
from fenbu._core.model import FINISHED, Address, Entry, EntryKind, Invocation, Outcome, Status
from fenbu._core.resident import Resident
from fenbu.errors import UsageError

if TYPE_CHECKING:
    from fenbu._core.loop import DurableTask


def look(
    activation: Activation,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    """Run a function of the code that only looks, between two events.

    Raises:
        UsageError: It asked for something.
        Exception: What it raises.
    """
    activation.closed = UsageError(
        f"{activation.invocation.handler}: queries and validators only look at variables; they cannot ask "
        "for steps, calls, timers, signals or chance"
    )
    try:
        inside = cast("DurableTask", activation.main).inside
        return activation.loop.look(inside, function, args, kwargs)
    finally:
        activation.closed = None


class Serving(Resident):
    """See the module."""

    __slots__ = ("_entries",)

    _entries: list[Entry] | None
    """The journal as loaded, until it has been replayed."""

    @abstractmethod
    def _entry(
        self, kind: EntryKind, now: float, *, command: int = 0, name: str | None = None
    ) -> Entry:
        """The next entry of the journal."""

    @abstractmethod
    def _event(self, entry: Entry, now: float) -> None:
        """Append an entry to the journal and let the code see it."""

    @abstractmethod
    def _settle(self, now: float) -> None:
        """After a drain: ended, waiting, or beyond hope?"""

    @abstractmethod
    def _read_mail(self, now: float) -> None:
        """Deliver what came before the code could receive it."""

    def update(self, message: Update, now: float, number: int) -> None:
        """An update has come. If its id may have been used before, what comes after it waits meanwhile."""
        if self.activation is None:
            return
        if message.fresh:
            self.partition.consume(number)
            self._take(message.invocation, self.activation, now)
        else:
            answers_of(self.activation).looking_up = True
            self.mail.insert(0, (message, number))
            # Out of memory it would have to be looked up anew.
            self.partition.set_active(self, active=True)
            self.partition.absent.look_up(message.invocation.id, self, self._looked_up)

    def _looked_up(self, found: Invocation | None, now: float) -> None:
        """The database has said whether there is such an update."""
        activation = self.activation
        if activation is None or not answers_of(activation).looking_up:
            return
        answers_of(activation).looking_up = False
        message, number = self.mail.pop(0)
        if not isinstance(message, Update):
            raise AssertionError(message)  # noqa: TRY004 - it is ours
        self.partition.consume(number)
        if found is None:
            self._take(message.invocation, activation, now)
        else:
            self.partition.absent.subscribe(found, message.invocation.parent)
        self._read_mail(now)
        if not self.mail:
            self._settle(now)

    def _take(self, call: Invocation, activation: Activation, now: float) -> None:
        """The code refuses an update, or takes it."""
        engine = self.partition.engine
        error = self._refusal(call, activation)
        update.insert(engine, call, self.partition.number)
        if error is not None:
            update.end(engine, call, Outcome(Status.FAILED, failure=failure_of(error)), now)
            return
        call.status, call.started_at = Status.RUNNING, now
        call.waiting = f"{self.spec.name} {self.invocation.id}"
        answers = answers_of(activation)
        answers.accepting = call
        entry = self._entry(EntryKind.UPDATE_RECEIVED, now, name=update.entry_name(call))
        entry.value = call.args
        self._event(entry, now)
        answers.accepting = None

    def _refusal(self, call: Invocation, activation: Activation) -> BaseException | None:
        """Why the code does not take an update; None if it does."""
        codec = self.partition.engine.registry.codec
        try:
            handler = answers_of(activation).update(call.key or "", self.spec.name)
            args, kwargs = arguments(codec, handler.signature, call.args)
            if handler.validator is not None:
                look(activation, handler.validator, args, kwargs)
        except BaseException as error:  # noqa: BLE001 - whatever a validator raises refuses the update
            return error
        return None

    def _end_update(self, answers: Answers | None, id_: str, outcome: Outcome, now: float) -> None:
        engine = self.partition.engine
        call = None if answers is None else answers.accepting
        if call is not None and call.id == id_:
            update.end(engine, call, outcome, now)
        else:
            engine.send(Reply(Address(self.partition.number, id_, 0), outcome))

    def _fail_updates(self, answers: Answers | None) -> None:
        """If it has ended, the updates that it has not answered fail."""
        if self.invocation.status not in FINISHED:
            return
        if answers is None or self._entries is not None:
            for id_ in journal.open_updates(self._entries or ()):
                self._end_update(
                    None, id_, update.ended_first(self.invocation.id), self.partition.engine.now
                )
        else:
            self._fail_open(answers, answers.running)

    def _fail_open(self, answers: Answers, entry_names: set[str]) -> None:
        """Its code will not answer these."""
        outcome, now = update.ended_first(self.invocation.id), self.partition.engine.now
        for name in sorted(entry_names):
            self._end_update(answers, journal.update_of(name)[1], outcome, now)
