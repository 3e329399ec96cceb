"""Behind the real PgBouncer, where it is installed: sessions, transactions, and both."""

from __future__ import annotations

import os
import shutil
import subprocess
from urllib.parse import quote, urlsplit

import pytest

from fenbu._core.message import Call, Retry
from fenbu._core.model import Outcome, Status
from fenbu._storage.postgres.storage import PostgresStorage
from fenbu._storage.protocol import UNPLACED
from fenbu.errors import UnsupportedDatabase
from tests.fixture.postgres import free_port, new_url, unprivileged_user
from tests.fixture.row import call, finished, own, received, stored, write

PROGRAM = os.environ.get("FENBU_TEST_PGBOUNCER") or shutil.which("pgbouncer")

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)


@pytest.fixture(scope="module")
def proxy(postgres, tmp_path_factory):
    """Start a proxy of a mode in front of the server; its URL."""
    started = []

    def start(mode: str, **settings: str) -> str:
        folder = tmp_path_factory.mktemp("pgbouncer")
        server, port, user = urlsplit(postgres), free_port(), unprivileged_user()
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
            **settings,
        }
        lines = [f"{name} = {value}" for name, value in options.items()]
        path = folder / "pgbouncer.ini"
        path.write_text(
            f"[databases]\npostgres = host={server.hostname} port={server.port} user={server.username} "
            f"dbname=postgres\n[pgbouncer]\n" + "\n".join(lines)
        )
        if user is not None:
            for each in (folder, *folder.parents[:2]):
                each.chmod(0o755)
        process = subprocess.Popen(
            [str(PROGRAM), str(path)],
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            cwd="/",
        )
        started.append(process)
        assert process.stderr is not None
        while "process up" not in (line := process.stderr.readline()):
            assert line, "pgbouncer has ended"
        return f"postgresql://{server.username}@127.0.0.1:{port}/postgres"

    yield start
    for each in started:
        each.terminate()
        each.wait()
        each.stderr.close()


@pytest.fixture(scope="module")
def transactions(proxy):
    return proxy("transaction")


@pytest.fixture
def opened(runner):
    """Open storages, and close them at the end."""
    storages = []

    async def opened(url: str) -> PostgresStorage:
        storages.append(PostgresStorage(url))
        await storages[-1].open()
        return storages[-1]

    yield opened
    for each in storages:
        runner.run(each.close())


async def work(node, client):
    """What a node and a client do all day."""
    assert len(await own(node)) == 256
    await client.enqueue([Call(call("a")), Retry(UNPLACED, "a")])
    first, second = await received(node)
    assert first.message == Call(call("a"))
    await write(node, inserted=[finished("a", 2.0)], inbox_deleted=[first.number, second.number])
    assert await client.outcomes(["a"]) == {"a": Outcome(Status.COMPLETED)}
    assert (await stored(node, "a")).invocation.finished_at == 2.0
    assert len((await node.beat()).nodes[0].partitions) == 256
    assert await node.delete_finished("checkout", 3.0, limit=9) == 1
    while await client.wait_for_change(0.0):
        pass
    await write(node, inserted=[finished("b", 2.0)])
    assert await client.wait_for_change(30.0)


async def test_sessions_are_all_that_is_needed(proxy, opened):
    url = new_url(proxy("session"))
    await work(await opened(url), await opened(url))


async def test_a_node_needs_sessions_and_says_how_to_get_them(transactions, opened):
    node = await opened(new_url(transactions))
    with pytest.raises(UnsupportedDatabase, match=r"pool_mode=session.*fenbu_direct"):
        await node.join("node", 1.0)


async def test_a_client_needs_transactions_only(transactions, postgres, opened):
    pooled = new_url(transactions)
    direct = pooled.replace(transactions, postgres)
    await work(await opened(direct), await opened(pooled))


async def test_a_node_has_its_session_elsewhere(transactions, postgres, opened):
    pooled = f"{new_url(transactions)}&fenbu_direct={quote(postgres, safe='')}"
    await work(await opened(pooled), await opened(pooled))


async def test_a_session_that_is_to_last_is_tried(transactions, opened):
    node = await opened(f"{new_url(transactions)}&fenbu_direct={quote(transactions, safe='')}")
    with pytest.raises(UnsupportedDatabase, match="pools transactions"):
        await node.join("node", 1.0)


@pytest.mark.parametrize("settings", [{"server_round_robin": "1"}, {"default_pool_size": "1"}])
async def test_pooling_is_noticed_however_it_is_set(proxy, opened, settings):
    node = await opened(new_url(proxy("transaction", **settings)))
    with pytest.raises(UnsupportedDatabase, match="pools transactions"):
        await node.join("node", 1.0)


async def test_the_doctor_says_what_lies_between(transactions, opened):
    client = await opened(new_url(transactions))
    found = {what: (fine, seen) for what, fine, seen in await client.check()}
    fine, seen = found["sessions"]
    assert not fine
    assert "fenbu_direct" in seen
