"""Named queries: the SQL of a storage lives in `.sql` files beside its code, never in Python.

A file holds queries, each below a line `-- name: load_ready`. `{columns}` in a query stands for the text of
the query of that name in the same file; any other `{word}` is left for the caller to fill in.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_FRAGMENT: Final = re.compile(r"\{(\w+)\}")


def load_queries(package: str, noun: str) -> dict[str, str]:
    """The queries of `sql/<noun>.sql` in a storage's package, by name."""
    text = files(package).joinpath("sql", f"{noun}.sql").read_text("utf-8")
    parts = _NAME.split(text)
    queries = dict(zip(parts[1::2], map(_trimmed, parts[2::2]), strict=True))

    def fragment(match: re.Match[str]) -> str:
        found = queries.get(match[1])
        return match[0] if found is None else _FRAGMENT.sub(fragment, found)

    return {name: _FRAGMENT.sub(fragment, query) for name, query in queries.items()}


def load_migrations(package: str) -> list[str]:
    """The scripts of `sql/migration`, in order; the first brings an empty database to version 1."""
    folder = files(package).joinpath("sql", "migration")
    found = sorted(
        (each for each in folder.iterdir() if each.name.endswith(".sql")),
        key=lambda each: each.name,
    )
    return [each.read_text("utf-8") for each in found]


def _trimmed(query: str) -> str:
    return query.strip().removesuffix(";")
