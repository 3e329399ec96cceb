"""Where in the user's code a command was issued: `shop.py:31`, for journals and error messages."""

from __future__ import annotations

import asyncio
import sys
from pathlib import PurePath
from types import CodeType, FrameType

_OURS = (
    str(PurePath(__file__).parent.parent) + "/",
    str(PurePath(asyncio.__file__).parent) + "/",
    "<frozen ",
)
_places: dict[tuple[int, int], tuple[str, CodeType]] = {}
"""By instruction, because to find its line takes long; "" where the code is not the user's. The code object
stands there so that no other one gets its id, which is the key because hashing it takes long, too."""

_PLACES_MAX = 10_000


def caller() -> str:
    """The innermost line on the stack that belongs neither to fenbu nor to asyncio."""
    # Not this function's own frame: where that stands changes while it runs, so it could not be remembered,
    # and a variable for it would be a cycle. Nor that of whoever asks, which is fenbu's.
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        code = frame.f_code
        found = _places.get((id(code), frame.f_lasti))
        place = found[0] if found is not None else _learn(frame)
        if place:
            return place
        frame = frame.f_back
    return ""


def _learn(frame: FrameType) -> str:
    code = frame.f_code
    if len(_places) >= _PLACES_MAX:
        _places.clear()
    ours = code.co_filename.startswith(_OURS)
    place = "" if ours else f"{PurePath(code.co_filename).name}:{frame.f_lineno}"
    _places[id(code), frame.f_lasti] = (place, code)
    return place
