"""Who runs the calls of a file: the one process that holds a lock on `<file>-owner`.

The lock is SQLite's own, an exclusive transaction on an empty database that lasts as long as the node: it
goes with the process however that ends, a forked child does not have it, and a second storage in the same
process does not get it either. Guarantee: no-split-brain.

Whoever moves the database or deletes `<file>-owner` while a node runs takes that protection away.
Never open `<file>-owner` or the database by any other means than SQLite while it is held: on POSIX, closing
any descriptor of a file drops the locks that the process holds on it. So the owner's name for error
messages is in the table `meta`.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from fenbu._storage.sqlite.error import classify
from fenbu._storage.sqlite.migrate import read_meta, write_meta
from fenbu._storage.sqlite.session import SQL, Session, connect
from fenbu.errors import OwnershipLost, Unavailable

SWITCH_SECONDS: Final = 0.0002
"""The interpreter's switch interval in a process that owns a file, 5 ms by default.

A thread that comes back from SQLite waits this long for a busy event loop to let it go on, several times in
each commit. Beside a thread that is always busy, commits of ten workflows' rows: 39 a second with 5 ms, 260
with 0.5 ms, 500 with 0.1 ms. It costs the busy thread nothing while no other one waits.
"""


LOOKED_AT_SECONDS: Final = 0.25
"""How long `take` waits for the lock: whoever looks whether it is held, holds it for a moment himself.

Beside a process that does nothing but look, 132 of 2,000 nodes that did not wait were refused, and none of
those that did, of which the slowest took 12 ms. A second node hears so much later that there is a first one.
"""


class Owner(Struct, frozen=True):
    """Who holds, or last held, the lock."""

    process: int
    host: str
    name: str = ""
    started_at: float = 0.0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class OwnerLock:
    """The lock; used from the writer's thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: sqlite3.Connection | None = None
        self._switch_seconds = 0.0

    @property
    def held(self) -> bool:
        """This storage is the owner."""
        return self._lock is not None

    def take(self, session: Session, name: str, now: float) -> None:
        """Become the owner, or raise OwnershipLost."""
        if self._lock is not None:
            return
        lock = connect(f"{self._path}-owner", create=True, busy_seconds=LOOKED_AT_SECONDS)
        try:
            self._lock_out_others(lock, session)
            owner = Owner(os.getpid(), platform.node(), name, now)
            write_meta(session, "owner", msgspec.json.encode(owner).decode())
        except BaseException:
            lock.close()
            raise
        self._lock = lock
        self._switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_seconds, SWITCH_SECONDS))

    def _lock_out_others(self, lock: sqlite3.Connection, session: Session) -> None:
        try:
            lock.execute(SQL["begin_exclusive"])
        except sqlite3.Error as error:
            found = classify(error, f"{self._path}-owner")
            if not isinstance(found, Unavailable):
                raise found from error
            raise OwnershipLost(_refusal(session, self._path)) from error

    def release(self) -> None:
        """Give it up. Does nothing if it is not held."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
            sys.setswitchinterval(self._switch_seconds)


def owner_of(session: Session) -> Owner | None:
    """Who took the file last."""
    text = read_meta(session, "owner")
    return None if text is None else msgspec.json.decode(text, type=Owner)


def present_owner_of(session: Session, path: str) -> Owner | None:
    """Who owns the file at this moment."""
    if not Path(f"{path}-owner").exists():
        return None
    look = connect(f"{path}-owner", busy_seconds=0.0)
    try:
        look.execute(SQL["read_anything"])
    except sqlite3.Error as error:
        found = classify(error, f"{path}-owner")
        if not isinstance(found, Unavailable):
            raise found from error
    else:
        return None
    finally:
        look.close()
    # The first one ever has the lock for a moment before it has written its name.
    return owner_of(session) or Owner(0, "this machine", "a node that is starting")


def _refusal(session: Session, path: str) -> str:
    owner = owner_of(session)
    who = "another node"
    if owner is not None:
        same = (owner.process, owner.host) == (os.getpid(), platform.node())
        who = f"{owner}{' (this one)' if same else ''}"
    return (
        f"{path} already has a node: {who}. SQLite allows one at a time: stop it first, use this process as "
        "a client only, or move to PostgreSQL to run several"
    )
