"""Statements for many rows at once, shaped after the rows that come.

Two things cost more than they seem to, and are avoided here:
- *Compiling.* A statement for 300 rows takes about as long to compile as to run. So one is prepared for a few
  sizes only, a half step apart (1, 2, 3, 4, 6, 8, 12, …), and filled up with rows that the statement skips.
- *None.* sqlite3 looks for an adapter of every parameter that is no number and no text: a None takes three
  to four times as long as a number (Python 3.11), and most columns of most rows are empty. This was a fifth
  of all that a three-step workflow costs. So a column that has been empty in all rows lately is written as
  NULL into the statement itself and has no parameter. As soon as a row has a value there the column gets
  its parameter back, so the text of a statement seldom changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import compress, cycle
from typing import Any, Final, NamedTuple

ROWS_MAX: Final = 1_024
"""Rows of one statement: 27 columns × 1,024 stay below the 32,766 parameters that SQLite allows."""

SKIPPED: Final = (-1,)
"""The values of a row that is there only to fill up. No real row begins with this number."""

LOOK_EVERY: Final = 4
"""Every fourth statement is looked at for columns that are empty."""

LOOKS_MIN: Final = 4
LOOKS_MAX: Final = 256
"""After so many looks, what was empty in all of them is left out; twice as many after each time that this
was wrong."""


class Statement(NamedTuple):
    """Ready to execute."""

    sql: str
    parameters: Sequence[Any]


class Shape:
    """One statement over `VALUES {rows}`, and which of its columns have parameters."""

    def __init__(self, sql: str, columns: int) -> None:
        self._sql = sql
        self._columns = columns
        self._given = [True] * columns
        self._until_look = LOOK_EVERY
        self._looks = LOOKS_MIN
        self._looks_left = LOOKS_MIN
        self._seen = [False] * columns
        """Columns that had a value in one of these looks."""

    def statements(self, flat: list[Any]) -> list[Statement]:
        """One for all rows, given one after the other, or a few if there are more than ROWS_MAX."""
        step = ROWS_MAX * self._columns
        return [self._statement(flat[start : start + step]) for start in range(0, len(flat), step)]

    def _statement(self, flat: list[Any]) -> Statement:
        count = len(flat) // self._columns
        self._until_look -= 1
        if self._until_look <= 0:
            self._look(flat)
        given = self._given
        if False in given:
            left_out = list(compress(flat, cycle([not each for each in given])))
            if left_out.count(None) != len(left_out):
                given = self._give_back(flat)
            flat = list(compress(flat, cycle(given)))
        size = size_for(count)
        if size > count:
            flat += SKIPPED * ((size - count) * sum(given))
        return Statement(_sized(self._sql, tuple(given), size), flat)

    def _look(self, flat: list[Any]) -> None:
        self._until_look = LOOK_EVERY
        self._seen = _either(self._seen, _filled(flat, self._columns))
        self._looks_left -= 1
        if self._looks_left <= 0:
            self._given, self._seen = self._seen, [False] * self._columns
            self._looks_left = self._looks

    def _give_back(self, flat: list[Any]) -> list[bool]:
        """A column that was left out has a value."""
        self._given = _either(self._given, _filled(flat, self._columns))
        self._looks = self._looks_left = min(2 * self._looks, LOOKS_MAX)
        return self._given


def _filled(flat: list[Any], columns: int) -> list[bool]:
    """Which columns have a value in any row. The first always has: it tells rows that are skipped."""
    count = len(flat) // columns
    return [column == 0 or flat[column::columns].count(None) < count for column in range(columns)]


def _either(one: Iterable[bool], other: Iterable[bool]) -> list[bool]:
    return [a or b for a, b in zip(one, other, strict=True)]


@lru_cache(maxsize=ROWS_MAX)
def size_for(count: int) -> int:
    """Of how many rows the statement is that so many are written with."""
    size = 1
    while size < count:
        if size > 1 and size * 3 // 2 >= count:
            return size * 3 // 2
        size *= 2
    return size


@lru_cache(maxsize=256)
def _sized(sql: str, given: tuple[bool, ...], size: int) -> str:
    row = f"({', '.join('?' if each else 'NULL' for each in given)})"
    return sql.format(rows=", ".join([row] * size))
