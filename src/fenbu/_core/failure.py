"""Errors ⇄ `Failure`, their form as data.

An error is built again only from a class that this process has already imported, and without running its
`__init__`: what stands in a database must not make anything be imported or called.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any, cast

import msgspec

from fenbu._core.model import Failure
from fenbu.errors import CallFailed

TRACEBACK_LENGTH_MAX = 8_000
MESSAGE_LENGTH_MAX = 4_000
_MEMBERS = "__fenbu_members__"
_OURS = ("/fenbu/_core/", "/fenbu/_node/", "/fenbu/_api/", "/asyncio/", "/concurrent/futures/")


def failure_of(error: BaseException) -> Failure:
    """The error as data. Never raises."""
    kind = error.__class__
    if isinstance(error, CallFailed):
        # It stands for an error from elsewhere: keep what is known of that.
        return Failure(error.type, error.message, error.remote_traceback)
    attributes = {
        key: value for key, value in vars(error).items() if key != "__notes__" and _encoded(value)
    }
    if issubclass(kind, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        attributes[_MEMBERS] = [msgspec.to_builtins(failure_of(each)) for each in group.exceptions]
        args = _encoded([group.message])
    else:
        args = _encoded(error.args)
    return Failure(
        f"{kind.__module__}:{kind.__qualname__}",
        _storable(_text(error)[:MESSAGE_LENGTH_MAX]),
        _storable(_traceback(error)),
        args,
        _encoded(attributes) if attributes else None,
    )


def error_of(failure: Failure) -> Exception:
    """The error again, with its own type where that is known here. Never raises."""
    try:
        error = _rebuild(failure)
    except Exception:  # noqa: BLE001 - a class that cannot be rebuilt is as good as unknown
        error = None
    if error is None:
        return CallFailed(failure.type, failure.message, failure.traceback)
    if failure.traceback:
        error.add_note(f"It was raised in another call:\n{failure.traceback}")
    return error


def _rebuild(failure: Failure) -> Exception | None:
    module, _, name = failure.type.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    if issubclass(found, asyncio.CancelledError):
        return None
    args: tuple[Any, ...] = tuple(msgspec.json.decode(failure.args)) if failure.args else ()
    attributes: dict[str, Any] = msgspec.json.decode(failure.attributes or "{}")
    members = attributes.pop(_MEMBERS, None)
    if members is not None:
        args = (args[0], [error_of(msgspec.convert(each, Failure)) for each in members])
    elif failure.args is None:
        args = (failure.message,)
    error = found.__new__(found, *args)
    if members is None:
        error.args = args
    error.__dict__.update(attributes)
    if _text(error) != failure.message and not failure.message.startswith(_text(error)):
        # It keeps its text somewhere that could not be stored.
        error.args = (failure.message,)
    return error


def _storable(text: str) -> str:
    """Text that every database takes: no lone surrogates, no NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def _encoded(value: object) -> str | None:
    try:
        return msgspec.json.encode(value).decode()
    except Exception:  # noqa: BLE001 - whatever cannot be encoded is left out
        return None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return ""


def _traceback(error: BaseException) -> str:
    """The traceback as text, without the frames of fenbu and asyncio around the user's."""
    try:
        summary = traceback.TracebackException.from_exception(error, compact=True)
        todo: list[traceback.TracebackException | None] = [summary]
        while todo:
            each = todo.pop()
            if each is None:
                continue
            frames = [f for f in each.stack if not any(part in f.filename for part in _OURS)]
            each.stack = traceback.StackSummary.from_list(frames)
            todo += [each.__cause__, each.__context__, *(each.exceptions or ())]
        text = "".join(summary.format())
    except Exception:  # noqa: BLE001 - the traceback is a help, not the message
        return ""
    if len(text) > TRACEBACK_LENGTH_MAX:
        half = TRACEBACK_LENGTH_MAX // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"
    return text
