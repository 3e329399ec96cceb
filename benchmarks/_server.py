"""A PostgreSQL server for the benchmarks, and how much of the processors it has used.

Unless `--url` names one, the one of the tests is started, but for durability as its administrator would:
fsync and full_page_writes on, everything else that decides what a commit costs as it is by default.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from fenbu._storage.postgres.url import target_of

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.fixture.postgres import Server, binaries, free_port, new_url  # noqa: E402

__all__ = ["free_port"]

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
}

TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def server(url: str, **settings: str) -> Iterator[str]:
    """The URL of a running server: this one, or that of a server of its own, gone afterwards."""
    if url:
        yield url
        return
    own = Server(binaries(), **SETTINGS, **settings)
    try:
        yield own.url
    finally:
        own.remove()


def fresh(server_url: str) -> str:
    """The URL of a schema that nobody uses."""
    return new_url(server_url)


async def execute(url: str, *statements: str) -> None:
    connection: Any = await asyncpg.connect(url)
    for sql in statements:
        await connection.execute(sql)
    await connection.close()


async def forget(url: str) -> None:
    """Drop the schema: else the server goes on to vacuum it beside whatever is measured next."""
    target = target_of(url)
    await execute(target.url, f'DROP SCHEMA IF EXISTS "{target.schema}" CASCADE')


@contextmanager
def schema(server_url: str) -> Iterator[str]:
    """A new schema on the server, gone afterwards."""
    url = fresh(server_url)
    try:
        yield url
    finally:
        asyncio.run(forget(url))


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """A new database on the server, gone afterwards."""
    name = f"bench_{secrets.token_hex(4)}"
    asyncio.run(execute(server_url, f"CREATE DATABASE {name}"))
    try:
        yield server_url.rpartition("/")[0] + f"/{name}"
    finally:
        asyncio.run(execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def settings_of(url: str) -> dict[str, str]:
    """What decides how fast a server is, for the report."""
    names = (
        "server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers",
        "max_wal_size", "wal_sync_method",
    )  # fmt: skip
    connection: Any = await asyncpg.connect(url)
    found = {each: await connection.fetchval(f"SHOW {each}") for each in names}
    await connection.close()
    version = found.pop("server_version").partition(" ")[0]
    return {"PostgreSQL": version, **{f"… {name}": value for name, value in found.items()}}


@contextmanager
def slower_commits(url: str, microseconds: int) -> Iterator[None]:
    """Every commit waits so much longer for its place on the disk, as where flushing takes that long."""

    def configure(*settings: str) -> None:
        changes = (f"ALTER SYSTEM {each}" for each in settings)
        asyncio.run(execute(url, *changes, "SELECT pg_reload_conf()"))

    configure(f"SET commit_delay = {microseconds}", "SET commit_siblings = 0")
    try:
        yield
    finally:
        configure("RESET commit_delay", "RESET commit_siblings")


async def postmaster(url: str) -> int | None:
    """The process id of the server if it runs on this machine."""
    connection: Any = await asyncpg.connect(url)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    try:
        return int(_stat(backend)[1])
    except OSError:
        return None
    finally:
        await connection.close()


def server_seconds(pid: int | None) -> float:
    """Processor time that a server has used, with all its processes, also those that have ended."""
    if pid is None:
        return float("nan")
    total = sum(map(int, _stat(pid)[11:15]))
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                found = _stat(int(each.name))
            except OSError:
                continue
            if int(found[1]) == pid:
                total += int(found[11]) + int(found[12])
    return total / TICKS


def end_all(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """All at once, in good order."""
    processes = list(processes)
    for each in processes:
        each.terminate()
    for each in processes:
        each.wait()


def process_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    found = _stat(pid)
    return (int(found[11]) + int(found[12])) / TICKS


def _stat(pid: int) -> list[str]:
    """From the state on: state, parent, …; utime, stime, cutime and cstime are numbers 11 to 14."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


async def until_settled(app: Any, count: int) -> None:
    """Until so many nodes share the partitions evenly."""
    storage = app.runtime.gateway.storage
    while True:
        shares = [len(each.partitions) for each in await storage.nodes()]
        if len(shares) == count and sum(shares) == 256 and max(shares) - min(shares) <= 1:
            return
        await asyncio.sleep(0.1)
