"""What is wrong with a server or database is said in words that help, and never with a password."""

from __future__ import annotations

import traceback
from urllib.parse import urlsplit

import pytest

from fenbu._core.message import Retry
from fenbu._storage.postgres.storage import PostgresStorage
from fenbu._storage.postgres.url import target_of
from fenbu._storage.protocol import CommitBatch, CommitOutcome
from fenbu.errors import (
    OwnershipLost,
    SchemaMismatch,
    StorageError,
    Unavailable,
    UnsupportedDatabase,
    UsageError,
)
from tests.fixture.postgres import Server, Session, binaries, free_port, new_url
from tests.fixture.row import PARTITIONS, call, own, received, stored, write


@pytest.fixture
def url(postgres):
    return new_url(postgres)


@pytest.fixture
def other(url):
    with Session(url) as session:
        yield session


@pytest.fixture
def opened(runner):
    """Open storages; those that open are closed at the end."""
    storages = []

    async def opened(url: str, *, create: bool = True) -> PostgresStorage:
        storage = PostgresStorage(url)
        await storage.open(create=create)
        storages.append(storage)
        return storage

    yield opened
    for each in storages:
        runner.run(each.close())


async def test_a_server_that_is_not_there(opened):
    url = f"postgresql://me:s%40cret@127.0.0.1:{free_port()}/shop"
    with pytest.raises(
        Unavailable, match=r"127.0.0.1.*database shop.*see that the server runs"
    ) as raised:
        await opened(url)
    text = "".join(traceback.format_exception(raised.value))
    assert "s@cret" not in text
    assert "s%40cret" not in text


async def test_a_database_that_is_not_there(postgres, opened):
    with pytest.raises(UnsupportedDatabase, match="create it"):
        await opened(f"{postgres.rpartition('/')[0]}/nothing")


async def test_tables_of_a_newer_fenbu(url, opened, other):
    await opened(url)
    other.execute(f"UPDATE {other.schema}.meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(SchemaMismatch, match="upgrade fenbu"):
        await opened(url)


async def test_tables_of_another_application(url, opened, other):
    other.execute(f"CREATE SCHEMA {other.schema}")
    other.execute(f"CREATE TABLE {other.schema}.entity (id integer)")
    with pytest.raises(UnsupportedDatabase, match="another application"):
        await opened(url)
    other.execute(f"CREATE TABLE {other.schema}.meta (id integer)")
    with pytest.raises(UnsupportedDatabase, match="not those of fenbu"):
        await opened(url, create=False)


async def test_an_encoding_that_cannot_hold_every_text(postgres, opened, other):
    name = f"{other.schema}_ascii"
    other.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(UnsupportedDatabase, match="UTF8"):
        await opened(f"{postgres.rpartition('/')[0]}/{name}")
    other.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def role(other):
    """A user who may nothing."""
    name = f"{other.schema}_role"
    other.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    other.execute(f"DROP OWNED BY {name}")
    other.execute(f"DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    server = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}:secret@{server}").geturl()


async def test_a_user_who_may_not_create_tables(url, opened, role):
    with pytest.raises(UnsupportedDatabase, match=r"lacks privileges.*CREATE"):
        await opened(as_role(url, role))


async def test_a_node_needs_no_right_to_create(url, opened, other, role):
    await opened(url)
    other.execute(f"GRANT USAGE ON SCHEMA {other.schema} TO {role}")
    with pytest.raises(UnsupportedDatabase, match="lacks privileges"):
        await opened(as_role(url, role))
    other.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {other.schema} TO {role}"
    )
    node = await opened(as_role(url, role))
    assert await own(node) == PARTITIONS
    await write(node, inserted=[call("a")], inbox=[Retry(1, "a")])
    assert len(await received(node)) == 1
    checks = {what: fine for what, fine, _ in await node.check()}
    assert checks["privileges"]
    other.execute(f"REVOKE DELETE ON {other.schema}.inbox FROM {role}")
    checks = {what: seen for what, _, seen in await node.check()}
    assert checks["privileges"] == "grant DELETE on inbox"


async def test_a_server_that_only_reads(url, opened, other):
    node = await opened(url)
    await own(node)
    await node._membership.writer.run(lambda c: c.execute("SET default_transaction_read_only = on"))
    batch = CommitBatch(inserted=[call("a")])
    found = await node.commit(batch)
    assert found.outcome is CommitOutcome.REFUSED
    assert "only reads" in found.error
    await node._membership.writer.run(
        lambda c: c.execute("SET default_transaction_read_only = off")
    )
    assert (await node.commit(batch)).outcome is CommitOutcome.COMMITTED
    client = await opened(f"{url}&default_transaction_read_only=on")
    with pytest.raises(Unavailable, match="only reads"):
        await client.enqueue([Retry(1, "a")])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("fenbu_schma=a", "fenbu_direct, fenbu_notify, fenbu_schema"),
        ("fenbu_schema=", "printable"),
        (f"fenbu_schema={'x' * 64}", "printable"),
        ("fenbu_notify=maybe", "on or off"),
        ("fenbu_direct=elsewhere", "percent-encoded"),
        ("fenbu_direct=postgresql%3A%2F%2Fh%2Fd%3Ffenbu_schema%3Da", "percent-encoded"),
    ],
)
def test_parameters_without_sense_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        PostgresStorage(f"postgresql://host/db?{parameters}")


def test_what_a_url_says():
    target = target_of(
        "postgresql://me:pw@proxy:6432/shop?sslmode=require&fenbu_schema=my%20calls"
        "&fenbu_direct=postgresql%3A%2F%2Fme%3Aother@server%2Fshop"
    )
    assert target.url == "postgresql://me:pw@proxy:6432/shop?sslmode=require"
    assert target.direct == target.session_url == "postgresql://me:other@server/shop"
    assert (target.schema, target.notify, target.pooled) == ("my calls", True, True)
    assert "pw" not in target.place
    assert set(target.secrets) == {"pw", "other"}


async def test_a_schema_may_have_any_name(postgres, opened):
    storage = await opened(f"{new_url(postgres)}%20%22My%22%20calls%C3%BC")
    await own(storage)
    await write(storage, inserted=[call("a")], inbox=[Retry(1, "a")])
    assert len(await received(storage)) == 1


@pytest.fixture
def server():
    server = Server(binaries())
    yield server
    server.remove()


async def test_a_server_that_is_restarted(server, opened):
    node, client = await opened(server.url), await opened(server.url)
    await own(node)
    await write(node, inserted=[call("a")])
    await client.enqueue([Retry(1, "a")])
    for mode in ("fast", "immediate"):
        server.stop(mode)
        for what in (
            node.load_calls(["a"]),
            client.outcomes(["a"]),
            client.enqueue([Retry(1, "b")]),
        ):
            with pytest.raises(Unavailable):
                await what
        with pytest.raises(StorageError):
            await node.join("again", 1.0)
        server.start()
        with pytest.raises(OwnershipLost):
            await node.commit(CommitBatch(inserted=[call("b")]))
        assert (await stored(node, "a")).invocation == call("a")
        await client.enqueue([Retry(1, "c")])
        await node.join("again", 2.0)
        assert await node.take(PARTITIONS) == PARTITIONS
        assert [each.name for each in await client.nodes()] == ["again"]
    assert [each.message.id for each in await received(node)] == ["a", "c", "c"]
