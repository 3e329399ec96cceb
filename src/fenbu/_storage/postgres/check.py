"""What `fenbu doctor` looks at in a PostgreSQL database. It writes nothing but a row as it was."""

from __future__ import annotations

import time
from typing import Any, Final

from fenbu._storage.postgres.driver import Connection
from fenbu._storage.postgres.error import POOLER_ADVICE
from fenbu._storage.postgres.session import Pool
from fenbu._storage.postgres.url import Target
from fenbu._storage.protocol import NodeInfo

Check = tuple[str, bool, str]

COMMITS: Final = 5
COMMIT_SECONDS_MAX: Final = 0.05
CLOCK_SECONDS_MAX: Final = 1.0
CONNECTIONS_MIN: Final = 10
TRANSACTION_SECONDS_MAX: Final = 300.0
INBOX_BYTES_PER_MESSAGE_MAX: Final = 20_000
INBOX_BYTES_FREE: Final = 256 * 1024 * 1024


async def check(pool: Pool, target: Target, nodes: list[NodeInfo]) -> list[Check]:
    """See `Observer.check`."""
    settings: dict[str, str] = {each[0]: each[1] for each in await pool.fetch("observe.settings")}
    count = await pool.fetchval("inbox.count")
    parked = await pool.fetch("invocation.count_parked")
    return [
        ("server", True, f"PostgreSQL {settings['server_version']}; {target.place}"),
        await _privileges(pool, target),
        ("sessions", not pool.pooled or target.pooled, _sessions(pool, target)),
        _durability(settings),
        await _commit(pool),
        await _connections(pool),
        *await _transactions(pool),
        await _inbox(pool, target, settings, count),
        ("nodes", True, ", ".join(map(_node, nodes)) or "none runs now"),
        (
            "parked calls",
            not parked,
            ", ".join(f"{each[1]} {each[0]}" for each in parked) or "none",
        ),
    ]


def _node(node: NodeInfo) -> str:
    return f"{node} with {len(node.partitions)} partitions"


async def _privileges(pool: Pool, target: Target) -> Check:
    missing = ", ".join(each[0] for each in await pool.fetch("observe.privileges", target.schema))
    return ("privileges", not missing, f"grant {missing}" if missing else "all that nodes need")


def _sessions(pool: Pool, target: Target) -> str:
    if target.pooled:
        return "through a proxy, and directly where a session has to last"
    if pool.pooled:
        return f"a proxy pools transactions: a client works so, a node does not. {POOLER_ADVICE}"
    return "they last"


def _durability(settings: dict[str, str]) -> Check:
    wrong = [name for name in ("fsync", "full_page_writes") if settings[name] != "on"]
    if settings["synchronous_commit"] == "off":
        wrong.append("synchronous_commit")
    advice = f"{' and '.join(wrong)} off: a power cut loses or damages what was accepted; turn on"
    seen = f"fsync and full_page_writes on, synchronous_commit {settings['synchronous_commit']}"
    return ("durability", not wrong, advice if wrong else seen)


async def _commit(pool: Pool) -> Check:
    async def measure(connection: Connection) -> float:
        began = time.perf_counter()
        await connection.execute(pool.sql["observe.touch"])
        return time.perf_counter() - began

    seconds = sorted([await pool.run(measure) for _ in range(COMMITS)])[COMMITS // 2]
    return (
        "latency of a commit",
        seconds <= COMMIT_SECONDS_MAX,
        (
            f"{seconds * 1000:.1f} ms; above {COMMIT_SECONDS_MAX * 1000:.0f} ms a workflow's steps are slow: "
            "run nodes near the server, and its log on a faster disk"
        ),
    )


async def _connections(pool: Pool) -> Check:
    ((used, allowed),) = await pool.fetch("observe.connections")
    return (
        "connections",
        allowed - used >= CONNECTIONS_MIN,
        f"{used} of {allowed} are used; a node needs up to 6, a client up to 5",
    )


async def _transactions(pool: Pool) -> list[Check]:
    before = time.time()
    ((oldest, began_at),) = await pool.fetch("observe.transactions")
    after = time.time()
    ahead = max(began_at - after, before - began_at, 0.0)
    return [
        (
            "clock",
            ahead <= CLOCK_SECONDS_MAX,
            f"{ahead:.1f} s apart from the server's: no promise rests on it, but people compare times",
        ),
        (
            "old transactions",
            (oldest or 0.0) <= TRANSACTION_SECONDS_MAX,
            f"the oldest is open for {oldest or 0.0:.0f} s; beyond minutes nothing can be tidied up: end it",
        ),
    ]


async def _inbox(pool: Pool, target: Target, settings: dict[str, str], count: int) -> Check:
    rows: list[Any] = await pool.fetch("observe.inbox", target.schema)
    dead, size = rows[0] if rows else (0, 0)
    bloated = size > INBOX_BYTES_FREE + count * INBOX_BYTES_PER_MESSAGE_MAX
    return (
        "inbox",
        settings["autovacuum"] == "on" and not bloated,
        (
            f"{count} messages not yet applied, {dead} dead rows, {size >> 20} MiB, autovacuum "
            f"{settings['autovacuum']}; if it grows without messages, a transaction is open for too long"
        ),
    )
