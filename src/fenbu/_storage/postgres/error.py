"""What an error of the driver or the server means: one of `fenbu.errors`, in words that say what to do.

For a commit it is also decided here whether the batch may have been written. An error that the server
answers with has rolled the transaction back. A connection that breaks leaves it open, and so does a server
that is told to stop: it may have committed before it listened.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from fenbu._storage.postgres.driver import DRIVER_ERRORS, ConfigurationError, PostgresError
from fenbu._storage.postgres.url import Target
from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu.errors import FenbuError, InternalError, Unavailable, UnsupportedDatabase, UsageError

POOLER_ADVICE: Final = (
    "Either let the proxy keep sessions (PgBouncer: pool_mode=session), or add &fenbu_direct=URL with the "
    "percent-encoded URL of the server itself: sessions go there, everything else through the proxy"
)

_LOST: Final = ("08", "57P")
"""Beginnings of SQLSTATEs: the session has ended, or never began."""

_PASSING: Final = {
    "53100": "there is no room left on the server's disk: free some",
    "53200": "the server has no memory left",
    "53300": "the server has as many connections as it allows: raise max_connections, or close some",
    "25006": "the server only reads, as a replica does or a primary during a failover: correct the URL if "
    "it does not end",
    "40001": "another transaction was in the way",
    "40P01": "another transaction was in the way (deadlock)",
    "55P03": "what is to be written is locked by another transaction for too long: end that",
    "57014": "the server cancelled the statement (statement_timeout, or somebody's request)",
}
_PASSING_CLASSES: Final = ("53", "40", "55", "57", "58")

_LASTING: Final = {
    "28000": "the server does not let this user in: check user, password and pg_hba.conf",
    "28P01": "the server does not let this user in: check user and password",
    "3D000": "there is no such database: create it, or correct the URL",
    "42501": "this user lacks privileges: grant USAGE on the schema, and SELECT, INSERT, UPDATE and DELETE "
    "on its tables; whoever migrates also needs CREATE",
    "26000": "statements are lost between transactions, as behind a proxy that pools transactions. "
    f"{POOLER_ADVICE}",
    "42P05": f"sessions are shared, as behind a transaction-pooling proxy. {POOLER_ADVICE}",
    "3F000": "the schema is gone: restore it, or correct the URL",
    "42P01": "tables of fenbu are missing: restore them, or choose another schema with fenbu_schema",
    "42703": "tables are not those of fenbu: choose another schema with fenbu_schema",
    "42P07": "the schema has tables of another application: choose another one with fenbu_schema",
    "XX001": "the database is damaged: restore it from a backup",
    "XX002": "an index is damaged: REINDEX it, or restore the database from a backup",
}


def code_of(error: BaseException) -> str:
    """The SQLSTATE; empty for errors that no server sent."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """The session has ended, or it is not known whether it has."""
    if isinstance(error, PostgresError):
        return code_of(error).startswith(_LOST)
    # A value that cannot be sent is found out before anything is.
    return not isinstance(error, ValueError)


def classify(error: BaseException, target: Target) -> FenbuError:
    """The error of fenbu that says the same."""
    code = code_of(error)
    said = _said(error, target)
    if isinstance(error, ConfigurationError):
        return UsageError(f"{target.place}: the driver cannot use the URL ({said})")
    if code in _LASTING:
        return UnsupportedDatabase(f"{target.place}: {_LASTING[code]} ({said})")
    if code in _PASSING:
        return Unavailable(f"{target.place}: {_PASSING[code]} ({said})")
    if is_lost(error):
        return Unavailable(
            f"{target.place} cannot be reached, or has ended the connection: see that the server runs "
            f"({said})"
        )
    if code.startswith(_PASSING_CLASSES):
        return Unavailable(f"{target.place} cannot do it just now ({said})")
    return InternalError(f"{target.place} rejects a statement of fenbu ({said})")


def _said(error: BaseException, target: Target) -> str:
    text = str(error).strip() or type(error).__name__
    for each in target.secrets:
        text = text.replace(each, "***")
    return text


@contextmanager
def translated(target: Target) -> Generator[None]:
    """Errors of the driver leave this block as those of fenbu."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise classify(error, target) from error


def commit_failed(error: BaseException, target: Target) -> Commit:
    """What became of the batch.

    Raises:
        UnsupportedDatabase: The database cannot be written any more.
        InternalError: The batch contradicts what the database holds.
    """
    found = classify(error, target)
    if not isinstance(found, Unavailable):
        raise found from error
    return Commit(CommitOutcome.UNKNOWN if is_lost(error) else CommitOutcome.REFUSED, str(found))
