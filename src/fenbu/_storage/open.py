"""URL → storage. A driver is imported only when its scheme is asked for."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from urllib.parse import unquote

from fenbu._core.message import Call, Signal, Update
from fenbu._storage.observer import Observer
from fenbu._storage.protocol import Storage
from fenbu.errors import UsageError

_PASSWORD: Final = re.compile(r"(?<=//)[^/]*@")
_DIRECT: Final = re.compile(r"(fenbu_direct=)[^&]*")

ALLOWED = (
    "sqlite:///relative/path.db, sqlite:////absolute/path.db, postgresql://user:password@host/database "
    "or memory:"
)


class Database(Storage, Observer, Protocol):
    """What every storage offers: the node's methods and those for people."""


def storage_of(url: str) -> Database:
    """The storage that a URL names; nothing is opened yet.

    Raises:
        UsageError: The URL is none of the allowed forms; the message lists them.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and rest.strip("/") == "":
        from fenbu._storage.memory.storage import MemoryStorage  # noqa: PLC0415

        return MemoryStorage()
    if scheme == "sqlite" and rest.startswith("///") and rest != "///":
        from fenbu._storage.sqlite.storage import SQLiteStorage  # noqa: PLC0415

        return SQLiteStorage(unquote(rest.removeprefix("///")))
    if scheme == "sqlite":
        raise UsageError(
            f"{url!r} names no file: a SQLite URL has three or four slashes, as in {ALLOWED}"
        )
    if scheme in {"postgresql", "postgres"} and rest.startswith("//"):
        from fenbu._storage.postgres.storage import PostgresStorage  # noqa: PLC0415

        return PostgresStorage(url)
    raise UsageError(f"{shown(url)!r} is no database URL that fenbu knows: use {ALLOWED}")


def shown(url: str) -> str:
    """The URL without passwords, for messages."""
    return _DIRECT.sub(r"\1…", _PASSWORD.sub("…@", url))


class UsersTransaction(Protocol):
    """A transaction of the user's own, to start calls in: see `postgres.transaction`."""

    is_async: bool

    def start(
        self,
        calls: Sequence[Call | Signal | Update],
        partition_count: int,
        committed: Callable[[], None],
    ) -> Awaitable[None] | None:
        """Put calls into the inbox; awaitable if the connection is async.

        `committed` is called when the transaction has ended, where the driver tells, in whichever thread.
        """
        ...


def users_transaction(url: str, connection: object) -> UsersTransaction:
    """That of a connection.

    Raises:
        UsageError: The URL is not that of a PostgreSQL server, or the connection is of an unknown kind.
    """
    from fenbu._storage.postgres.transaction import transaction_of  # noqa: PLC0415
    from fenbu._storage.postgres.url import SCHEMES, target_of  # noqa: PLC0415

    if url.partition(":")[0] not in SCHEMES:
        raise UsageError(
            f"calls can be started in a transaction of your own on PostgreSQL only, and the app is on "
            f"{shown(url)}: there fenbu's tables are in a file of their own"
        )
    return transaction_of(connection, target_of(url).schema)


def migration_sql(url: str) -> str:
    """The statements that make or update the tables of a database, for people to read.

    Raises:
        UsageError: The URL is not that of a server: files are brought up to date when they are opened.
    """
    if not url.startswith(("postgresql:", "postgres:")):
        raise UsageError(
            f"{shown(url)} is brought up to date when it is opened: there is no script for it"
        )
    from fenbu._storage.postgres.statement import migrations  # noqa: PLC0415
    from fenbu._storage.postgres.url import target_of  # noqa: PLC0415

    return "\n".join(migrations(target_of(url).schema))
