"""Files that are not what they should be, and places where no file can be."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest
from msgspec.structs import replace

from fenbu._core.model import Status
from fenbu._storage.sqlite import migrate, rows
from fenbu._storage.sqlite.migrate import MIGRATIONS
from fenbu._storage.sqlite.storage import SQLiteStorage
from fenbu.errors import SchemaMismatch, UnsupportedDatabase
from tests.fixture.row import call, entry, own, stored, write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fenbu.db"


async def made(path, count=0):
    """A closed database with some calls."""
    storage = SQLiteStorage(path)
    await storage.open()
    ids = [f"{number:05}" for number in range(count)]
    await write(
        storage, inserted=[call(each) for each in ids], entries=[entry(each) for each in ids]
    )
    await storage.close()


async def refused(path, error, match):
    storage = SQLiteStorage(path)
    with pytest.raises(error, match=match) as raised:
        await storage.open()
    assert str(path) in str(raised.value)
    await storage.close()


async def test_directories_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "fenbu.db"
    await made(path, 1)
    assert path.exists()


async def test_strange_names_are_names(tmp_path):
    path = tmp_path / "a%20b ?c#d ü.db"
    await made(path, 1)
    assert path.exists()


async def test_an_empty_file_is_filled(path):
    path.touch()
    await made(path, 1)
    storage = SQLiteStorage(path)
    await storage.open(create=False)
    assert (await stored(storage, "00000")).invocation == call("00000")
    await storage.close()


async def test_a_file_that_many_make_at_once_is_made_once(tmp_path):
    for number in range(10):
        storages = [SQLiteStorage(tmp_path / f"{number}.db") for _ in range(6)]
        metas = await asyncio.gather(*(each.open() for each in storages))
        assert metas.count(metas[0]) == 6
        for each in storages:
            await each.close()


async def test_garbage_is_left_alone(path):
    garbage = b"all sorts of things\n" * 1000
    path.write_bytes(garbage)
    await refused(path, UnsupportedDatabase, "not an SQLite database")
    assert path.read_bytes() == garbage


async def test_a_truncated_file_is_seen_at_once(path):
    await made(path, 2000)
    os.truncate(path, path.stat().st_size // 2)
    await refused(path, UnsupportedDatabase, "damaged")


async def test_damage_that_shows_up_later_is_an_error_and_not_a_wrong_answer(path):
    await made(path, 2000)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * (path.stat().st_size - 3 * 4096))
    storage = SQLiteStorage(path)

    async def read():
        await storage.open()
        await storage.load_calls([f"{number:05}" for number in range(2000)])

    with pytest.raises(UnsupportedDatabase, match="damaged"):
        await read()
    await storage.close()


async def test_the_database_of_another_application_is_left_alone(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE meta (name, value)")
        other.commit()
    before = path.read_bytes()
    await refused(path, UnsupportedDatabase, "another application")
    assert path.read_bytes() == before


async def test_a_file_whose_large_arguments_stand_in_their_rows_goes_on_working(path, monkeypatch):
    """As they did before there was a table for them."""
    (ours,) = [n for n, script in enumerate(MIGRATIONS) if "CREATE TABLE large_args" in script]
    large = [call(each, args=each * 100_000) for each in ("a", "b", "c", "d")]
    with monkeypatch.context() as older:
        older.setattr(migrate, "MIGRATIONS", MIGRATIONS[:ours])
        older.setattr(rows, "ARGS_IN_ROW_MAX", 1_000_000)
        storage = SQLiteStorage(path)
        await storage.open()
        await write(storage, inserted=large)
        await storage.close()
    storage = SQLiteStorage(path)
    await storage.open()
    await own(storage)
    found = await storage.load_ready({1: 0}, limit=9)
    assert sorted(each.invocation.id for each in found) == ["a", "b", "c", "d"]
    assert all(each.invocation in large for each in found)
    begun, ended = (replace(each, crashes=1) for each in large[:2])
    ended = replace(ended, status=Status.COMPLETED, finished_at=1.0)
    anew = replace(large[2], args="e" * 100_000)
    await write(storage, updated=[begun, ended], rewritten=[anew], deleted=["d"])
    assert await storage.rewrite([(begun, replace(begun, args="f" * 100_000))]) == 1
    assert await storage.delete_finished("checkout", 2.0, limit=9) == 1
    found = await storage.load_calls(["a", "b", "c", "d"])
    assert [(each.invocation.id, each.invocation.args[0]) for each in found] == [
        ("a", "f"), ("c", "e"),
    ]  # fmt: skip
    await storage.close()


async def test_tables_of_a_newer_fenbu_are_left_alone(path):
    await made(path)
    with closing(sqlite3.connect(path)) as other:
        newer = str(len(MIGRATIONS) + 1)
        other.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (newer,))
        other.commit()
    await refused(path, SchemaMismatch, "newer fenbu")


async def test_a_directory_is_no_database(tmp_path):
    await refused(tmp_path, UnsupportedDatabase, "cannot be opened")


async def test_a_file_is_no_directory(path):
    path.touch()
    storage = SQLiteStorage(path / "fenbu.db")
    with pytest.raises(UnsupportedDatabase, match="directory"):
        await storage.open()


UNPRIVILEGED = """
if os.getuid() == 0:
    os.setuid(65534)
storage = SQLiteStorage(path)
try:
    await storage.open()
except Exception as error:
    say(type(error).__name__, error)
else:
    say("opened")
"""


@pytest.fixture
def readable(tmp_path):
    """A place that every user can reach, which pytest's own is not."""
    if sys.platform == "win32":
        pytest.skip("needs POSIX permissions")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    return tmp_path / "fenbu.db"


async def test_a_file_that_may_not_be_written_is_refused(readable, spawn):
    await made(readable, 1)
    readable.chmod(0o444)
    readable.parent.chmod(0o777)
    assert re.match(
        "UnsupportedDatabase .* cannot be written", spawn(UNPRIVILEGED, readable).line()
    )


async def test_a_directory_that_may_not_be_written_is_refused(readable, spawn):
    await made(readable, 1)
    readable.chmod(0o666)
    readable.parent.chmod(0o555)
    said = spawn(UNPRIVILEGED, readable).line()
    readable.parent.chmod(0o755)
    assert re.match("UnsupportedDatabase .*(create files|cannot be written)", said)


async def test_a_file_may_be_moved_while_nobody_uses_it(path, tmp_path):
    await made(path, 3)
    moved = tmp_path / "elsewhere.db"
    shutil.move(path, moved)
    storage = SQLiteStorage(moved)
    await storage.open(create=False)
    assert len(await storage.load_calls(["00000", "00002"])) == 2
    await storage.close()
