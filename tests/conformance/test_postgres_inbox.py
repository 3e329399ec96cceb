"""Reading by snapshots, where the order of numbers is not the order of commits."""

from __future__ import annotations

import pytest

from fenbu._core.message import Cancel, Retry
from fenbu._core.message import encode as text_of
from fenbu._storage.postgres.storage import PostgresStorage
from tests.fixture.postgres import Session, new_url
from tests.fixture.row import PARTITIONS, own, received, write


@pytest.fixture
def url(postgres):
    return new_url(postgres)


@pytest.fixture
def storage(url, runner):
    storage = PostgresStorage(url)

    async def begin():
        await storage.open()
        await own(storage)

    runner.run(begin())
    yield storage
    runner.run(storage.close())


@pytest.fixture
def other(url, storage):
    """Another program's session, with transactions that stay open."""
    with Session(url) as session:
        yield session


def put(session: Session, partition: int, id: str) -> None:
    session.execute(
        f"INSERT INTO {session.schema}.inbox (partition, message) VALUES ($1, $2)",
        partition,
        text_of(Retry(partition, id)),
    )


async def read(storage, position, limit=9):
    found, complete = [], False
    while not complete:
        part = await storage.load_inbox(PARTITIONS, position, limit=limit)
        found += [each.message.id for each in part.found]
        position, complete = part.position, part.complete
    return found, position


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.parametrize("limit", [1, 2, 9])
async def test_the_lower_number_may_be_committed_later(storage, other, limit):
    other.execute("BEGIN")
    put(other, 1, "early")
    await storage.enqueue([Retry(1, "late"), Retry(2, "late")])
    found, position = await read(storage, None, limit)
    assert found == ["late", "late"]
    found, position = await read(storage, position, limit)
    assert found == []
    other.execute("COMMIT")
    found, position = await read(storage, position, limit)
    assert found == ["early"]
    assert (await read(storage, position, limit))[0] == []


@pytest.mark.guarantee("accepted-never-lost")
async def test_what_is_committed_between_two_parts_comes_with_the_next_reading(storage, other):
    await storage.enqueue([Retry(1, str(n)) for n in range(4)])
    other.execute("BEGIN")
    put(other, 1, "open")
    await storage.enqueue([Retry(1, "4")])
    first = await storage.load_inbox(PARTITIONS, None, limit=2)
    other.execute("COMMIT")
    await storage.enqueue([Retry(1, "new")])
    found, position = await read(storage, first.position, 2)
    assert [each.message.id for each in first.found] + found == ["0", "1", "2", "3", "4"]
    assert (await read(storage, position))[0] == ["open", "new"]


@pytest.mark.guarantee("accepted-never-lost")
async def test_a_message_that_is_rolled_back_was_never_there(storage, other):
    other.execute("BEGIN")
    put(other, 1, "gone")
    await storage.enqueue([Retry(1, "a")])
    found, position = await read(storage, None)
    other.execute("ROLLBACK")
    assert found == ["a"]
    assert (await read(storage, position))[0] == []


async def test_savepoints_and_prepared_transactions_are_transactions(storage, other):
    other.execute("BEGIN")
    put(other, 1, "first")
    other.execute("SAVEPOINT inner_one")
    put(other, 1, "second")
    other.execute("RELEASE inner_one")
    other.execute(f"PREPARE TRANSACTION '{other.schema}'")
    await storage.enqueue([Retry(1, "a")])
    found, position = await read(storage, None)
    assert found == ["a"]
    other.execute(f"COMMIT PREPARED '{other.schema}'")
    assert (await read(storage, position))[0] == ["first", "second"]


@pytest.mark.guarantee("accepted-never-lost")
async def test_a_partition_catches_up_beside_a_transaction_that_is_open(storage, other):
    other.execute("BEGIN")
    put(other, 2, "open")
    await storage.enqueue([Retry(1, "a"), Retry(2, "b")])
    others = await storage.load_inbox([1], None, limit=9)
    other.execute("COMMIT")
    await storage.enqueue([Retry(2, "c")])
    late = await storage.load_inbox([2], None, limit=9, until=others.position)
    assert [each.message.id for each in late.found] == ["b"]
    both = await storage.load_inbox([1, 2], late.position, limit=9)
    assert [each.message.id for each in both.found] == ["open", "c"]


async def test_an_old_transaction_makes_no_reading_longer(storage, other):
    """It holds back what can be tidied up, but what has been read and deleted is not walked over again."""
    other.execute("BEGIN")
    put(other, 9, "open")
    position = None
    for _ in range(20):
        await storage.enqueue([Cancel(1, str(n), "why") for n in range(400)])
        part = await storage.load_inbox(PARTITIONS, position, limit=999)
        position = part.position
        await write(storage, inbox_deleted=[each.number for each in part.found])
    # Any of the storage's own connections: it has one, as nothing is done at the same time.
    parameters = [*position.parameters(None), b"\1" * 256, 99]
    rows = await storage._pool.fetch("inbox.load", *parameters)
    assert [row[2] for row in rows] == [None]
    plan = other.value(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_query(storage)}", *parameters)
    assert _blocks(plan) < 10


def _query(storage) -> str:
    return storage._pool.sql["inbox.load"]


def _blocks(plan: str) -> int:
    import msgspec

    top = msgspec.json.decode(plan)[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


@pytest.mark.guarantee("accepted-never-lost")
async def test_messages_that_another_server_wrote_are_read_once_and_first(url, storage, other):
    """As after a restore: their transactions are yet to come here."""
    await storage.enqueue([Retry(1, "a"), Retry(1, "b")])
    other.execute(f"UPDATE {other.schema}.inbox SET tx = '99999999999'")
    await storage.close()
    await storage.open()
    await storage.enqueue([Retry(1, "c")])
    found, position = await read(storage, None, 1)
    assert found == ["a", "b", "c"]
    await storage.enqueue([Retry(1, "d")])
    assert (await read(storage, position))[0] == ["d"]
    assert len(await received(storage)) == 4


async def test_a_beat_tells_of_messages_that_nobody_hinted_at(storage, other):
    _, position = await read(storage, None)
    assert not (await storage.beat(position)).has_messages
    other.execute("BEGIN")
    put(other, 1, "early")
    assert not (await storage.beat(position)).has_messages
    _, position = await read(storage, position)
    other.execute("COMMIT")
    # Its transaction was under way when the inbox was read.
    assert (await storage.beat(position)).has_messages
    _, position = await read(storage, position)
    assert not (await storage.beat(position)).has_messages
    put(other, max(PARTITIONS) + 1, "elsewhere")
    await storage.release([max(PARTITIONS)])
    put(other, max(PARTITIONS), "elsewhere")
    assert not (await storage.beat(position)).has_messages
