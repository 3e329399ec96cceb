"""No test waits for time to pass: it makes time pass, or waits for what it wants to see.

Three things are refused:

- `time.sleep`, anywhere but in tests/chaos and tests/end_to_end, which have real processes and
  nothing better;
- `asyncio.sleep` of less than a second: a guess about speed;
- `asyncio.sleep` in a test's or a fixture's own body, or in a function that stands in neither.

`asyncio.sleep` is free as `sleep(0)`, which only lets others run; in durable code (a function below a
decorator `@….workflow`, a class below `@….entity`), where it is a durable timer; and in the folders of
VIRTUAL_TIME, whose loops have no real time. What is left is a function inside a test that sleeps for a
second or more: a body that is meant to be cancelled.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

import pytest

from tests.tidy import source

REAL_TIME = {"chaos", "end_to_end"}
VIRTUAL_TIME = {"unit", "simulation", "kit", "contrib"}


def test_no_test_sleeps():
    found = [
        f"{source.name(path)}:{line} {why}"
        for path in source.files(source.TESTS, ".py")
        if (folder := path.relative_to(source.TESTS).parts[0]) not in REAL_TIME
        for line, why in sleeps(source.tree(path), virtual=folder in VIRTUAL_TIME)
    ]
    assert not found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import time\ndef test(): time.sleep(1)", True),
        ("from time import sleep as nap\ndef test(): nap(1)", True),
        ("import asyncio\nasync def test_it(): await asyncio.sleep(1)", True),
        ("from asyncio import sleep\nasync def poll(): await sleep(5)", True),
        ("import asyncio\nasync def test_it(): await asyncio.sleep(0)", False),
        ("import asyncio\ndef test_it():\n async def code(): await asyncio.sleep(3600)", False),
        ("import asyncio\ndef test_it():\n async def code(): await asyncio.sleep(0.1)", True),
        ("import asyncio\n@app.workflow\nasync def nap(): await asyncio.sleep(0.1)", False),
        (
            "import asyncio\n@app.workflow(version=2)\nasync def nap(n): await asyncio.sleep(n)",
            False,
        ),
        ("import asyncio\n@app.task\nasync def nap(n): await asyncio.sleep(n)", True),
        (
            "import asyncio\n@app.entity\nclass Cart:\n async def nap(self): await asyncio.sleep(.1)",
            False,
        ),
    ],
)
def test_the_rule_is_what_the_module_says(code, found):
    assert bool(sleeps(ast.parse(code))) is found


def test_virtual_time_is_free():
    code = "import asyncio, time\nasync def code():\n await asyncio.sleep(0.5)\n time.sleep(1)"
    assert sleeps(ast.parse(code), virtual=True) == [(4, "time.sleep")]


def sleeps(tree: ast.Module, *, virtual: bool = False) -> list[tuple[int, str]]:
    finder = _Finder(virtual)
    finder.visit(tree)
    return finder.found


@dataclass
class _Finder(ast.NodeVisitor):
    virtual: bool
    names: dict[str, str] = field(default_factory=dict)
    """What a name in this file is imported from: `nap` → `time.sleep`."""
    enclosing: list[ast.AST] = field(default_factory=list)
    found: list[tuple[int, str]] = field(default_factory=list)

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            self.names[each.asname or each.name] = each.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for each in node.names:
            self.names[each.asname or each.name] = f"{node.module}.{each.name}"

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._enter(node)

    def _enter(self, node: ast.AST) -> None:
        self.enclosing.append(node)
        self.generic_visit(node)
        self.enclosing.pop()

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = self._called(node.func)
        if called == "time.sleep":
            self.found.append((node.lineno, "time.sleep"))
        elif called in {"asyncio.sleep", "anyio.sleep", "trio.sleep"} and not self.virtual:
            seconds = node.args[0].value if node.args and _is_number(node.args[0]) else None
            if seconds == 0 or self._is_durable():
                return
            if seconds is not None and seconds < 1:
                self.found.append((node.lineno, f"{called} of less than a second"))
            elif not self._is_inside_test():
                self.found.append((node.lineno, f"{called} of a test itself"))

    def _called(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.names.get(node.id, "")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return f"{self.names.get(node.value.id, '')}.{node.attr}"
        return ""

    def _is_durable(self) -> bool:
        return any(
            _decorator(each) in {"workflow", "entity"}
            for node in self.enclosing
            for each in getattr(node, "decorator_list", [])
        )

    def _is_inside_test(self) -> bool:
        """In a function that stands in a test or a fixture, not in its own body."""
        functions = [each for each in self.enclosing if not isinstance(each, ast.ClassDef)]
        return any(_is_test(each) for each in functions[:-1])


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_test(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return getattr(node, "name", "").startswith("test") or any(
        _decorator(each) == "fixture" for each in decorators
    )


def _decorator(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
