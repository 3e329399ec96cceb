"""Statements shaped after their rows write what they are given, and their texts settle."""

import sqlite3
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenbu._storage.sqlite.shape import LOOK_EVERY, LOOKS_MIN, ROWS_MAX, Shape, size_for

INSERT = "INSERT INTO thing (a, b, c, d) SELECT * FROM (VALUES {rows}) WHERE column1 <> -1"

Row = tuple[object, ...]


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE thing (a TEXT, b, c, d)")
    yield connection
    connection.close()


def write(database: sqlite3.Connection, shape: Shape, rows: list[Row]) -> list[str]:
    """The statements that wrote them."""
    todo = shape.statements([value for row in rows for value in row])
    for each in todo:
        database.execute(*each)
    return [each.sql for each in todo]


def learn(database: sqlite3.Connection, shape: Shape, row: Row) -> str:
    """Give it the same row until it has learned what is empty; its statement then."""
    for _ in range(LOOK_EVERY * LOOKS_MIN):
        (sql,) = write(database, shape, [row])
    return sql


values = st.one_of(st.none(), st.integers(-1, 9), st.text(max_size=2), st.binary(max_size=2))
rows = st.lists(
    st.tuples(st.text(max_size=2), values, st.none() | st.integers(-(2**63), 2**63 - 1), values),
    max_size=7,
)


@given(st.lists(rows, max_size=60))
def test_every_row_is_written_as_it_was_given(batches: list[list[Row]]) -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE thing (a TEXT, b, c, d)")
    shape = Shape(INSERT, 4)
    for batch in batches:
        write(database, shape, batch)
    written = database.execute("SELECT a, b, c, d FROM thing ORDER BY rowid").fetchall()
    database.close()
    assert written == [row for batch in batches for row in batch]


def test_a_column_that_is_always_empty_loses_its_parameter(database: sqlite3.Connection) -> None:
    shape = Shape(INSERT, 4)
    assert "(?, NULL, ?, NULL)" in learn(database, shape, ("a", None, 1, None))


def test_a_column_gets_its_parameter_back_with_its_first_value(
    database: sqlite3.Connection,
) -> None:
    shape = Shape(INSERT, 4)
    learn(database, shape, ("a", None, 1, None))
    (sql,) = write(database, shape, [("b", None, 1, None), ("c", 2, 1, None)])
    assert "(?, ?, ?, NULL)" in sql
    assert database.execute("SELECT b FROM thing WHERE a = 'c'").fetchone() == (2,)


def test_the_first_column_keeps_its_parameter(database: sqlite3.Connection) -> None:
    assert "(?, NULL, NULL, NULL)" in learn(database, Shape(INSERT, 4), ("a", None, None, None))


def test_a_column_that_is_used_now_and_then_seldom_changes_the_text(
    database: sqlite3.Connection,
) -> None:
    shape = Shape(INSERT, 4)
    texts: list[str] = []
    for number in range(3_000):
        texts += write(database, shape, [("a", 1 if number % 50 == 49 else None, 1, 1)])
    changes = sum(a != b for a, b in pairwise(texts))
    # Twice for each doubling of the patience from a first few looks to more than fifty rows.
    assert changes <= 6


def test_a_statement_has_no_more_parameters_than_sqlite_allows(
    database: sqlite3.Connection,
) -> None:
    count = 2 * ROWS_MAX + 3
    sqls = write(database, Shape(INSERT, 4), [("a", number, None, None) for number in range(count)])
    assert [sql.count("(?") for sql in sqls] == [ROWS_MAX, ROWS_MAX, size_for(3)]
    assert database.execute("SELECT count(*), max(b) FROM thing").fetchone() == (count, count - 1)
