"""Where in the user's code a command was issued: `shop.py:31`, for journals and error messages."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import PurePath
from types import FrameType

_OURS = (
    str(PurePath(__file__).parent.parent) + "/",
    str(PurePath(asyncio.__file__).parent) + "/",
    "<frozen ",
)
_short: dict[str, str] = {}


def caller() -> str:
    """The innermost line on the stack that belongs neither to fenbu nor to asyncio."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_OURS):
            short = _short.get(filename)
            if short is None:
                short = _short[filename] = PurePath(filename).name
            return f"{short}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
