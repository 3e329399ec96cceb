"""docs/architecture.md says where things are: every file once, and none that does not exist.

The table below `## Where things are` names files relative to src/fenbu, in backticks. A name that ends
with a slash stands for the files in that folder which are no Python and are not named themselves.
An `__init__.py` without code, and `py.typed`, need no name.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from tests.tidy import source

HEADING = "## Where things are"


def test_the_map_names_every_file():
    named = set(_named())
    folders = tuple(each for each in named if each.endswith("/"))
    missing = [
        file
        for path in source.files(source.PACKAGE)
        if (file := path.relative_to(source.PACKAGE).as_posix()) not in named
        and not (path.suffix != ".py" and file.startswith(folders))
        and not _says_nothing(path)
    ]
    assert not missing, f"name these in docs/architecture.md, {HEADING}"


def test_the_map_names_no_file_twice():
    assert not [each for each, count in Counter(_named()).items() if count > 1]


def test_the_map_names_no_file_that_does_not_exist():
    unknown = [each for each in _named() if not (source.PACKAGE / each).exists()]
    assert not unknown, f"remove these from docs/architecture.md, {HEADING}"


def _named() -> list[str]:
    page = source.text(source.ROOT / "docs" / "architecture.md")
    _, found, rest = page.partition(f"\n{HEADING}\n")
    assert found, f"docs/architecture.md has no heading {HEADING}"
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row) if _is_file(name)]


def _is_file(name: str) -> bool:
    """Other words in backticks, such as a class's name, may stand in the table too."""
    return name.endswith("/") or Path(name).suffix in {".py", ".sql", ".html", ".css", ".js"}


def _says_nothing(path: Path) -> bool:
    if path.name == "py.typed":
        return True
    body = source.tree(path).body if path.name == "__init__.py" else None
    return body is not None and all(
        isinstance(node, ast.Expr)
        or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        for node in body
    )
