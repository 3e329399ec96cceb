"""The driver, asyncpg, as far as it is used here, with types: it ships none.

Absent: its pool, which spends a round trip on tidying up after each use.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, cast

from fenbu.errors import UsageError

try:
    import asyncpg  # pyright: ignore[reportMissingTypeStubs]
except ImportError as error:
    raise UsageError(
        "a postgresql:// URL needs the driver asyncpg: install fenbu[postgres]"
    ) from error

CONNECT_SECONDS: Final = 10

KEEPALIVE: Final = (("TCP_KEEPIDLE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 2))
"""Seconds, seconds, times: a server whose host vanished is noticed within 8 s …"""

UNACKNOWLEDGED_MILLISECONDS: Final = 8_000
"""… and within as many when something was being sent to it."""

Row = Sequence[Any]
"""A row can also be asked by the names of its columns."""


class Statement(Protocol):
    """A prepared one."""

    async def fetchval(self, *args: object) -> Any: ...


class Connection(Protocol):
    """One session with the server. One statement at a time."""

    async def fetch(self, query: str, *args: object) -> list[Row]: ...

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...

    async def execute(self, query: str, *args: object) -> str: ...

    async def prepare(self, query: str) -> Statement: ...

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[None]: ...

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...

    async def remove_listener(self, channel: str, callback: Callable[..., None]) -> None: ...

    def add_termination_listener(self, callback: Callable[[object], None]) -> None: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...

    async def close(self, *, timeout: float) -> None: ...  # noqa: ASYNC109  (the driver's own)


async def connect(url: str, *, cached_statements: int) -> Connection:
    """A new session, which notices within seconds when the server's host has vanished."""
    connection = cast(
        "Any",
        await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType]
            url,
            timeout=CONNECT_SECONDS,
            statement_cache_size=cached_statements,
            # Counted in seconds by default, and then prepared anew.
            max_cached_statement_lifetime=0,
        ),
    )
    _watch_over(connection._transport.get_extra_info("socket"))  # noqa: SLF001  (it offers no other way)
    return connection


def _watch_over(found: socket.socket | None) -> None:
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    # What a loop gives out may not be changed (uvloop), a second handle of the same socket may.
    with socket.socket(fileno=os.dup(found.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (*KEEPALIVE, ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MILLISECONDS)):
            option = getattr(socket, name, None)
            if option is not None:
                same.setsockopt(socket.IPPROTO_TCP, option, value)


PostgresError: Final[type[Exception]] = asyncpg.PostgresError
InterfaceError: Final[type[Exception]] = asyncpg.InterfaceError
InternalClientError: Final[type[Exception]] = asyncpg.InternalClientError
ConfigurationError: Final[type[Exception]] = asyncpg.exceptions.ClientConfigurationError

DRIVER_ERRORS: Final = (PostgresError, InterfaceError, InternalClientError, OSError, TimeoutError)
"""All that a use of a connection raises."""
