"""No god-file, no god-class, no god-function: in the package and in its tests."""

from __future__ import annotations

import ast

from tests.tidy import source

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
"""Without the docstring: a public function may say much."""
CLASS_METHODS_MAX = 20
"""Public ones; two overloads, or a property and its setter, are one."""


def test_no_file_is_too_long():
    long = {
        source.name(path): len(source.text(path).splitlines()) for path in source.python_files()
    }
    assert not {name: lines for name, lines in long.items() if lines > FILE_LINES_MAX}


def test_no_function_is_too_long():
    long = {
        f"{source.name(path)}:{node.lineno} {node.name}": lines
        for path in source.python_files()
        for node in source.functions(path)
        if (lines := _lines(node)) > FUNCTION_LINES_MAX
    }
    assert not long


def test_no_class_has_too_many_public_methods():
    large = {
        f"{source.name(path)}:{node.lineno} {node.name}": len(methods)
        for path in source.python_files()
        for node in source.classes(path)
        if len(methods := _public_methods(node)) > CLASS_METHODS_MAX
    }
    assert not large


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    doc = source.docstring(node)
    return lines - ((doc.end_lineno or doc.lineno) - doc.lineno + 1) if doc else lines


def _public_methods(node: ast.ClassDef) -> set[str]:
    return {
        each.name
        for each in node.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        and not each.name.startswith("_")
    }
