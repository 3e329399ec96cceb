"""What a database is asked about entities that are to be forgotten: whose time is over, or is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class EntityRange(Struct, frozen=True):
    """Some entities of a class, in order of their keys."""

    entity: str
    partitions: Sequence[int]
    ttl_seconds: float
    """What the class has."""
    start: str = ""
    """The first key."""
    limit: int = 100
    """So many are looked at, whatever is found."""


class Expiring(Protocol):
    """The part of a `Storage` that knows."""

    async def expired_entities(
        self, entity: str, partitions: Sequence[int], now: float, *, limit: int
    ) -> list[tuple[str, int]]:
        """Keys and partitions of entities in these whose `expires_at` has come, the earliest first.

        Not those on which operations are open, also ones that wait for an instant.
        """
        ...

    async def misdated_entities(
        self, where: EntityRange
    ) -> tuple[list[tuple[str, int]], str | None]:
        """Those whose `expires_at` is missing, or later than the `ttl` of their class says.

        Not those with an alarm, nor those that are to be put right already.

        Returns:
            Their keys and partitions. And the last key that was looked at, to go on from; None if nothing
            comes behind it.
        """
        ...


def misdated(
    rows: Sequence[tuple[str, int | None]], limit: int
) -> tuple[list[tuple[str, int]], str | None]:
    """What `misdated_entities` returns for what was looked at; those that are not meant have no partition."""
    found = [(key, partition) for key, partition in rows if partition is not None]
    return found, rows[-1][0] if len(rows) == limit else None
