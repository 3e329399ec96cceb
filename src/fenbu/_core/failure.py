"""Errors ⇄ `Failure`, their form as data. Neither direction ever raises.

An error is built again only from a class that this process has already imported, and without running its
`__init__`: what stands in a database must not make anything be imported or called. What cannot be built
so that it says what it said becomes a `CallFailed`.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from types import MemberDescriptorType, ModuleType
from typing import Any, Final, cast

import msgspec

from fenbu._core.model import Failure, UnreadableFailure
from fenbu.errors import CallFailed, PayloadUnreadable

TRACEBACK_LENGTH_MAX: Final = 8_000
MESSAGE_LENGTH_MAX: Final = 4_000
DATA_LENGTH_MAX: Final = 64_000
"""Of the JSON of the `args`, and of that of the attributes; what does not fit is left out."""
_DEPTH_MAX: Final = 8
"""Groups in groups."""
_MORE: Final = "…"
_MEMBERS: Final = "__fenbu_members__"
_OURS: Final = ("/fenbu/_core/", "/fenbu/_node/", "/fenbu/_api/", "/asyncio/", "/concurrent/")


def failure_of(error: BaseException) -> Failure:
    """The error as data."""
    try:
        return _failure(error, 1, 0)
    except Exception:  # noqa: BLE001 - an error may misbehave in any way, and is told all the same
        return Failure(_type(error), _storable(_text(error)[:MESSAGE_LENGTH_MAX]))


def _failure(error: BaseException, share: int, depth: int) -> Failure:
    """`share`: by how many errors the space for one is shared."""
    if isinstance(error, CallFailed):
        # It stands for an error from elsewhere: keep what is known of that.
        return Failure(error.type, error.message, error.remote_traceback)
    message = _storable(_text(error))
    most = max(MESSAGE_LENGTH_MAX // share, 200)
    room = DATA_LENGTH_MAX // share
    args = _encoded(error.args, room)
    attributes: dict[str, Any] = {}
    for name, value in _state(error):
        encoded = _encoded(value, room)
        if encoded is not None:
            attributes[name] = value
            room -= len(encoded)
    if issubclass(error.__class__, BaseExceptionGroup) and depth < _DEPTH_MAX:
        group = cast("BaseExceptionGroup[BaseException]", error)
        args = _encoded([group.message], DATA_LENGTH_MAX)
        count = share * len(group.exceptions)
        attributes[_MEMBERS] = [
            msgspec.to_builtins(_failure(each, count, depth + 1)) for each in group.exceptions
        ]
    return Failure(
        _type(error),
        message if len(message) <= most else message[: most - 1] + _MORE,
        _storable(_cut(_traceback(error), TRACEBACK_LENGTH_MAX // share)),
        args,
        msgspec.json.encode(attributes).decode() if attributes else None,
    )


def error_of(failure: Failure) -> Exception:
    """The error again, with its own type where that is known here."""
    if isinstance(failure, UnreadableFailure):
        return PayloadUnreadable(f"it ended with a {failure.type}, but {failure.reason}")
    try:
        error = _rebuild(failure)
        if error is not None:
            if failure.traceback:
                text = _cut(failure.traceback, TRACEBACK_LENGTH_MAX)
                BaseException.add_note(error, f"It was raised in another call:\n{text}")
            return error
    except Exception:  # noqa: BLE001, S110 - a class that cannot be rebuilt is as good as unknown
        pass
    return CallFailed(failure.type, failure.message, failure.traceback)


def _rebuild(failure: Failure) -> Exception | None:
    cls = _class(failure.type)
    if cls is None:
        return None
    args: tuple[Any, ...] = (failure.message,)
    if failure.args is not None:
        args = msgspec.json.decode(failure.args, type=tuple[Any, ...])
    attributes = msgspec.json.decode(failure.attributes or "{}", type=dict[str, Any])
    members = attributes.pop(_MEMBERS, None)
    if members is not None:
        args = (args[0], [error_of(each) for each in msgspec.convert(members, list[Failure])])
    error: Any = cls.__new__(cls, *args)
    if not isinstance(error, cls):
        return None
    if members is None:
        error.args = args
    slots = dict(_slots(cls))
    for name, value in attributes.items():
        if name in slots:
            slots[name].__set__(error, value)
        else:
            error.__dict__[name] = value
    if not _says(error, failure.message) and members is None:
        # It keeps its text somewhere that could not be stored.
        error.args = (failure.message,)
    return cast("Exception", error) if _says(error, failure.message) else None


def _class(type_: str) -> type[Any] | None:
    """The class of that name, if it is one of an error and this process has it."""
    module, _, name = type_.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        # Not `getattr`, which can run code: a lazy module imports what it is asked for.
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
    if found is BaseExceptionGroup:
        # What made it more than an ExceptionGroup, such as a cancellation, is a CallFailed now.
        return ExceptionGroup
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    # A coroutine cannot raise these two: they would end it.
    return None if issubclass(found, StopIteration | StopAsyncIteration) else found


def _state(error: BaseException) -> Iterator[tuple[str, Any]]:
    """The attributes of an error, wherever it keeps them."""
    for name, value in vars(error).items():
        if name != "__notes__":  # The traceback shows them.
            yield name, value
    for name, slot in _slots(error.__class__):
        try:
            value = slot.__get__(error)
        except AttributeError:  # Not set.
            continue
        if value is not None or slot.__objclass__ not in _BUILTIN:  # In these, None is not set.
            yield name, value


_BUILTIN: Final = (OSError, ImportError, NameError, AttributeError, SyntaxError)
"""What these keep beside their `args` may be set to anything. Not so in others: UnicodeError can crash."""


def _slots(cls: type[Any]) -> Iterator[tuple[str, MemberDescriptorType]]:
    """The `__slots__` of the classes that are written in Python, and what is like them in built-in ones."""
    for each in cls.__mro__:
        if each in _BUILTIN or "__slots__" in each.__dict__:
            for name, value in each.__dict__.items():
                if isinstance(value, MemberDescriptorType):
                    yield name, value


def _says(error: BaseException, message: str) -> bool:
    text = _storable(_text(error))
    return text == message or (message.endswith(_MORE) and text.startswith(message[:-1]))


def _storable(text: str) -> str:
    """Text that every database takes: no lone surrogates, no NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def _encoded(value: object, most: int) -> str | None:
    """JSON, unless something is lost in it or it is too long."""
    try:
        data = msgspec.json.encode(value)
        if len(data) > most:
            return None
        if b"null" in data:  # So are NaN and infinity written.
            json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False)
        return data.decode()
    except Exception:  # noqa: BLE001 - whatever cannot be encoded is left out
        return None


def _type(error: BaseException) -> str:
    cls = type(error)  # Not `error.__class__`, which may lie.
    return f"{cls.__module__}:{cls.__qualname__}"


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
            if each is not None:
                each.stack = _readable(each.stack)
                todo += [each.__cause__, each.__context__, *(each.exceptions or ())]
        return "".join(summary.format())
    except Exception:  # noqa: BLE001 - the traceback is a help, not the message
        return ""


def _readable(stack: traceback.StackSummary) -> traceback.StackSummary:
    theirs = [f for f in stack if not any(part in f.filename.replace("\\", "/") for part in _OURS)]
    # Without columns there are no lines of ^^^^: 43 µs instead of 101 for six frames.
    plain = [
        traceback.FrameSummary(each.filename, each.lineno, each.name, line=each.line)
        for each in theirs or stack  # All ours: a bug of fenbu's, which must be found.
    ]
    return traceback.StackSummary.from_list(plain)


def _cut(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[len(text) - half :]}"
