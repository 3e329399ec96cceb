"""Group commit: while one batch is being written the next one fills; effects leave when theirs is durable.

The only writer of a node. A batch that is refused (disk full, database busy) is tried again, with all
that came to wait behind it; nothing has left, so nothing is lost. After an unknown outcome, memory may
differ from the disk: it is dropped, and what is on disk is loaded as the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fenbu._core.batch import Batch
from fenbu._core.effect import Effect
from fenbu._core.engine import Engine
from fenbu._node.telemetry import Telemetry, log
from fenbu._storage.protocol import CommitOutcome, Storage
from fenbu.errors import Unavailable

RETRY_SECONDS_MAX = 2.0


class Committer:
    """See the module."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        telemetry: Telemetry,
        release: Callable[[list[Effect]], None],
    ) -> None:
        self._engine = engine
        self._storage = storage
        self._telemetry = telemetry
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._durable: dict[int, list[asyncio.Future[None]]] = {}
        """Who waits for a batch, by its number; each alone, so that one who is cancelled is so alone."""
        self._written: list[Batch] = []
        """On disk; their effects leave in the next turn of the event loop at the latest."""
        self.durable_number = 0
        """Every batch up to this one is on disk."""
        self.trouble: str | None = None
        """Why the last batch was refused, while it is being tried again."""
        self._stopped_by: BaseException | None = None

    def kick(self) -> None:
        """The engine has been driven: its batch wants to be written."""
        if not self._wanted.is_set():
            self._wanted.set()

    def durable(self) -> asyncio.Future[None]:
        """A future for the open batch."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._stopped_by is not None:
            _fail([future], self._stopped_by)
            return future
        self._durable.setdefault(self._engine.batch.number, []).append(future)
        self._wanted.set()
        return future

    async def written(self) -> None:
        """Wait until the open batch is on disk, also while the database refuses it."""
        number = self._engine.batch.number
        while self.durable_number < number:
            try:
                await self.durable()
            except Unavailable:
                if self._stopped_by is not None:
                    raise

    async def run(self) -> None:
        """Write batches for as long as the node lives."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write the open batch and release its effects.

        If the next one waits already, that is sent first: the database writes it while the calls of this
        one go on here.
        """
        batch = self._engine.next_batch()
        rows = batch.finish()
        if not rows.is_empty():
            await self._write(batch)
            self._telemetry.durable(rows)
        elif batch.tells():
            # A node that stood still may read a state that is another's by now: only its session knows.
            await self._write(batch)
        self.durable_number = batch.number
        self._written.append(batch)
        if self._wanted.is_set() and not self._engine.batch.is_empty():
            self._loop.call_soon(self._release_written)
        else:
            self._release_written()

    def _release_written(self) -> None:
        written, self._written = self._written, []
        for batch in written:
            for future in self._durable.pop(batch.number, ()):
                if not future.done():
                    future.set_result(None)
            self._release(batch.effects)

    async def _write(self, batch: Batch) -> None:
        wait = 0.05
        while True:
            commit = await self._storage.commit(batch.rows)
            if commit.outcome is CommitOutcome.COMMITTED:
                if self.trouble is not None:
                    log.warning("the database accepts writes again; everything has been stored")
                    self.trouble = None
                return
            if commit.outcome is CommitOutcome.UNKNOWN:
                raise Unavailable(f"a batch may or may not have been written ({commit.error})")
            if self.trouble is None:
                log.error(
                    "the database refuses to store: %s; the node keeps what it has and tries again",
                    commit.error,
                )
            self.trouble = commit.error or "refused"
            self._tell(batch)
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    def _tell(self, batch: Batch) -> None:
        """Whoever waits for their call to be accepted should not wait for a disk to be repaired."""
        _fail(
            self._durable.pop(batch.number, ()),
            Unavailable(
                f"not stored yet: {self.trouble}. fenbu keeps trying; starting the call again with "
                "the same id is safe"
            ),
        )

    def stop(self, error: BaseException) -> None:
        """The node stops: nobody is to wait for ever."""
        self._stopped_by = error
        for futures in self._durable.values():
            _fail(futures, error)
        self._durable.clear()


def _fail(futures: Iterable[asyncio.Future[None]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
            future.exception()  # Whoever waited may be cancelled next: then nobody has to see it.
