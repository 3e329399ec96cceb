"""Starting calls: by themselves, or if and only if a transaction of the user's own commits.

And which kind of connection the function of a transactional step is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from fenbu._api.runtime import Runtime
from fenbu._core.message import Call, Signal, Update
from fenbu._core.middleware import around_calls
from fenbu._storage.open import users_transaction
from fenbu._storage.protocol import ASYNCPG, SQLALCHEMY_CONNECTION, SQLALCHEMY_SESSION
from fenbu._storage.seal import Seal
from fenbu.errors import UsageError


def start_in(
    runtime: Runtime, calls: Sequence[Call | Signal | Update], connection: object, *, sync: bool
) -> Awaitable[None] | None:
    """Start calls in a connection's transaction; awaitable if the connection is async.

    Raises:
        UsageError: It is async and this is `sync`, it is of a kind that is not known, or the app is not on
            PostgreSQL.
    """
    transaction = users_transaction(runtime.url, connection)
    if sync and transaction.is_async:
        raise UsageError(
            "this transaction belongs to an async connection: use `await` and no `.sync`"
        )
    partitions = {each.partition for each in calls}
    count = runtime.registry.partition_count
    if runtime.registry.hook is not None:
        seal = Seal(runtime.registry.hook)
        calls = [seal.started(each) for each in calls]
    return transaction.start(calls, count, lambda: runtime.hint(partitions))


async def start_calls(
    runtime: Runtime, calls: Sequence[Call | Signal | Update], transaction: Any
) -> None:
    """Make calls durable, or let a transaction of the user's own do so."""
    middleware = runtime.registry.middleware
    if middleware:
        with around_calls(middleware, [each for each in calls if isinstance(each, Call | Update)]):
            await _start_calls(runtime, calls, transaction)
    else:
        await _start_calls(runtime, calls, transaction)


async def _start_calls(
    runtime: Runtime, calls: Sequence[Call | Signal | Update], transaction: Any
) -> None:
    if transaction is None:
        await runtime.gateway.start_calls(calls)
        return
    waiting = start_in(runtime, calls, transaction, sync=False)
    if waiting is not None:
        await waiting


def kind_of_connection(annotation: Any) -> str:
    """What the storage is asked for, by the annotation of a function's first parameter.

    Raises:
        UsageError: It is nothing that a transactional step can give.
    """
    if isinstance(annotation, Exception):
        raise UsageError(
            f"the annotation of a connection cannot be read ({annotation}): import its type outside "
            "`if TYPE_CHECKING`"
        )
    module = getattr(annotation, "__module__", "").partition(".")[0]
    name = getattr(annotation, "__name__", "")
    if annotation in (Any, object, None) or module == "asyncpg":
        return ASYNCPG
    if module == "sqlalchemy" and name == "AsyncSession":
        return SQLALCHEMY_SESSION
    if module == "sqlalchemy" and name == "AsyncConnection":
        return SQLALCHEMY_CONNECTION
    raise UsageError(
        f"the function of tx_step() is given a connection as its first argument, annotated as asyncpg's "
        f"Connection or as SQLAlchemy's AsyncSession or AsyncConnection, and not {annotation!r}"
    )
