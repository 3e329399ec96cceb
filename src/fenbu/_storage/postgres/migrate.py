"""Bring a schema to this version's tables: nothing to the first, an older one step by step.

Everything happens in one transaction that holds a lock, so many processes may open a new database at once,
and a crash leaves the old tables or the new ones. A script must leave older nodes running: it adds, and
takes nothing away.
"""

from __future__ import annotations

import secrets
from typing import Final

from fenbu._core import limit
from fenbu._storage.postgres.driver import Connection
from fenbu._storage.postgres.statement import migrations, statements
from fenbu._storage.postgres.url import Target
from fenbu._storage.protocol import Meta
from fenbu.errors import SchemaMismatch, UnsupportedDatabase, UsageError

SERVER_VERSION_MIN: Final = 130_000


async def open_schema(connection: Connection, target: Target, *, create: bool) -> Meta:
    """The tables are up to date afterwards."""
    sql = statements(target.schema)
    if not await _has_tables(connection, target) and not create:
        raise UsageError(
            f"{target.place}: there are no tables of fenbu: start a node, which creates them, or correct "
            "the URL"
        )
    meta = await _read(connection, target)
    if _version(meta, target) < len(migrations(target.schema)):
        async with connection.transaction():
            await connection.fetchval(sql["meta.lock"], target.schema)
            await _migrate(connection, target)
        meta = await _read(connection, target)
    if await connection.fetchval(sql["meta.foreign_messages"]):
        await connection.execute(sql["meta.adopt_messages"])
    try:
        return Meta(int(meta["partition_count"]), meta["cluster"])
    except KeyError as error:
        raise UnsupportedDatabase(
            f"{target.place} lacks entries of its table `meta`: restore it from a backup"
        ) from error


async def _has_tables(connection: Connection, target: Target) -> bool:
    sql = statements(target.schema)
    found = await connection.fetchrow(sql["meta.server"], target.schema)
    if found is None:
        raise AssertionError("a query without a table has a row")
    if found["version"] < SERVER_VERSION_MIN:
        raise UnsupportedDatabase(
            f"{target.place}: the server is of version {found['version'] // 10_000}, and fenbu needs 13 or "
            "later"
        )
    if found["encoding"] != "UTF8":
        raise UnsupportedDatabase(
            f"{target.place}: the database is encoded in {found['encoding']}: make one in UTF8"
        )
    return found["meta_exists"]


async def _migrate(connection: Connection, target: Target) -> None:
    sql = statements(target.schema)
    found = await connection.fetchrow(sql["meta.server"], target.schema)
    if found is not None and not found["schema_exists"]:
        await connection.execute(sql["meta.create_schema"])
    # Somebody else may have done it while this one waited for the lock.
    version = _version(await _read(connection, target), target)
    scripts = migrations(target.schema)
    for script in scripts[version:]:
        await connection.execute(script)
    if version == 0:
        await connection.execute(sql["meta.create_partitions"], limit.PARTITION_COUNT)
        await connection.execute(sql["meta.write"], "partition_count", str(limit.PARTITION_COUNT))
        await connection.execute(sql["meta.write"], "cluster", secrets.token_hex(8))
    await connection.execute(sql["meta.write"], "schema_version", str(len(scripts)))


async def _read(connection: Connection, target: Target) -> dict[str, str]:
    if not await _has_tables(connection, target):
        return {}
    rows = await connection.fetch(statements(target.schema)["meta.read"])
    return {each[0]: each[1] for each in rows}


def _version(meta: dict[str, str], target: Target) -> int:
    version = int(meta.get("schema_version", 0))
    known = len(migrations(target.schema))
    if version > known:
        raise SchemaMismatch(
            f"{target.place} has the tables of a newer fenbu (schema {version}; this one knows {known}): "
            "upgrade fenbu here"
        )
    return version
