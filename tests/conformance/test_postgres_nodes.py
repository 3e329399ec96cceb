"""Several nodes on one database: partitions change hands, and only who holds a lock commits."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from fenbu._core.message import Retry
from fenbu._storage.postgres.ownership import lock_class
from fenbu._storage.postgres.storage import PostgresStorage
from fenbu._storage.protocol import CommitBatch, CommitOutcome
from fenbu.errors import InternalError, OwnershipLost
from tests.fixture.postgres import Session, about_hints, new_url
from tests.fixture.row import PARTITIONS, call, finished, own, received, stored, write


@pytest.fixture
def url(postgres):
    return new_url(postgres)


@pytest.fixture
def join(url, runner):
    """Start one more node; all are closed at the end."""
    nodes = []

    async def join(partitions=(), url=url) -> PostgresStorage:
        nodes.append(PostgresStorage(url))
        await nodes[-1].open()
        await nodes[-1].join(f"node {len(nodes)}", float(len(nodes)))
        await nodes[-1].take(partitions)
        return nodes[-1]

    yield join
    for each in nodes:
        runner.run(each.close())


@pytest.fixture
def other(url):
    with Session(url) as session:
        yield session


def end_session(other: Session, storage: PostgresStorage) -> None:
    """As an administrator would, or a server that stops."""
    pid = storage._membership.writer.pid
    other.execute("SELECT pg_terminate_backend($1)", pid)
    while other.rows("SELECT FROM pg_stat_activity WHERE pid = $1", pid):
        pass  # It does not wait for that.


async def test_each_partition_has_one_owner(join):
    one = await join([1, 2, 3])
    two = await join()
    assert await two.take([2, 3, 4, 5]) == [4, 5]
    nodes = await two.nodes()
    assert [(each.name, each.partitions) for each in nodes] == [
        ("node 1", (1, 2, 3)),
        ("node 2", (4, 5)),
    ]
    await one.release([2])
    assert await two.take([1, 2]) == [2]
    assert [each.partitions for each in (await one.beat()).nodes] == [(1, 3), (2, 4, 5)]
    await one.close()
    assert await two.take(PARTITIONS) == PARTITIONS


async def test_nodes_on_other_schemas_are_no_competitors(join, postgres):
    one, two = await join(PARTITIONS), await join(url=new_url(postgres))
    assert await two.take(PARTITIONS) == PARTITIONS
    assert [each.name for each in await one.nodes()] == ["node 1"]


async def test_taking_a_partition_raises_its_epoch(join, other):
    query = f"SELECT epoch, node FROM {other.schema}.partition WHERE number = 7"
    epochs = []
    for _ in range(3):
        node = await join([7])
        epochs.append(other.value(f"SELECT epoch FROM ({query}) AS row"))
        await node.take([7])
        await node.release([7])
    assert epochs == [1, 2, 3]
    assert other.value(f"SELECT node FROM ({query}) AS row") is None


@pytest.mark.guarantee("no-split-brain")
async def test_a_node_without_its_session_writes_nothing(join, other):
    one = await join(PARTITIONS)
    await write(one, inserted=[call("a")])
    end_session(other, one)
    two = await join()
    assert await two.take(PARTITIONS) == PARTITIONS
    first = await asyncio.gather(
        one.commit(CommitBatch(inserted=[call("b")])), return_exceptions=True
    )
    # It hears of it before or while it writes; afterwards it knows.
    assert isinstance(first[0], OwnershipLost) or first[0].outcome is CommitOutcome.UNKNOWN
    for what in (
        one.commit(CommitBatch(inserted=[call("b")])), one.take([1]), one.beat(), one.revive(["x"], [1]),
    ):  # fmt: skip
        with pytest.raises(OwnershipLost, match="join again"):
            await what
    assert [each.invocation.id for each in await two.load_calls(["a", "b"])] == ["a"]
    await one.join("again", 3.0)
    assert await one.take(PARTITIONS) == []
    assert [each.name for each in await one.nodes()] == ["node 2", "again"]


async def test_a_session_that_ends_during_a_commit_leaves_its_outcome_open(join, other):
    node = await join(PARTITIONS)
    other.execute("BEGIN")
    other.execute(f"LOCK TABLE {other.schema}.invocation IN EXCLUSIVE MODE")
    commit = asyncio.create_task(node.commit(CommitBatch(inserted=[call("a")])))
    while not other.value(
        "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted", node._membership.writer.pid
    ):
        await asyncio.sleep(0)
    end_session(other, node)
    found = await commit
    assert found.outcome is CommitOutcome.UNKNOWN
    assert "127.0.0.1" in found.error
    other.execute("ROLLBACK")
    assert await node.load_calls(["a"]) == []


@pytest.mark.guarantee("no-split-brain")
async def test_a_commit_that_reaches_another_session_is_refused_there(join):
    """A proxy may put another session in the place of ours without a word."""
    node = await join(PARTITIONS)
    node._membership.writer.pid += 1
    with pytest.raises(InternalError, match="division by zero"):
        await node.commit(CommitBatch(inserted=[call("a")]))
    assert await node.load_calls(["a"]) == []


@pytest.mark.guarantee("no-split-brain")
async def test_a_transaction_that_holds_the_epoch_holds_the_partition(join, other):
    """As a step that writes in a transaction of its own does: until it has ended nobody else may begin."""
    one = await join([1, 2])
    other.execute("BEGIN")
    other.execute(f"SELECT epoch FROM {other.schema}.partition WHERE number = 1 FOR SHARE")
    await one.close()
    two = await join()
    assert await two.take([1, 2, 3]) == [2, 3]
    assert (await two.beat()).nodes[0].partitions == (2, 3)
    other.execute("COMMIT")
    assert await two.take([1]) == [1]


async def test_a_lock_is_not_kept_when_taking_fails(join, other):
    one, two = await join(), await join()
    other.execute("BEGIN")
    other.execute(f"LOCK TABLE {other.schema}.partition IN EXCLUSIVE MODE")
    await one._membership.writer.run(lambda c: c.execute("SET lock_timeout = '1ms'"))
    with pytest.raises(Exception, match="locked by another transaction"):
        await one.take([1])
    other.execute("ROLLBACK")
    assert await two.take([1]) == [1]


async def test_dead_nodes_are_forgotten(join, other):
    for _ in range(3):
        await (await join()).close()
    await join()
    assert other.value(f"SELECT count(*) FROM {other.schema}.node") == 1


async def test_locks_have_numbers_that_postgresql_has():
    assert 0 < lock_class("ffffffff00000000") < 2**31
    assert lock_class("0000000100000000") == 1


@about_hints
async def test_a_message_to_another_nodes_partition_wakes_that_node_only(join):
    one, two, three = await join([1]), await join([2]), await join([3])
    for each in (one, two, three):
        while await each.wait_for_change(0.0):
            pass
    waiting = asyncio.create_task(two.wait_for_change(30.0))
    await asyncio.sleep(0)
    await write(one, inserted=[finished("x", 1.0)], inbox=[Retry(2, "a"), Retry(1, "own")])
    assert await waiting
    assert not await three.wait_for_change(0.05)
    assert not await one.wait_for_change(0.0)
    assert [each.message.id for each in await received(two)] == ["a", "own"]


def receivers_of_hints(node, monkeypatch) -> list[set[str]]:
    """Of each statement that gives hints, from now on."""
    sent, send = [], node._hints._send

    async def noted():
        sent.append(set(node._hints._receivers))
        await send()

    monkeypatch.setattr(node._hints, "_send", noted)
    return sent


async def hearing(storage) -> asyncio.Task[bool]:
    """It waits for the next change, having heard of all before."""
    while await storage.wait_for_change(0.0):
        pass
    waiting = asyncio.create_task(storage.wait_for_change(30.0))
    await asyncio.sleep(0)
    return waiting


async def test_a_client_can_be_told_by_its_name(join, url, runner):
    node, client = await join([1]), await join()
    waiting = await hearing(client)
    node.hint([], [client.listener])
    assert await waiting


@about_hints
async def test_what_comes_in_one_turn_is_one_hint(join, monkeypatch):
    """Calls that end tell all clients, and the one who is known to wait."""
    node, client = await join([1]), await join()
    sent = receivers_of_hints(node, monkeypatch)
    waiting = await hearing(client)
    node._hints.tell_clients()
    node.hint(clients=[client.listener])
    assert await waiting
    assert len(sent) == 1
    assert len(sent[0]) == 2


async def test_whoever_does_not_listen_looks(join, postgres):
    node = await join(PARTITIONS, url=f"{new_url(postgres)}&fenbu_notify=off")
    for _ in range(3):
        assert await node.wait_for_change(5.0)
    node.hint([1], ["nobody"])
    assert node._hints._task is None


async def test_listening_goes_on_in_a_new_session(join, other):
    node = await join(PARTITIONS)
    waiting = await hearing(node)
    other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fenbu hints'"
    )
    assert await waiting
    node._hints._connected_at = float("-inf")
    while await node.wait_for_change(0.0):
        pass
    node.hint(PARTITIONS, [])
    assert await node.wait_for_change(4.0)


async def test_what_a_name_may_not_have_in_postgresql_is_replaced(join):
    node = await join(PARTITIONS)
    mine = call("a", cancel_reason="a\0b\\u0000", args='["\\u0000"]')
    await write(node, inserted=[mine])
    found = (await stored(node, "a")).invocation
    assert (found.cancel_reason, found.args) == ("a\ufffdb\\u0000", '["\\u0000"]')


async def test_becoming_the_owner_of_everything_and_nothing_again(join):
    node = await join(PARTITIONS)
    assert await own(node) == PARTITIONS
    await node.release(PARTITIONS)
    assert (await node.nodes())[0].partitions == ()


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_a_vanished_server_is_noticed_on_any_loop(url, name):
    loops = pytest.importorskip(name)

    async def main():
        storage = PostgresStorage(url)
        await storage.open()
        try:
            await own(storage)
            await write(storage, inserted=[call("a")])
            await look(storage._membership.writer.connection)
        finally:
            await storage.close()

    async def look(connection):
        fileno = connection._transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(fileno)) as same:
            assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 8000
        # The server watches over this host in the same way.
        assert await connection.fetchval("SHOW tcp_user_timeout") == "8000"
        assert await connection.fetchval("SHOW tcp_keepalives_idle") == "4"

    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        runner.run(main())


@about_hints
async def test_a_hint_for_nobody_in_particular_waits_for_one_that_is_urgent(join, monkeypatch):
    """Calls that end, with nobody known to wait, cost few statements; who is known is told soon."""
    node, client = await join([1]), await join()
    monkeypatch.setattr("fenbu._storage.postgres.hint.GATHER_SECONDS", (0.001, 3_600.0))
    sent = receivers_of_hints(node, monkeypatch)
    node.hint(clients=["somebody"])
    await node._hints._task
    node._hints.tell_clients()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(sent) == 1
    waiting = await hearing(client)
    node.hint(clients=[client.listener])
    assert await waiting
    assert len(sent[1]) == 2
