"""A function's annotations as types, as far as they can be read."""

from __future__ import annotations

import inspect
import sys
from types import SimpleNamespace
from typing import Any, get_type_hints


def hints_of(function: Any) -> dict[str, Any]:
    """The types of parameters and result by name; an error in place of an annotation that has one."""
    function = inspect.unwrap(function)
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    if isinstance(function, type):
        return {**hints_of(function.__init__), "return": function}
    if not inspect.isroutine(function):
        function = getattr(function, "__call__", function)  # noqa: B004 - a callable object
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001, S110 - annotations are code, and may raise anything
        pass
    # Each by itself: a step's arguments are never stored, so what they name may be missing.
    hints: dict[str, Any] = {}
    space = getattr(inspect.unwrap(function), "__globals__", {})
    for name, annotation in _annotations(function).items():
        alone = SimpleNamespace(
            __annotations__={name: annotation},
            __type_params__=getattr(function, "__type_params__", ()),
        )
        try:
            hints[name] = get_type_hints(alone, space, include_extras=True)[name]
        except Exception as error:  # noqa: BLE001 - see above
            hints[name] = error
    return hints


def _annotations(function: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations  # noqa: PLC0415 - new there

        return get_annotations(function, format=Format.FORWARDREF)
    return getattr(function, "__annotations__", {})
