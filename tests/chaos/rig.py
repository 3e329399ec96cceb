"""Nodes of one service on a real server, a proxy before some of them, a monkey; and what holds afterwards."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fenbu import App, Status
from fenbu._storage.postgres.url import target_of
from fenbu.errors import StorageError
from tests.chaos.monkey import NODES_MAX, Monkey
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service
from tests.fixture.postgres import Server, Session, new_url

log = logging.getLogger(__name__)

OPERATOR_SECONDS = 3.0

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


async def patiently(work: Callable[[], Awaitable[Any]]) -> Any:
    """What a caller does who hears that the database is away: the same again."""
    while True:
        try:
            return await work()
        except StorageError:
            await asyncio.sleep(0.2)


class Rig:
    """See the module. `url` is that of the client, which is spared."""

    def __init__(self, url: str, services: list[Service], monkey: Monkey) -> None:
        self.url = url
        self.schema = target_of(url).schema
        self._services = services
        self._monkey = monkey

    async def rage(self, seconds: float) -> None:
        """Faults for so long; then all nodes run."""
        await self._monkey.rage(seconds)
        for each in self._services:
            if not each.runs:
                each.start()
        log.info("%s", dict(self._monkey.did))

    async def stop(self) -> None:
        """In good order."""
        for each in self._services:
            each.signal(signal.SIGTERM)
        for each in self._services:
            await each.wait()

    def check(self) -> None:
        """Nothing is left, and no partition was ever committed by two nodes."""
        with Session(self.url) as session:
            shared = session.rows(
                f"SELECT partition, epoch FROM {self.schema}.audit GROUP BY 1, 2 "
                "HAVING count(DISTINCT pid) > 1"
            )
            assert not shared, f"two nodes committed for a partition at one epoch: {shared[:5]}"
            assert session.value(f"SELECT count(*) FROM {self.schema}.inbox") == 0
            left = session.rows(
                f"SELECT id, handler, status FROM {self.schema}.invocation "
                "WHERE finished_at IS NULL LIMIT 5"
            )
            assert not left

    def completed(self, handler: str) -> int:
        """How many calls of a handler have their result."""
        with Session(self.url) as session:
            count: int = session.value(
                f"SELECT count(*) FROM {self.schema}.invocation "
                "WHERE handler = $1 AND status = 'completed'",
                handler,
            )
            return count


@asynccontextmanager
async def rig_of(
    app: App, program: Path, server: Server, folder: Path, seed: int, *, at_node: bool = False
) -> AsyncIterator[Rig]:
    """Four nodes run the program, and more will; `app` is open here, as a client or as one more node.

    That one is not killed: it is as a web process that runs calls as well.
    """
    url = new_url(server.url)
    proxy = Proxy(server.port)
    port = await proxy.start()
    proxied = url.replace(f":{server.port}/", f":{port}/")
    services = [
        Service(f"node{n}", program, url if n % 2 else proxied, folder) for n in range(NODES_MAX)
    ]
    app.url = url
    try:
        async with app if at_node else app.client():
            await asyncio.to_thread(_audit, url)
            for each in services[:4]:
                each.start()
            operator = asyncio.create_task(_operate(app))
            try:
                yield Rig(url, services, Monkey(seed, services, proxy, server, url))
            finally:
                operator.cancel()
                await asyncio.gather(operator, return_exceptions=True)
    except BaseException as error:
        logs = [f"--- {each.name}\n{each.log[-4000:]}" for each in services]
        error.add_note("\n".join([*await asyncio.to_thread(_what_is_left, url), *logs]))
        raise
    finally:
        for each in services:
            await each.kill()
        await proxy.stop()


async def _operate(app: App) -> None:
    """What a person does about calls that were there each time when a process was killed: once in an hour of
    kills, one that is innocent is alone among the suspects twice."""
    while True:
        await asyncio.sleep(OPERATOR_SECONDS)
        try:
            count = await app.steer_calls("retry", statuses=[Status.QUARANTINED])
        except StorageError:
            continue
        if count:
            log.info("%d quarantined calls may try again", count)


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
