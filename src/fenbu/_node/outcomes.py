"""Outcomes of calls that run elsewhere: one reader for all who wait in this process.

It looks after a hint, soon after somebody came to wait, and from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from msgspec import Struct

from fenbu._core.model import Outcome
from fenbu._storage.protocol import Storage
from fenbu.errors import CallNotFound, FenbuError, Unavailable

LOOK_SECONDS_MIN = 0.02
LOOK_SECONDS_MAX = 1.0
"""The pause between two looks doubles from one to the other; it is short again when somebody comes."""


class _Wanted(Struct, frozen=True, eq=False):
    must_exist: bool
    """False if its message may be on its way."""
    is_new: bool
    """Then it is on its way until the batch is durable in which it was sent."""


async def _nothing_to_tell() -> bool:
    return True


class OutcomeWatch:
    """See the module. `found` and `failed` are told what was read."""

    def __init__(
        self,
        storage: Storage,
        found: Callable[[str, Outcome], None],
        failed: Callable[[str, FenbuError], None],
        *,
        listen: Callable[[], None] = lambda: None,
        owned: Callable[[], Collection[int]] = tuple,
        all_told: Callable[[], Awaitable[bool]] = _nothing_to_tell,
    ) -> None:
        self._storage = storage
        self._listen = listen
        """Called when somebody waits, so that somebody else calls `look` at each hint."""
        self._found = found
        self._failed = failed
        self._owned = owned
        """The partitions of which somebody else tells what ends there: then one look is enough."""
        self._all_told = all_told
        """Waits until they have told of all that have ended; false if they can no longer."""
        self._ids: dict[str, _Wanted] = {}
        """Calls that are waited for."""
        self._pause = LOOK_SECONDS_MIN
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Somebody waits."""
        return bool(self._ids)

    def add(self, id_: str, *, must_exist: bool = True, is_new: bool = False) -> None:
        """Somebody waits for a call; `must_exist` is false if its message may be on its way.

        A call that `is_new` cannot have ended yet: there is nothing to see before a hint or a while.
        """
        before = self._ids.get(id_)
        if before is not None and not (before.must_exist or before.is_new):
            must_exist = False  # That of a ticket is taken up some time after its batch.
        self._ids[id_] = _Wanted(must_exist, is_new)
        self._pause = LOOK_SECONDS_MIN
        if not is_new:
            self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._listen()

    def discard(self, id_: str) -> None:
        """Nobody waits for it any more."""
        self._ids.pop(id_, None)

    def look(self) -> None:
        """There may be news."""
        self._wake.set()

    async def stop(self) -> None:
        """Stop looking."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._ids:
                try:
                    async with asyncio.timeout(self._pause):
                        await self._wake.wait()
                except TimeoutError:
                    self._pause = min(2 * self._pause, LOOK_SECONDS_MAX)
                self._wake.clear()
                await self._read()
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _read(self) -> None:
        # Of those that are taken while the answer is on its way it may show what was before.
        asked, owned = dict(self._ids), frozenset(self._owned())
        try:
            found = await self._storage.outcomes(list(asked))
        except Unavailable:
            return  # The database is away: those who wait do so until it is back.
        except FenbuError as error:
            for id_ in asked:
                self._ids.pop(id_, None)
                self._failed(id_, error)
            return
        missing: dict[str, _Wanted] = {}
        for id_, wanted in asked.items():
            outcome = found.get(id_)
            if isinstance(outcome, Outcome):
                self._ids.pop(id_, None)
                self._found(id_, outcome)
            elif outcome is None and wanted.must_exist:
                missing[id_] = wanted
            elif (
                outcome is not None and outcome.partition in owned and self._ids.get(id_) is wanted
            ):
                # Unless somebody has come meanwhile because it is told here no longer.
                self._ids.pop(id_, None)
        if missing:
            await self._fail(missing)

    async def _fail(self, missing: dict[str, _Wanted]) -> None:
        # One that keeps no outcome may have ended in a batch that is on disk and not told of yet.
        if not await self._all_told():
            return
        for id_, wanted in missing.items():
            if self._ids.get(id_) is wanted:
                self._ids.pop(id_, None)
                error = CallNotFound(f"no call has the id {id_!r}, or its retention is over")
                self._failed(id_, error)
