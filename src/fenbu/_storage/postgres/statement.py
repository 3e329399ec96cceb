"""The SQL of this storage, for one schema: named `noun.query`, as in `sql/<noun>.sql`.

The schema's name is part of each statement, because behind a pooling proxy no session keeps a search path.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from fenbu._storage.query import load_migrations, load_queries

PACKAGE: Final = "fenbu._storage.postgres"

NOUNS: Final = (
    "meta",
    "invocation",
    "entity",
    "field",
    "inbox",
    "chunk",
    "node",
    "commit",
    "hint",
    "session",
    "observe",
    "transaction",
    "step",
)

MIGRATIONS: Final = load_migrations(PACKAGE)


def quoted(name: str) -> str:
    """A name as an identifier."""
    return '"{}"'.format(name.replace('"', '""'))


@cache
def statements(schema: str) -> dict[str, str]:
    """Every statement."""
    name = quoted(schema)
    return {
        f"{noun}.{query}": text.replace("{schema}", name)
        for noun in NOUNS
        for query, text in load_queries(PACKAGE, noun).items()
    }


def migrations(schema: str) -> list[str]:
    """The scripts, in order."""
    return [each.replace("{schema}", quoted(schema)) for each in MIGRATIONS]
