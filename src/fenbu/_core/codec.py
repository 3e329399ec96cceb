"""Values ⇄ payloads, by type: JSON text that people can read, or MessagePack, through msgspec.

A value comes back equal or is refused with an `EncodingError`: nothing becomes null or a mask on the way.
msgspec does nearly all. Where it refuses a type (a union of dataclasses or of models, an enum of floats) a
stand-in goes through it and makes the value from plain data; only such types pay for it.

Absent: pickle, and any import of pydantic; its models are known by what they can do.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import reprlib
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import cache
from pathlib import PurePath
from types import UnionType
from typing import Any, Literal, Protocol, cast, get_args, get_origin

import msgspec
from msgspec.inspect import CustomType, Field, Type, type_info

from fenbu._core import limit
from fenbu._core.model import Payload, Unreadable
from fenbu.errors import EncodingError, PayloadTooLarge, PayloadUnreadable, UsageError


class CodecHook(Protocol):
    """Transforms payloads on their way to the database and back: compression, encryption."""

    def encode(self, data: bytes) -> bytes:
        """What to store for `data`; a first byte 0xC1 tells it from JSON and MessagePack."""
        ...

    def decode(self, data: bytes) -> bytes:
        """What `encode` was given. Bytes that were stored without the hook come here, too."""
        ...


class Codec:
    """How one app stores values; `of` gives the codec of a type.

    It reads both formats whichever it writes, so that the format of a database can be changed.
    """

    def __init__(
        self,
        *,
        format: Literal["json", "msgpack"] = "json",  # noqa: A002
        bytes_max: int = limit.PAYLOAD_BYTES_MAX,
    ) -> None:
        if format not in ("json", "msgpack"):
            raise UsageError(f"codec must be 'json' or 'msgpack', not {format!r}")
        self.format = format
        self.bytes_max = bytes_max
        encoder = msgspec.json.Encoder if format == "json" else msgspec.msgpack.Encoder
        self.write: Callable[[Any], bytes] = encoder(enc_hook=_to_builtin).encode
        self._types: dict[Any, TypeCodec] = {}

    def size(self, value: object) -> int:
        """The bytes of a value when it is encoded; 0 if it cannot be."""
        try:
            return len(self.write(value))
        except Exception:  # noqa: BLE001 - see `encode`
            return 0

    def of(self, type_: Any) -> TypeCodec:
        """The codec of a type, made at its first use.

        Raises:
            UsageError: Values of this type cannot be decoded; it says what to change.
        """
        try:
            found = self._types.get(type_)
        except TypeError:  # An annotation that cannot be hashed.
            return TypeCodec(self, type_)
        if found is None:
            found = self._types[type_] = TypeCodec(self, type_)
        return found


class TypeCodec:
    """Encodes and decodes values of one type."""

    __slots__ = ("_codec", "_is_text", "_json", "_msgpack")

    def __init__(self, codec: Codec, type_: Any) -> None:
        self._codec = codec
        self._is_text = codec.format == "json"
        try:
            made = _StandIns().of(type_)
        except RecursionError:
            text = "an alias that contains itself; use Any, or a dataclass that contains itself"
            raise UsageError(f"type {_name(type_)}: {text}") from None
        self._json: Any = msgspec.json.Decoder(made, dec_hook=_from_builtin)
        self._msgpack: Any = msgspec.msgpack.Decoder(made, dec_hook=_from_builtin)

    def encode(self, value: object) -> Payload:
        """The payload of a value.

        Raises:
            EncodingError: It cannot be encoded; it names the part that cannot.
        """
        codec = self._codec
        try:
            data = codec.write(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _refusal(value, error, codec.write) from None
        except Exception as error:  # A model's own code may raise anything.
            raise _refusal(value, error, codec.write) from error
        if len(data) > codec.bytes_max:
            raise PayloadTooLarge(len(data), codec.bytes_max)
        if not self._is_text:
            return data
        text = data.decode()
        if "null" in text and value is not None:
            _refuse_nonfinite(value)
        return text

    def decode(self, payload: Payload) -> Any:
        """The value of a payload.

        Raises:
            EncodingError: It does not fit the type.
            PayloadUnreadable: This process has no key for it.
        """
        try:
            if isinstance(payload, str):
                return self._json.decode(payload)
            if isinstance(payload, Unreadable):
                raise PayloadUnreadable(payload.reason)
            return self._msgpack.decode(payload)
        except PayloadUnreadable:
            raise
        except msgspec.DecodeError as error:
            raise EncodingError(str(error)) from error.__cause__
        except Exception as error:
            # What a type's own code says.
            raise EncodingError(f"{error.__class__.__name__}: {error}") from error

    def check(self, value: object) -> Payload:
        """Like `encode`, and refuses in the same way a value that does not fit the type."""
        payload = self.encode(value)
        self.decode(payload)
        return payload


# What msgspec does not know, and what others get wrong -------------------------------------------------

_MASK = b"**********"
_CONTAINERS = (dict, list, tuple, set, frozenset)
_PLAIN: dict[Any, Any] = {str: str.__str__, int: int.__int__, float: float.__float__, PurePath: str}


def _is_known(cls: Any) -> bool:
    """Whether the next two functions serve a class that msgspec does not know."""
    is_ours = cls is object or hasattr(cls, "__fenbu_load__")
    return is_ours or _is_model(cls) or issubclass(cls, tuple(_PLAIN))


def _to_builtin(value: Any) -> Any:
    """What msgspec writes for a value that it does not know."""
    if _is_model(value.__class__):
        return _dump(value)
    if value is None or value.__class__ in (bool, tuple, frozenset):
        # Anywhere else msgspec knows them.
        raise TypeError("a key of a dict can only be text or a number; use a list of pairs")
    # Subclasses: numpy's floats, Django's safe strings, users' own.
    for base, plain in _PLAIN.items():
        if isinstance(value, base):
            return plain(value)
    if isinstance(value, list | tuple | set | frozenset):
        return list(cast("Iterable[Any]", value))
    raise TypeError(_unstorable(value.__class__))


def _from_builtin(type_: Any, data: Any) -> Any:
    """The inverse of `_to_builtin`, for the type that is wanted."""
    load = getattr(type_, "__fenbu_load__", None)
    if load is not None:
        return load(data)
    cls = get_origin(type_) or type_
    if _is_model(cls):
        return _validate(type_, data)
    if cls is object:
        return data
    for base in _PLAIN:
        if issubclass(cls, base) and isinstance(data, str if base is PurePath else base):
            return cls(data)
    raise ValueError(f"Expected `{_name(type_)}`, got {_brief(data)}")


@cache
def _is_model(cls: Any) -> bool:
    return hasattr(cls, "__pydantic_core_schema__") and hasattr(cls, "model_validate")


@cache
def _has_by_name(cls: Any) -> bool:
    """Since pydantic 2.11 a model takes its fields' names, whatever their aliases are."""
    return "by_name" in inspect.signature(cls.model_validate).parameters


def _dump(model: Any) -> Any:
    # `round_trip` leaves out computed fields, which a model need not accept.
    options = {"round_trip": True, "by_alias": not _has_by_name(model.__class__)}
    data = model.model_dump(mode="json", **options)
    text = msgspec.json.encode(data)
    if b"null" in text or _MASK in text:
        _refuse_lost(model.model_dump(mode="python", **options), data)
    return data


def _validate(cls: Any, data: Any) -> Any:
    options = {"by_alias": True, "by_name": True} if _has_by_name(get_origin(cls) or cls) else {}
    try:
        return cls.model_validate(data, **options)
    except ValueError as error:
        # A strict field takes a date as text only where it knows that the source is JSON.
        try:
            return cls.model_validate_json(msgspec.json.encode(data), **options)
        except ValueError:
            raise error from None


def _refuse_lost(value: Any, dumped: Any) -> None:
    """Pydantic masks secrets, and writes null for a NaN in a field of type Any: never let that pass."""
    if dumped is None and isinstance(value, float):
        raise EncodingError(f"{value} would be stored as null; declare the field as a float")
    if dumped == _MASK.decode() and hasattr(value, "get_secret_value"):
        raise EncodingError(
            "a secret would be stored masked; pass the name to look it up by, or give the field a "
            "serializer that reveals it (and the codec a hook that encrypts)"
        )
    if isinstance(dumped, dict | list):
        pairs = zip(_parts(value), _parts(cast("Any", dumped)), strict=False)
        for (_, inner), (_, inner_dumped) in pairs:
            _refuse_lost(inner, inner_dumped)


_pack = msgspec.msgpack.Encoder(enc_hook=_to_builtin).encode
_NONFINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def _refuse_nonfinite(value: object) -> None:
    """JSON has no NaN and no infinity, and msgspec writes null for them: never let that pass silently.

    MessagePack has them, and its bytes tell quickly that there is none; other bytes may look like one.
    """
    with suppress(OverflowError):  # Integers beyond 64 bits, which JSON can do.
        if _NONFINITE.search(_pack(value)) is None:
            return
    try:
        json.dumps(msgspec.to_builtins(value, enc_hook=_to_builtin, str_keys=True), allow_nan=False)
    except ValueError:
        raise EncodingError(
            f"cannot encode {_brief(value)}: JSON has no NaN or infinity; use None, or codec 'msgpack'"
        ) from None


# Types that msgspec refuses -----------------------------------------------------------------------------


class _AnyInstance(type):
    """msgspec checks what a decoding hook returns; a stand-in returns what it stands for."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def _stand_in(load: Callable[[Any], Any]) -> Any:
    """A type that msgspec takes, for one that it refuses: `load` makes the value of plain data."""
    return _AnyInstance("StandIn", (), {"__fenbu_load__": staticmethod(load)})


class _StandIns:
    """Replaces what msgspec refuses, wherever it is within one type."""

    def __init__(self) -> None:
        self._records: dict[Any, Any] = {}  # Made or being made: a class may contain itself.

    def of(self, type_: Any) -> Any:
        """The type, or what msgspec can decode in its place.

        Raises:
            UsageError: There is nothing.
        """
        if (problem := _problem(type_)) is None:
            return type_
        if type_ in (typing.NoReturn, typing.Never):
            return None
        if (inner := _inner(type_)) is not type_:
            meta = getattr(type_, "__metadata__", ())
            return typing.Annotated[(self.of(inner), *meta)] if meta else self.of(inner)
        origin, args = get_origin(type_), get_args(type_)
        if origin is Iterable:
            return self.of(list[args])
        if origin in (typing.Union, UnionType):  # pyright: ignore[reportDeprecated]
            has_paths = any(inspect.isclass(each) and issubclass(each, PurePath) for each in args)
            if str in args and (has_paths or "str-like" in problem):
                text = "str and what is also written as text cannot be told apart; use one of them"
                raise UsageError(f"type {_name(type_)}: {text}")
            members = [each for each in args if each is not type(None)]
            types = [self.of(each) for each in members]
            made = types[0] if len(types) == 1 else _union(_name(type_), types)
            return made if len(members) == len(args) else made | None
        if (keys := _keys(type_)) is not None:
            return self._record(type_, keys)
        if inspect.isclass(type_) and issubclass(type_, Enum):
            return _enum(type_)
        if args and origin in (list, set, frozenset, tuple, dict, Sequence, Mapping):
            return origin[tuple(each if each is ... else self.of(each) for each in args)]  # type: ignore[index]
        raise UsageError(f"type {_name(type_)}: {problem}")

    def _record(self, cls: Any, keys: dict[str, str]) -> Any:
        """A class with fields, of which some need a stand-in."""
        if cls in self._records:
            return self._records[cls]
        types: dict[str, Any] = {}

        def load(data: Any) -> Any:
            given: dict[str, Any] = _convert(data, dict[str, Any])
            for key in required - given.keys():
                raise ValueError(f"Object missing required field `{key}`")
            found = types.keys() & given.keys()
            return cls(**{keys[key]: _convert(given[key], types[key], key) for key in found})

        made = self._records[cls] = _stand_in(load)
        hints = typing.get_type_hints(cls, include_extras=True)
        # Python itself overlooks a NotRequired in an annotation that is text.
        optional = {name for name in keys if get_origin(hints[keys[name]]) is typing.NotRequired}
        required = getattr(cls, "__required_keys__", frozenset[str]()) - optional
        types.update((key, self.of(_inner(hints[name]))) for key, name in keys.items())
        return made


def _union(name: str, types: list[Any]) -> Any:
    """Values are written as in any other place, so it is what they hold that must tell their type.

    The one that knows the most of the fields is meant. Nothing else may decide: a field left to its
    default may be absent, so `{"number": "1"}` can be a Card as well as an Iban, and is refused.
    """

    def load(data: Any) -> Any:
        if data.__class__ in (int, float) and data.__class__ in types:
            return data  # An integer would fit a float as well.
        fits: list[tuple[int, Any]] = []
        for type_ in types:
            try:
                made = _convert(data, type_)
                again: Any = msgspec.to_builtins(made, enc_hook=_to_builtin, str_keys=True)
            except Exception:  # noqa: BLE001, S112 - a model's own code may raise anything
                continue
            unknown: set[str] = set()
            if isinstance(data, dict) and isinstance(again, dict):
                unknown = {str(each) for each in cast("Any", data)} - {*cast("Any", again)}
            fits.append((len(unknown), made))
        if not fits:
            raise ValueError(f"Expected `{name}`, got {_brief(cast('Any', data))}")
        least, best = min(fits, key=lambda each: each[0])
        others = [made for unknown, made in fits if unknown == least]
        if any(each.__class__ is not best.__class__ or each != best for each in others):
            raise ValueError(
                f"It fits more than one of `{name}`; give each a field that tells them apart, such as "
                '`kind: Literal["card"]`'
            )
        return best

    return _stand_in(load)


def _enum(cls: type[Enum]) -> Any:
    """An enum whose values are neither all text nor all integers."""

    def load(data: Any) -> Any:
        for each in cls:
            if _pack(each.value) == _pack(data):
                return each
        raise ValueError(f"Invalid enum value {_brief(data)}")

    return _stand_in(load)


def _inner(type_: Any) -> Any:
    """What stands behind Annotated, Required, NotRequired, a NewType or `type X = …`."""
    if get_origin(type_) in (typing.Annotated, typing.Required, typing.NotRequired):
        return get_args(type_)[0]
    if isinstance(type_, type):
        return type_
    return getattr(type_, "__supertype__", None) or getattr(type_, "__value__", type_)


def _keys(cls: Any) -> dict[str, str] | None:
    """The fields of a class, by their names in the payload; None for what has no fields of its own."""
    if typing.is_typeddict(cls):
        return {name: name for name in cls.__annotations__}
    config = getattr(cls, "__struct_config__", None)
    if config is not None and config.tag is None and not config.array_like:
        return dict(zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True))
    if isinstance(cls, type) and dataclasses.is_dataclass(cls):
        return {each.name: each.name for each in dataclasses.fields(cls) if each.init}
    return None


def _convert(data: Any, type_: Any, key: str = "") -> Any:
    """Decoded data to a type, within another decoding."""
    try:
        # In JSON all keys are text, whatever their type.
        return msgspec.convert(data, type_, dec_hook=_from_builtin, str_keys=True)
    except msgspec.ValidationError as error:
        # As a plain error it gets the outer path, so that both are told.
        inner = f"`…{'.' + key if key else ''}"
        text = str(error).replace("`$", inner)
        raise ValueError(text if inner in text or not key else f"{text} - at {inner}`") from None


def _problem(type_: Any) -> str | None:
    """Why msgspec, with the two hooks, cannot decode a type; None if it can."""
    try:
        msgspec.json.Decoder(type_, dec_hook=_from_builtin)
        msgspec.msgpack.Decoder(type_, dec_hook=_from_builtin)
        todo: list[Any] = []
        with suppress(TypeError):  # Of msgspec 0.19, for Literal["a", 1].
            todo.append(type_info(type_))
    except NameError as error:
        raise UsageError(
            f"type {_name(type_)}: an annotation names {error.name!r}, which cannot be found at run "
            "time; define it at the top of a module, and import it outside `if TYPE_CHECKING`"
        ) from None
    except Exception as error:  # noqa: BLE001 - annotations are code, and may raise anything
        return f"{error}. Let a dataclass hold the alternatives, or give msgspec Structs tags"
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if isinstance(each, tuple):
            todo += cast("tuple[Any, ...]", each)
        elif isinstance(each, CustomType):
            if not _is_known(each.cls):
                return _unstorable(each.cls)
        elif isinstance(each, Type | Field) and id(each) not in seen:
            seen.add(id(each))
            names = each.__struct_fields__
            todo += [getattr(each, name) for name in names if not name.startswith("default")]
    return None


def _unstorable(cls: type) -> str:
    name = cls.__qualname__
    return f"{name} cannot be stored; use a dataclass, Struct, pydantic model or plain data"


def _refusal(value: Any, error: Exception, write: Callable[[Any], object]) -> EncodingError:
    """What to tell about a value that cannot be written, with the path to the part that is to blame."""
    path = ""
    parts = iter(_parts(value))
    while not isinstance(error, RecursionError) and (found := next(parts, None)):
        name, part = found
        try:
            write(part)
        except Exception as deeper:  # noqa: BLE001 - see `encode`
            path += f"[{_brief(name)}]" if isinstance(value, _CONTAINERS) else f".{name}"
            value, error, parts = part, deeper, iter(_parts(part))
    reason = str(error)
    if isinstance(error, UnicodeEncodeError):
        reason = f"{error.reason}: it is no valid Unicode; pass it as bytes"
    elif isinstance(error, OverflowError):
        reason = f"{error}; use the JSON format, or pass it as a str"
    elif isinstance(error, RecursionError):
        reason = "nested too deep, or in itself"
    return EncodingError(f"cannot encode {_brief(value)}{path and f' at `{path}`'}: {reason}")


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value).items()
    if isinstance(value, _CONTAINERS):
        return enumerate(cast("Iterable[Any]", value))
    names = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", ())
    return [(name, getattr(value, name, None)) for name in names]


_name: Callable[[Any], str] = inspect.formatannotation
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


def _brief(value: object) -> str:
    """Short and never failing, however large or broken the value is."""
    try:
        return _repr.repr(value)
    except Exception:  # noqa: BLE001 - integers of thousands of digits have no repr
        return f"a value of type {value.__class__.__name__}"
