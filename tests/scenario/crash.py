"""Strikes a node at its n-th commit, for every n, and lets the work be finished: the end must be the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from typing import Any

from fenbu import App
from fenbu._core.batch import CommitBatch
from fenbu._node.node import Node
from fenbu._node.tenure import NodeOptions
from fenbu._storage.memory.database import MemoryDatabase
from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.observer import CallFilter
from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu._storage.sqlite.storage import SQLiteStorage
from fenbu.errors import Unavailable

COMMITS_MAX = 200

Scenario = Callable[[], Awaitable[Any]]
"""Starts calls with fixed ids, or finds them, and waits for their results. Safe to run again."""


class Disk:
    """A database that outlives its nodes."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.memory = MemoryDatabase()

    def storage(self) -> Any:
        return MemoryStorage(self.memory) if self.path is None else SQLiteStorage(str(self.path))


class Fault(Enum):
    """What happens instead of the n-th commit."""

    KILLED = "the process is gone"
    """Nothing is committed any more, and nobody hears of it; another node finishes."""
    LOST_BEFORE = "the session is lost before it is written"
    LOST_AFTER = "the session is lost after it was written"
    """The node does not know whether it was written; it joins again and finishes itself."""


class Crash:
    """Lets the fault happen in a storage."""

    def __init__(self, storage: Any, commits: int | None, fault: Fault) -> None:
        self.commits = commits
        self.fault = fault
        self.count = 0
        self.reached = asyncio.Event()
        self._commit: Callable[[CommitBatch], Awaitable[Commit]] = storage.commit
        storage.commit = self.commit

    async def commit(self, batch: CommitBatch) -> Commit:
        self.count += 1
        strikes = self.commits is not None and self.count == self.commits + 1
        if strikes and self.fault is Fault.KILLED:
            self.reached.set()
            await asyncio.Event().wait()
        if strikes and self.fault is Fault.LOST_BEFORE:
            return Commit(CommitOutcome.UNKNOWN, self.fault.value)
        done = await self._commit(batch)
        return Commit(CommitOutcome.UNKNOWN, self.fault.value) if strikes else done


async def run(
    app: App,
    disk: Disk,
    scenario: Scenario,
    commits: int | None,
    idle: float,
    fault: Fault = Fault.KILLED,
) -> int | None:
    """Run a node until the scenario ends (None) or it crashes; then abandon it as a crash would.

    Returns how many commits it made if the scenario ended.
    """
    storage = disk.storage()
    crash = Crash(storage, commits, fault)
    meta = await storage.open()
    app.registry.partition_count = meta.partition_count
    node = Node(app.registry, storage, options=NodeOptions(idle_seconds=idle))
    await node.start()
    app.runtime.opened(node)
    work = asyncio.ensure_future(_patient(scenario))
    down = asyncio.ensure_future(crash.reached.wait())
    try:
        await asyncio.wait((work, down), return_when=asyncio.FIRST_COMPLETED, timeout=20)
        assert work.done() or down.done(), "neither an end nor a crash"
        if down.done():
            return None
        await work
        return crash.count
    finally:
        app.runtime.closed()
        await abandon(node, work, down)
        await storage.close()


async def _patient(scenario: Scenario) -> None:
    """What a caller does who hears that the database was away: the same again."""
    while True:
        try:
            await scenario()
        except Unavailable:
            continue
        return


async def abandon(node: Node, *tasks: asyncio.Future[Any]) -> None:
    """Nothing of its memory survives: no draining, no last commit."""
    everything = [*tasks, *node._tasks]
    for task in everything:
        task.cancel()
    await asyncio.gather(*everything, return_exceptions=True)
    # It notices that it has been cancelled, and lets go of everything.
    await asyncio.gather(*node._tasks, return_exceptions=True)


async def contents(disk: Disk) -> dict[str, Any]:
    """What the database holds, without instants."""
    storage = disk.storage()
    await storage.open()
    calls = await storage.list_calls(CallFilter(limit=10_000))
    loaded = await storage.load_calls(sorted(each.id for each in calls))
    states = await storage.list_entities(None, limit=10_000)
    fields = await storage.scan_fields(("", "", ""), limit=10_000)
    inbox = await storage.inbox_count()
    await storage.close()
    found: dict[str, Any] = {
        each.invocation.id: (
            each.invocation.handler,
            each.invocation.status,
            each.invocation.result,
            each.invocation.failure.message if each.invocation.failure else None,
            [(entry.kind, entry.command, entry.name, entry.value) for entry in each.entries],
        )
        for each in loaded
    }
    found["entities"] = sorted((each.entity, each.key, each.state) for each in states)
    found["fields"] = [(each.entity, each.key, each.name, each.value) for each in fields]
    found["inbox"] = inbox
    return found


async def crash_after_each_commit(
    app: App,
    scenario: Scenario,
    folder: Path | None,
    *,
    idle: float = 10.0,
    fault: Fault = Fault.KILLED,
    comparable: Callable[[dict[str, Any]], Any] = lambda found: found,
) -> int:
    """Returns how many places it crashed at."""

    def disk(name: str) -> Disk:
        return Disk(None if folder is None else folder / f"{name}.db")

    calm = disk("calm")
    commits = await run(app, calm, scenario, None, idle)
    assert commits is not None
    assert 0 < commits < COMMITS_MAX
    expected = comparable(await contents(calm))
    for place in range(commits):
        shaken = disk(f"crash-{place}")
        ended = await run(app, shaken, scenario, place, idle, fault)
        if ended is None:
            await run(app, shaken, scenario, None, idle)
        got = comparable(await contents(shaken))
        assert got == expected, f"{fault.value}, commit {place}:\n{got}\nnot\n{expected}"
    return commits
