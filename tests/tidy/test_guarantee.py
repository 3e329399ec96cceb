"""A guarantee is kept in code, tried by a test and written down: its tag stands in all three.

docs/guarantees.md lists them: (`tag`) after each name. Code says `Guarantee: tag` where it is kept,
a test `@pytest.mark.guarantee("tag")` where it is tried.
"""

from __future__ import annotations

import ast
import re

from tests.tidy import source

PROMISED = re.compile(r"\(`([a-z]+(?:-[a-z]+)*)`\)")
KEPT = re.compile(r"Guarantees?: ([a-z-]+(?:, [a-z-]+)*)")


def test_every_guarantee_is_kept_somewhere():
    assert _promised() - _kept() == set()


def test_every_guarantee_is_tried_by_a_test():
    assert _promised() - _tried() == set()


def test_every_tag_is_a_guarantee():
    assert (_kept() | _tried()) - _promised() == set()


def _promised() -> set[str]:
    tags = set(PROMISED.findall(source.text(source.ROOT / "docs" / "guarantees.md")))
    assert tags, "docs/guarantees.md names no guarantee"
    return tags


def _kept() -> set[str]:
    return {
        tag
        for path in source.files(source.PACKAGE, ".py", ".sql")
        for tags in KEPT.findall(source.text(path))
        for tag in tags.split(", ")
    }


def _tried() -> set[str]:
    return {
        argument.value
        for path in source.files(source.TESTS, ".py")
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.guarantee")
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
