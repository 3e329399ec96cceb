"""SQL lives in .sql files, and reads no clock: `now` is an argument of every statement.

But for a function that users call in SQL: there is nobody else to ask for the time at which a call was made.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy import source

# A string that begins like a statement about tables. Words that only steer a connection (BEGIN,
# COMMIT, ROLLBACK, PRAGMA, LISTEN) are part of using it, and may stand in Python.
STATEMENT = re.compile(
    r"""\s*(
        select \s .* \s from \s
      | insert \s+ (or \s+ \w+ \s+)? into \s
      | replace \s+ into \s
      | update \s+ [\w."]+ \s+ set \s
      | delete \s+ from \s
      | merge \s+ into \s
      | with \s+ (recursive \s+)? \w+ (\s* \([^)]*\))? \s+ as \s+ (not \s+ )? (materialized \s+)? \(
      | (create|alter|drop) \s+ ((temp|temporary|unique|or \s+ replace|virtual) \s+)*
        (table|index|view|trigger|function|schema|type|sequence) \s
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

CLOCK = re.compile(
    r"""\b(
        now \s* \( | (clock|statement|transaction)_timestamp \b | timeofday \s* \(
      | current_(date|time|timestamp) \b | local(time|timestamp) \b
      | (date|time|datetime|julianday|unixepoch) \s* \( \s* \)
    ) | '(now|today|tomorrow|yesterday)' """,
    re.IGNORECASE | re.VERBOSE,
)

FUNCTION = re.compile(r"\$function\$.*?\$function\$", re.DOTALL)

COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def test_no_python_file_holds_a_statement():
    found = [
        f"{source.name(path)}:{line} {text.strip().splitlines()[0]}"
        for path in source.files(source.PACKAGE, ".py")
        for line, text in _strings(path)
        if STATEMENT.match(text)
    ]
    assert not found


def test_no_sql_file_reads_a_clock():
    found = [
        f"{source.name(path)}: {match.group(0)}"
        for path in source.files(source.PACKAGE, ".sql")
        for match in CLOCK.finditer(FUNCTION.sub(" ", COMMENT.sub(" ", source.text(path))))
    ]
    assert not found


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("SELECT id FROM call", True),
        ("\n  insert or ignore into call values (?)", True),
        ("update call set status = ?", True),
        ("CREATE UNIQUE INDEX a ON b (c)", True),
        ("with due as (select 1) select * from due", True),
        ("BEGIN IMMEDIATE", False),
        ("pragma synchronous = full", False),
        ("select one with --id", False),
        ("update the client", False),
        ("Delete what is finished", False),
    ],
)
def test_statements_are_told_from_sentences(statement, found):
    assert bool(STATEMENT.match(statement)) is found


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select now()", True),
        ("select datetime('now')", True),
        ("default current_timestamp", True),
        ("select unixepoch()", True),
        ("select * from call where wake_at <= :now", False),
        ("update call set status = 'known' -- not now()", False),
    ],
)
def test_clocks_are_told_from_arguments(sql, found):
    assert bool(CLOCK.search(COMMENT.sub(" ", sql))) is found


def _strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a file that is not documentation."""
    tree = source.tree(path)
    # A string that is a statement by itself is documentation, of a module, a class or an attribute.
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in documentation:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [
                str(each.value) if isinstance(each, ast.Constant) else "x" for each in node.values
            ]
            yield node.lineno, "".join(parts)
