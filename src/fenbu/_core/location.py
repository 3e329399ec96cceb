"""Where in the user's code a command was issued: `shop.py:31`, for journals and error messages."""

from __future__ import annotations

import asyncio
import sys
from pathlib import PurePath

_OURS = (
    str(PurePath(__file__).parent.parent) + "/",
    str(PurePath(asyncio.__file__).parent) + "/",
    "<",
)
_short: dict[str, str] = {}


def caller() -> str:
    """The innermost line on the stack that belongs neither to fenbu nor to asyncio."""
    frame = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_OURS):
            short = _short.get(filename)
            if short is None:
                short = _short[filename] = PurePath(filename).name
            return f"{short}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
