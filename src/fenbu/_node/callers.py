"""Who waits in a node's process: for calls to be accepted, and for outcomes, wherever the calls run.

It outlives the loss of a session: a call goes on elsewhere, and those who wait for it go on waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from fenbu._core.effect import Ended
from fenbu._core.message import Call, Message, Update
from fenbu._core.model import COMPLETED, Outcome
from fenbu._node.outcomes import OutcomeWatch
from fenbu._node.states import EntityWatch
from fenbu._node.streams import StreamWatch
from fenbu._storage.protocol import Storage
from fenbu.errors import CallNotFound, Unavailable

RECENT_OUTCOMES_MAX = 5_000

LISTENERS_MAX = 100_000

STREAM_PAUSE_SECONDS = 0.25
"""No hint tells a node of what is written elsewhere, so it looks more often than a client."""


class Callers:
    """See the module.

    `hint` is told the listeners in other processes that have news, `owned` are the partitions of
    which all that ends is told here, `all_told` waits until all that has ended here was told.
    """

    def __init__(
        self,
        storage: Storage,
        hint: Callable[[str], None],
        owned: Callable[[], Collection[int]],
        all_told: Callable[[], Awaitable[bool]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._hint = hint
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._accepting: dict[str, tuple[int, list[asyncio.Future[None]]]] = {}
        """By id; in which partition."""
        self._recent: dict[str, Outcome] = {}
        self._less_recent: dict[str, Outcome] = {}
        """The last outcomes, which are what is asked for: `start` and then `result`."""
        self._listeners: dict[str, str] = {}
        """Who waits in another process for a call that is in memory here."""
        self._doubtful: set[str] = set()
        self._watch = OutcomeWatch(
            storage, self._found, self._failed, owned=owned, all_told=all_told
        )
        self.streams = StreamWatch(storage, pause_seconds=STREAM_PAUSE_SECONDS, owned=owned)
        self.states = EntityWatch(storage, pause_seconds=STREAM_PAUSE_SECONDS, owned=owned)

    # Acceptance.

    def expect(self, id_: str, partition: int) -> asyncio.Future[None]:
        """A future that ends when the call with this id is accepted, or was before."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._accepting.setdefault(id_, (partition, []))[1].append(future)
        return future

    def accepted(self, id_: str, *, existed: bool) -> None:
        if not existed:
            # It may have taken the place of one that had ended.
            self.begins(id_)
        _, futures = self._accepting.pop(id_, (0, ()))
        for future in futures:
            if not future.done():
                future.set_result(None)

    def left(self, partitions: Collection[int]) -> None:
        """They have gone elsewhere, and what was on its way to them is in the database: it is accepted."""
        for id_, (partition, _) in list(self._accepting.items()):
            if partition in partitions:
                self.accepted(id_, existed=False)

    # Outcomes.

    def recent(self, id_: str) -> Outcome | None:
        """The outcome of a call that ended here lately."""
        return self._recent.get(id_) or self._less_recent.get(id_)

    def wait(self, id_: str) -> asyncio.Future[Outcome]:
        """A future for the outcome of a call that is in memory here."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        futures = self._waiting.get(id_)
        if futures is None:
            self._waiting[id_] = [future]
        else:
            futures.append(future)
        return future

    def watch_new(self, id_: str) -> None:
        """A call that is waited for is on its way to another node, which hints when it has ended."""
        self._watch.add(id_, must_exist=False, is_new=True)

    def watch(self, id_: str, *, must_exist: bool = True) -> None:
        """A call that somebody may wait for is not in memory here."""
        if id_ in self._waiting:
            self._watch.add(id_, must_exist=must_exist)
        self.streams.news(id_)

    def moved(self) -> list[str]:
        """Partitions have gone elsewhere. Gives the calls that are waited for, so that they are watched."""
        # There, another call may take the place of one that has ended.
        self._recent.clear()
        self._less_recent.clear()
        return list(self._waiting)

    def watch_all(self, ids: Sequence[str]) -> None:
        """Whoever waits for these calls looks for them from now on.

        They are in the database, or never will be.
        """
        for id_ in ids:
            if id_ in self._waiting:
                self._watch.add(id_)
        self.streams.look()
        self.states.look()

    def doubt_all(self) -> None:
        """A session was lost: a call that is waited for may not have been stored at all."""
        self._doubtful.update(self._waiting)
        self.watch_all(self.moved())

    def look(self) -> None:
        """There may be news from elsewhere."""
        self._watch.look()
        self.streams.look()
        self.states.look()

    def tell(self, effect: Ended) -> None:
        """A call has ended here."""
        if effect.outcome.status is COMPLETED:
            # Any other may be tried again, and end differently.
            if len(self._recent) >= RECENT_OUTCOMES_MAX:
                self._less_recent, self._recent = self._recent, {}
            self._recent[effect.id] = effect.outcome
        self._found(effect.id, effect.outcome)

    def begins(self, id_: str) -> None:
        """A call with an id that was chosen is on its way: it may be another than the one that is known."""
        self._recent.pop(id_, None)
        self._less_recent.pop(id_, None)

    def _found(self, id_: str, outcome: Outcome) -> None:
        """How a call has ended, here or elsewhere: there, another may follow and nobody tells of it here."""
        if self._listeners:
            listener = self._listeners.pop(id_, None)
            if listener is not None:
                self._hint(listener)
        if self.streams.waiting:
            self.streams.news(id_)
        futures = self._waiting.pop(id_, None)
        if futures is not None:
            self._watch.discard(id_)
            for future in futures:
                if not future.done():
                    future.set_result(outcome)
            if self._doubtful:
                self._doubtful.discard(id_)

    def listen(self, message: Message) -> None:
        """A message has come from another process, where somebody may wait for the outcome."""
        if isinstance(message, Call | Update) and message.listener is not None:
            if len(self._listeners) >= LISTENERS_MAX:
                self._listeners.clear()  # They look by themselves, later.
            self._listeners[message.invocation.id] = message.listener

    def _failed(self, id_: str, error: Exception) -> None:
        if id_ in self._doubtful and isinstance(error, CallNotFound):
            error = Unavailable(
                f"the database was lost, and has no call {id_}: it was not accepted, unless it has ended "
                "and its handler keeps no outcomes"
            )
        for future in self._waiting.pop(id_, ()):
            if not future.done():
                future.set_exception(error)
        self._doubtful.discard(id_)

    # The end.

    def refuse(self, error: BaseException) -> None:
        """What was to be accepted is not, as far as anybody knows."""
        for _, futures in self._accepting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
                    # Who was told by the lost batch itself does not look here any more.
                    future.exception()
        self._accepting.clear()

    async def stop(self, error: BaseException) -> None:
        """Nobody is to wait for ever."""
        self.refuse(error)
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        self._waiting.clear()
        await self._watch.stop()
        await self.streams.stop(error)
        # There is no call that would go on.
        await self.states.stop(Unavailable("the node has stopped: watch again when it runs"))
