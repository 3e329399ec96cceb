"""Transactional start: calls that are accepted if and only if a transaction of the user's own commits."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from fenbu._api.runtime import Runtime
from fenbu._core.message import Call
from fenbu._storage.open import users_transaction
from fenbu.errors import UsageError


def start_in(
    runtime: Runtime, calls: Sequence[Call], connection: object, *, sync: bool
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
    return transaction.start(calls, count, lambda: runtime.hint(partitions))
