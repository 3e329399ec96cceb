"""What an error of sqlite3 means: one of `fenbu.errors`, in words that say what to do.

For a commit it is also decided here whether the batch may have been written. Everything that goes wrong
before COMMIT is undone by a rollback, and so is a COMMIT that finds the disk full, because then the frame
that would make it valid was not written. An I/O error in COMMIT leaves it open: the frame may be on disk.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from fenbu._storage.protocol import Commit, CommitOutcome
from fenbu.errors import FenbuError, InternalError, Unavailable, UnsupportedDatabase

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_WRITABLE: Final = frozenset(
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)
_CONTRADICTION: Final = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
    }
)


def code_of(error: sqlite3.Error) -> int:
    """The primary result code; 0 for errors that Python's module raises by itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Another connection holds the lock that was wanted."""
    return code_of(error) in _BUSY


def classify(error: sqlite3.Error, path: str) -> FenbuError:
    """The error of fenbu that says the same."""
    code = code_of(error)
    if code in _DAMAGED:
        return UnsupportedDatabase(
            f"{path} is not an SQLite database or is damaged ({error}): restore it from a backup, or "
            "move it away"
        )
    if code in _NOT_WRITABLE:
        return UnsupportedDatabase(
            f"{path} cannot be written ({error}): this process needs the right to write the file and to "
            "create files beside it"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return UnsupportedDatabase(
            f"{path} cannot be opened ({error}): it must be a file in a directory in which this process may "
            "create files"
        )
    if code == sqlite3.SQLITE_FULL:
        return Unavailable(
            f"there is no room left to write {path} ({error}): free some space on its disk"
        )
    if code in _BUSY:
        return Unavailable(
            f"{path} is locked by another process ({error}): end its long transaction"
        )
    if code in _CONTRADICTION:
        return InternalError(f"SQLite rejects a statement of fenbu on {path}: {error}")
    return Unavailable(f"{path} cannot be used just now: {type(error).__name__}: {error}")


def commit_failed(error: sqlite3.Error, path: str, *, committing: bool) -> Commit:
    """What became of the batch.

    Raises:
        UnsupportedDatabase: The database cannot be written any more.
        InternalError: The batch contradicts what the database holds.
    """
    found = classify(error, path)
    code = code_of(error)
    if code == sqlite3.SQLITE_CANTOPEN:
        # The file was open before: most likely this process has too many open files.
        return Commit(CommitOutcome.REFUSED, str(found))
    if not isinstance(found, Unavailable):
        raise found from error
    lost = committing and code in {sqlite3.SQLITE_IOERR, 0}
    return Commit(CommitOutcome.UNKNOWN if lost else CommitOutcome.REFUSED, str(found))
