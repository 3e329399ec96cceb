"""Calls that are started in a transaction of the user's own: accepted if and only if that commits.

Works through whichever driver the user's connection is of, without importing any: a connection is known by
its type's module. No NOTIFY goes into the user's transaction, which would make commits wait for each other;
where a driver says when a transaction has ended, a hint follows it, else nodes find the call when they ask.

Absent: the driver that nodes use. A web process with another one needs nothing else here.
"""

from __future__ import annotations

import base64
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any, Final

from fenbu._core.message import Call, Signal, Update, encode
from fenbu._storage.postgres.statement import statements
from fenbu._storage.rows import text_of
from fenbu.errors import UsageError

KNOWN: Final = (
    "an asyncpg connection, a psycopg 3 connection, a SQLAlchemy session or connection (sync or async), or "
    "Django's `connection`"
)


def transaction_of(connection: Any, schema: str) -> UsersTransaction:
    """The transaction of a user's connection.

    Raises:
        UsageError: The connection is none of `KNOWN`.
    """
    for each in type(connection).__mro__:
        kind = _KINDS.get(each.__module__.partition(".")[0])
        if kind is not None and hasattr(connection, kind.works_by):
            return kind(connection, schema)
    raise UsageError(
        f"transaction={connection!r} is no connection that fenbu knows: give it {KNOWN}"
    )


def _row(call: Call | Signal | Update) -> dict[str, object]:
    message = encode(call)
    id_ = None if isinstance(call, Signal) else call.invocation.id
    row: dict[str, object] = {"partition": call.partition, "call_id": id_}
    if isinstance(message, str):
        return row | {"message": message}
    return row | {"message_bytes": base64.b64encode(message).decode()}


class UsersTransaction(ABC):
    """That of one connection; a subclass for each driver."""

    works_by = "execute"
    """The method by which one knows such a connection, and whether using it takes `await`."""

    def __init__(self, connection: Any, schema: str) -> None:
        self.connection = connection
        self._sql = statements(schema)["transaction.start"]
        self.is_async = inspect.iscoroutinefunction(getattr(connection, self.works_by))

    def start(
        self,
        calls: Sequence[Call | Signal | Update],
        partition_count: int,
        committed: Callable[[], None],
    ) -> Awaitable[None] | None:
        """Put calls into the inbox; awaitable if the connection is async.

        `committed` is called when the transaction has ended, where the driver tells, in whichever thread.

        Raises:
            UsageError: The database has another count of partitions.
        """
        done = self._execute(text_of([_row(each) for each in calls]), str(partition_count))
        if not isinstance(done, int):
            return self._end_later(done, len(calls), committed)
        self._end(done, len(calls), committed)
        return None

    async def _end_later(
        self, done: Awaitable[int], count: int, committed: Callable[[], None]
    ) -> None:
        self._end(await done, count, committed)

    def _end(self, inserted: int, count: int, committed: Callable[[], None]) -> None:
        if inserted != count:
            raise UsageError(
                "the calls were not started: this connection's database has another count of partitions "
                "than was reckoned with; open the app first (`async with app.client():`), then that is known"
            )
        self._after_commit(committed)

    @abstractmethod
    def _execute(self, document: str, count: str) -> int | Awaitable[int]:
        """Execute the statement with its two parameters; how many rows it wrote."""

    def _after_commit(self, hint: Callable[[], None]) -> None:
        """Call it when the transaction has ended. Here the driver does not tell."""
        del hint

    def _statement(self, first: str, second: str) -> str:
        """With a driver's own signs for its parameters."""
        return self._sql.replace("$1", first).replace("$2", second)


class _Asyncpg(UsersTransaction):
    async def _execute(self, document: str, count: str) -> int:
        status: str = await self.connection.execute(self._sql, document, count)
        return int(status.rpartition(" ")[2])

    def _after_commit(self, hint: Callable[[], None]) -> None:
        connection = self.connection

        def look(_: object) -> None:
            # After each statement, of which the last is COMMIT or ROLLBACK.
            if not connection.is_in_transaction():
                connection.remove_query_logger(look)
                hint()

        if connection.is_in_transaction():
            connection.add_query_logger(look)
        else:
            hint()


class _Psycopg(UsersTransaction):
    def _execute(self, document: str, count: str) -> int | Awaitable[int]:
        done = self.connection.execute(self._statement("%s", "%s"), (document, count))
        return _later(done) if inspect.isawaitable(done) else done.rowcount


async def _later(done: Awaitable[Any]) -> int:
    return (await done).rowcount


class _Django(UsersTransaction):
    works_by = "cursor"

    def _execute(self, document: str, count: str) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(self._statement("%s", "%s"), [document, count])
            return cursor.rowcount

    def _after_commit(self, hint: Callable[[], None]) -> None:
        import_module("django.db.transaction").on_commit(hint, using=self.connection.alias)


class _SQLAlchemy(UsersTransaction):
    def _execute(self, document: str, count: str) -> int | Awaitable[int]:
        text = import_module("sqlalchemy").text(self._statement(":document", ":count"))
        done = self.connection.execute(text, {"document": document, "count": count})
        return _later(done) if inspect.isawaitable(done) else done.rowcount

    def _after_commit(self, hint: Callable[[], None]) -> None:
        given = self.connection
        session = given() if hasattr(given, "registry") else given
        session = getattr(session, "sync_session", session)
        if not hasattr(session, "get_transaction") or not hasattr(session, "flush"):
            return  # A connection tells before it commits, and not after.
        # A listener cannot be taken away while it is called: one stays with the session.
        hints: list[Callable[[], None]] | None = session.info.get("fenbu_hints")
        if hints is None:
            hints = session.info["fenbu_hints"] = []
            import_module("sqlalchemy.event").listen(session, "after_transaction_end", _give_hints)
        hints.append(hint)


def _give_hints(session: Any, transaction: Any) -> None:
    if transaction.parent is None:
        hints, session.info["fenbu_hints"][:] = list(session.info["fenbu_hints"]), []
        for hint in hints:
            hint()


_KINDS: Final[dict[str, type[UsersTransaction]]] = {
    "asyncpg": _Asyncpg,
    "psycopg": _Psycopg,
    "sqlalchemy": _SQLAlchemy,
    "django": _Django,
}
