"""Real nodes on a real server, and everything that can happen to them; then every sum must be exact.

pytest tests/chaos --minutes 10 --seed 3
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fenbu import Handle
from fenbu._storage.postgres.url import target_of
from fenbu.errors import StorageError
from tests.chaos.monkey import NODES_MAX, Monkey
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service
from tests.end_to_end import bank
from tests.fixture.postgres import Server, Session, binaries, new_url

log = logging.getLogger(__name__)

ACCOUNTS = 1000
OPEN_MAX = 200

AUDIT = """
CREATE TABLE {schema}.audit (
    partition integer, epoch bigint, pid integer, PRIMARY KEY (partition, epoch, pid)
);
CREATE FUNCTION {schema}.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('application_name') LIKE 'fenbu node%' THEN
        INSERT INTO {schema}.audit
        SELECT DISTINCT changed.partition, owner.epoch, pg_backend_pid()
        FROM changed JOIN {schema}.partition AS owner ON owner.number = changed.partition
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_insert AFTER INSERT ON {schema}.invocation
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION {schema}.audit();
CREATE TRIGGER audit_update AFTER UPDATE ON {schema}.invocation
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION {schema}.audit();
"""
"""Who committed what, and at which epoch of its partition."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(binaries())
    yield server
    server.remove()


async def patiently(work: Callable[[], Awaitable[Any]]) -> Any:
    """What a caller does who hears that the database is away: the same again."""
    while True:
        try:
            return await work()
        except StorageError:
            await asyncio.sleep(0.2)


async def transfers(seed: int, expected: Counter[str], until: float) -> int:
    """Start one transfer after the other, so many at a time, and wait for all of them."""
    chance = random.Random(seed)
    room = asyncio.Semaphore(OPEN_MAX)

    async def transfer(number: int) -> None:
        async with room:
            source, target = (f"a{chance.randrange(ACCOUNTS)}" for _ in range(2))
            cents = chance.randrange(1, 100)
            expected[source] -= cents
            expected[target] += cents
            call = bank.transfer.options(id=f"t{number}")
            handle: Handle[str] = await patiently(lambda: call.start(source, target, cents))
            if cents % 7 == 0:
                await patiently(lambda: handle.signal("approved", cents))
            assert await patiently(handle.result) == "done"

    started = 0
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            if time.monotonic() >= until:
                break
            await room.acquire()
            room.release()
            group.create_task(transfer(number))
            started += 1
            await asyncio.sleep(0)
    return started


async def balances() -> AsyncIterator[tuple[str, int]]:
    names = [f"a{number}" for number in range(ACCOUNTS)]
    for start in range(0, ACCOUNTS, 100):
        some = names[start : start + 100]
        moves = (patiently(lambda name=name: bank.Account(name).move(0)) for name in some)
        for name, cents in zip(some, await asyncio.gather(*moves), strict=True):
            yield name, cents


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("one-outcome")
@pytest.mark.guarantee("no-split-brain")
@pytest.mark.guarantee("message-once-in-order")
@pytest.mark.end_to_end
def test_a_bank_on_a_cluster_balances(
    server: Server, tmp_path: Path, minutes: float, seed: int
) -> None:
    asyncio.run(_rage_and_check(server, tmp_path, minutes * 60, seed))


async def _rage_and_check(server: Server, folder: Path, seconds: float, seed: int) -> None:
    url = new_url(server.url)
    proxy = Proxy(server.port)
    port = await proxy.start()
    proxied = url.replace(f":{server.port}/", f":{port}/")
    services = [Service(f"node{n}", url if n % 2 else proxied, folder) for n in range(NODES_MAX)]
    bank.app.url = url
    schema = target_of(url).schema
    expected: Counter[str] = Counter()
    try:
        async with bank.app.client():
            await asyncio.to_thread(_audit, url)
            for each in services[:4]:
                each.start()
            monkey = Monkey(seed, services, proxy, server, url)
            load = asyncio.create_task(transfers(seed, expected, time.monotonic() + seconds))
            await monkey.rage(seconds)
            for each in services:
                if not each.runs:
                    each.start()
            async with asyncio.timeout(120):
                count = await load
                found = {name: cents async for name, cents in balances()}
            log.info("%d transfers, %s", count, dict(monkey.did))
            assert found == {name: expected[name] for name in found}
            assert await bank.Account("log").move(0) == count
        for each in services:
            each.signal(signal.SIGTERM)
        for each in services:
            await each.wait()
        await asyncio.to_thread(_check_audit, url, schema, count)
    except BaseException as error:
        logs = [f"--- {each.name}\n{each.log[-4000:]}" for each in services]
        error.add_note("\n".join([*await asyncio.to_thread(_what_is_left, url), *logs]))
        raise
    finally:
        for each in services:
            await each.kill()
        await proxy.stop()


def _audit(url: str) -> None:
    with Session(url) as session:
        for statement in AUDIT.format(schema=session.schema).split(";\nCREATE"):
            text = statement if statement.lstrip().startswith("CREATE") else f"CREATE{statement}"
            session.execute(text)


def _what_is_left(url: str) -> list[str]:
    with Session(url) as session:
        schema = session.schema
        tables = (
            (
                f"SELECT handler, status, count(*), min(id) FROM {schema}.invocation "
                "WHERE finished_at IS NULL GROUP BY 1, 2"
            ),
            f"SELECT partition, count(*), min(message) FROM {schema}.inbox GROUP BY 1 LIMIT 20",
            f"SELECT node, count(*) FROM {schema}.partition GROUP BY 1",
            (
                "SELECT pid, application_name, state, wait_event, left(query, 60) FROM pg_stat_activity "
                "WHERE application_name LIKE 'fenbu%'"
            ),
        )
        return [str(tuple(row)) for each in tables for row in session.rows(each)]


def _check_audit(url: str, schema: str, count: int) -> None:
    with Session(url) as session:
        shared = session.rows(
            f"SELECT partition, epoch FROM {schema}.audit GROUP BY 1, 2 HAVING count(DISTINCT pid) > 1"
        )
        assert not shared, f"two nodes committed for a partition at one epoch: {shared[:5]}"
        assert session.value(f"SELECT count(*) FROM {schema}.inbox") == 0
        ended = session.value(
            f"SELECT count(*) FROM {schema}.invocation "
            "WHERE handler = 'transfer' AND status = 'completed'"
        )
        assert ended == count
        left = session.rows(
            f"SELECT id, handler, status FROM {schema}.invocation WHERE finished_at IS NULL LIMIT 5"
        )
        assert not left
