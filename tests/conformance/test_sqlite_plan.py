"""What a node asks again and again goes through an index, and needs no sorting of what it does not want."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from fenbu._storage.sqlite.migrate import MIGRATIONS
from fenbu._storage.sqlite.rows import (
    CHUNK_SQL,
    ENTITY_SQL,
    ENTRY_SQL,
    FIELD_SQL,
    INBOX_SQL,
    INVOCATION_SQL,
)

QUERIES = {
    **{f"invocation.{name}": query for name, query in INVOCATION_SQL.items()},
    **{f"entry.{name}": query for name, query in ENTRY_SQL.items()},
    **{f"entity.{name}": query for name, query in ENTITY_SQL.items()},
    **{f"field.{name}": query for name, query in FIELD_SQL.items()},
    **{f"chunk.{name}": query for name, query in CHUNK_SQL.items()},
    **{f"inbox.{name}": query for name, query in INBOX_SQL.items()},
}
FRAGMENTS = {"invocation.args", *(name for name in QUERIES if "columns" in name)}
FOR_PEOPLE = {
    "invocation.count",
    "invocation.count_parked",
    "entity.list",
    "inbox.all",
    "inbox.count",
}
TABLES = "invocation|large_args|entry|entity|entity_field|inbox|chunk"


def plan(query: str) -> list[str]:
    filled = query.replace("{rows}", f"({', '.join('?' * 26)})")
    with closing(sqlite3.connect(":memory:")) as connection:
        for each in MIGRATIONS:
            connection.executescript(each)
        if "INSERT INTO" in query:
            return []
        names = re.findall(r":(\w+)", filled)
        parameters = dict.fromkeys(names, "[]") if names else ("[]",) * filled.count("?")
        rows = connection.execute(f"EXPLAIN QUERY PLAN {filled}", parameters)
        return [row[3] for row in rows]


@pytest.mark.parametrize(
    "name", sorted(name for name in QUERIES if name not in FOR_PEOPLE | FRAGMENTS)
)
def test_no_table_is_read_from_end_to_end(name):
    steps = plan(QUERIES[name])
    assert not [each for each in steps if re.match(rf"SCAN ({TABLES})\b", each)], steps


@pytest.mark.parametrize("name", ["load_operations", "load_due", "next_due", "operations_before"])
def test_no_more_is_read_than_is_wanted(name):
    steps = plan(INVOCATION_SQL[name])
    assert not [each for each in steps if "TEMP B-TREE" in each], steps
