"""The least that Python can do: the same rows through asyncio and a writer's thread, without an engine.

The raw ceiling has one thread, all rows ready, and nobody who waits. A server has clients: so here as many
coroutines as in the measured run write the recorded rows of one call after the other, and await each time
until what they wrote is on disk; one thread writes what has gathered meanwhile, with the statements that
the engine used. There is no call, no journal and no encoding. The difference between this and the raw
ceiling is the price of asyncio and the interpreter's lock; the rest is the engine.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from _ceiling import SKIPPED, Recording, fresh, removed, rows_of, single_of

Row = tuple[Any, ...]
Write = list[tuple[str, Row]]
"""What a client writes before it waits: statements for one row, and their rows."""

SWITCH_SECONDS = 0.0002
"""As in fenbu: how long a thread waits for the interpreter's lock before it asks for it."""


def group_commit_seconds(recording: Recording, database: Path, clients: int) -> float:
    """How long so many clients take for the calls of the recording's measured part."""
    connection = fresh(recording, database)
    templates = _templates(recording)
    for batch in recording.batches:
        if not batch.measured:
            connection.execute("BEGIN IMMEDIATE")
            for sql, parameters in batch.statements:
                connection.execute(sql, parameters)
            connection.commit()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        return asyncio.run(_run(connection, templates, _calls(recording), clients))
    finally:
        sys.setswitchinterval(switch)
        connection.close()
        removed(database)


def _calls(recording: Recording) -> list[list[Write]]:
    """For each call, by the id that its rows begin with: what it wrote in each batch that it was part of."""
    calls: dict[Any, dict[int, Write]] = defaultdict(lambda: defaultdict(list))
    for number, batch in enumerate(recording.measured):
        for sql, parameters in batch.statements:
            single, rows = single_of(sql), rows_of(sql, parameters)
            if single is None or rows is None:
                continue
            for row in rows:
                calls[row[0]][number].append((single.sql, row))
    return [list(each.values()) for each in calls.values()]


def _templates(recording: Recording) -> dict[str, list[tuple[int, int, str]]]:
    """For each statement for one row: (rows, columns, statement) of those for many that the engine used."""
    found: dict[str, set[tuple[int, int, str]]] = defaultdict(set)
    for batch in recording.batches:
        for sql, parameters in batch.statements:
            single = single_of(sql)
            if single is not None:
                columns = single.columns
                found[single.sql].add((len(parameters) // columns, columns, sql))
    return {key: sorted(each) for key, each in found.items()}


def _statements(
    templates: dict[str, list[tuple[int, int, str]]], gathered: dict[str, list[Row]]
) -> list[tuple[str, list[Any]]]:
    """As few statements as the known sizes allow, filled up with rows that they skip."""
    todo: list[tuple[str, list[Any]]] = []
    for key, rows in gathered.items():
        sizes = templates[key]
        start = 0
        while start < len(rows):
            left = len(rows) - start
            size, columns, sql = next((each for each in sizes if each[0] >= left), sizes[-1])
            flat = [value for row in rows[start : start + size] for value in row]
            flat += [SKIPPED] * (size * columns - len(flat))
            todo.append((sql, flat))
            start += size
    return todo


async def _run(
    connection: sqlite3.Connection,
    templates: dict[str, list[tuple[int, int, str]]],
    calls: list[list[Write]],
    clients: int,
) -> float:
    loop = asyncio.get_running_loop()
    jobs: SimpleQueue[tuple[list[tuple[str, list[Any]]], asyncio.Future[None]] | None] = (
        SimpleQueue()
    )
    gathered: dict[str, list[Row]] = defaultdict(list)
    waiting: list[asyncio.Future[None]] = []
    wanted = asyncio.Event()

    def serve() -> None:
        while (job := jobs.get()) is not None:
            connection.execute("BEGIN IMMEDIATE")
            for sql, parameters in job[0]:
                connection.execute(sql, parameters)
            connection.commit()
            loop.call_soon_threadsafe(job[1].set_result, None)

    async def commit() -> None:
        nonlocal gathered, waiting
        while True:
            await wanted.wait()
            wanted.clear()
            batch, told = gathered, waiting
            gathered, waiting = defaultdict(list), []
            future: asyncio.Future[None] = loop.create_future()
            jobs.put((_statements(templates, batch), future))
            await future
            for each in told:
                each.set_result(None)

    async def client() -> None:
        for call in numbers:
            for write in call:
                for key, row in write:
                    gathered[key].append(row)
                durable: asyncio.Future[None] = loop.create_future()
                waiting.append(durable)
                wanted.set()
                await durable

    numbers = iter(calls)
    writer = threading.Thread(target=serve)
    writer.start()
    committer = asyncio.create_task(commit())
    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - began
    committer.cancel()
    jobs.put(None)
    writer.join()
    return took
