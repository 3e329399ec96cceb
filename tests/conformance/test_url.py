from __future__ import annotations

import pytest

from fenbu._storage.memory.storage import MemoryStorage
from fenbu._storage.open import storage_of
from fenbu._storage.postgres.storage import PostgresStorage
from fenbu._storage.sqlite.storage import SQLiteStorage
from fenbu.errors import UsageError


async def test_urls_name_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url, path in (
        ("sqlite:///here/fenbu.db", tmp_path / "here" / "fenbu.db"),
        (f"sqlite:///{tmp_path}/there/a%20b.db", tmp_path / "there" / "a b.db"),
    ):
        storage = storage_of(url)
        assert isinstance(storage, SQLiteStorage)
        assert not path.exists()
        await storage.open()
        await storage.close()
        assert path.exists()


def test_each_memory_database_is_new():
    one, two = storage_of("memory:"), storage_of("memory://")
    assert isinstance(one, MemoryStorage)
    assert isinstance(two, MemoryStorage)
    assert one.database is not two.database


@pytest.mark.parametrize(
    "url",
    [
        "",
        "fenbu.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/file.db",
        "mysql://host/db",
        "memory:x",
    ],
)
def test_other_urls_are_refused_with_what_is_allowed(url):
    with pytest.raises(UsageError, match=r"sqlite:///relative/path\.db"):
        storage_of(url)


def test_a_url_that_is_refused_shows_no_password():
    with pytest.raises(UsageError) as raised:
        storage_of("postgresql+asyncpg://me:secret@host/shop")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresql_is_reached_by_its_usual_urls(scheme):
    assert isinstance(storage_of(f"{scheme}://localhost/shop"), PostgresStorage)
