"""Bring a file to this version's tables: an empty one from nothing, an older one step by step.

Everything happens in one exclusive transaction, so a crash leaves the old tables or the new ones. The
header's application id marks a file as fenbu's: a database of another application is left alone.
"""

from __future__ import annotations

import secrets
from typing import Final

from fenbu._core import limit
from fenbu._storage.protocol import Meta
from fenbu._storage.query import load_migrations, load_queries
from fenbu._storage.sqlite.session import SQL, Session, run_script
from fenbu.errors import SchemaMismatch, UnsupportedDatabase

META_SQL: Final = load_queries("fenbu._storage.sqlite", "meta")

APPLICATION: Final = 0x66_65_6E_62
"""`fenb`, in the header of every file of ours."""

MIGRATIONS: Final = load_migrations("fenbu._storage.sqlite")


def check_application(session: Session, path: str) -> None:
    """Refuse a database that another application made."""
    # In one transaction: another process may be creating the tables at this moment.
    session.execute(SQL["begin_read"])
    application = session.execute(META_SQL["application"]).fetchone()[0]
    tables = session.execute(META_SQL["table_count"]).fetchone()[0]
    session.rollback()
    if application != APPLICATION and (application or tables):
        raise UnsupportedDatabase(
            f"{path} is the database of another application ({tables} tables, application id "
            f"{application}): give fenbu a file of its own"
        )


def migrate(session: Session, path: str) -> Meta:
    """The tables are up to date afterwards."""
    if _version(session, path) < len(MIGRATIONS):
        session.write(SQL["begin_exclusive"])
        version = _version(session, path)
        for script in MIGRATIONS[version:]:
            run_script(session, script)
        if version == 0:
            session.execute(META_SQL["mark_application"].format(number=APPLICATION))
            session.execute(META_SQL["write"], ("partition_count", str(limit.PARTITION_COUNT)))
            session.execute(META_SQL["write"], ("cluster", secrets.token_hex(8)))
        session.execute(META_SQL["write"], ("schema_version", str(len(MIGRATIONS))))
        session.commit()
    else:
        # Nothing to write, but a node or client that cannot write at all should hear it now.
        session.begin()
        session.execute(META_SQL["touch"])
        session.rollback()
    partition_count = read_meta(session, "partition_count")
    cluster = read_meta(session, "cluster")
    if partition_count is None or cluster is None:
        raise UnsupportedDatabase(
            f"{path} lacks entries of its table `meta`: restore it from a backup"
        )
    return Meta(int(partition_count), cluster)


def _version(session: Session, path: str) -> int:
    if not session.execute(META_SQL["meta_exists"]).fetchone()[0]:
        return 0
    version = int(read_meta(session, "schema_version") or 0)
    if version > len(MIGRATIONS):
        raise SchemaMismatch(
            f"{path} has the tables of a newer fenbu (schema {version}; this one knows {len(MIGRATIONS)}): "
            "upgrade fenbu here"
        )
    return version


def read_meta(session: Session, name: str) -> str | None:
    """A value of the table `meta`."""
    row = session.execute(META_SQL["read"], (name,)).fetchone()
    return None if row is None else row[0]


def write_meta(session: Session, name: str, value: str) -> None:
    """Set a value of the table `meta`."""
    session.write(META_SQL["write"], (name, value))
