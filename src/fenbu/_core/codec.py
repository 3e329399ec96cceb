"""Values ⇄ payloads, by type: JSON text that people can read, or MessagePack, through msgspec.

Invariant: a value either comes back equal or is refused with an `EncodingError`; nothing becomes null or a
mask on the way. msgspec does nearly all. What it refuses (a union of two dataclasses, of text and
datetime, of two models) gets a *form*: members are tagged, `{"Card": {…}}`, and a stand-in type carries
them through msgspec. Only types that need one pay for it.

Absent: pickle, and any import of pydantic; its models are known by what they can do.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import reprlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import PurePath
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    LiteralString,
    NamedTuple,
    Never,
    NoReturn,
    NotRequired,
    Protocol,
    Required,
    Union,  # pyright: ignore[reportDeprecated]
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec
from msgspec import UNSET, Struct, ValidationError

from fenbu._core import limit
from fenbu._core.model import Payload
from fenbu.errors import EncodingError, UsageError


class CodecHook(Protocol):
    """Transforms encoded payloads on their way to the database and back: compression, encryption."""

    def encode(self, data: bytes) -> bytes:
        """What to store for `data`."""
        ...

    def decode(self, data: bytes) -> bytes:
        """What `encode` was given."""
        ...


class Codec:
    """How one app stores values; `of` gives the codec of a type.

    It reads both formats whichever it writes, so that the format of a database can be changed.
    """

    def __init__(
        self,
        *,
        format: Literal["json", "msgpack"] = "json",  # noqa: A002
        hook: CodecHook | None = None,
    ) -> None:
        if format not in ("json", "msgpack"):
            raise UsageError(f"codec must be 'json' or 'msgpack', not {format!r}")
        self.format = format
        self.hook = hook
        encoder = msgspec.json.Encoder if format == "json" else msgspec.msgpack.Encoder
        self.write: Callable[[Any], bytes] = encoder(enc_hook=_to_builtin).encode
        self._types: dict[Any, TypeCodec] = {}

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

    __slots__ = ("_codec", "_is_json", "_is_text", "_json", "_lower", "_msgpack")

    def __init__(self, codec: Codec, type_: Any) -> None:
        self._codec = codec
        self._is_json = codec.format == "json"
        self._is_text = self._is_json and codec.hook is None
        form = _Forms().of(type_)
        self._lower = form.lower
        self._json: Any = msgspec.json.Decoder(form.type, dec_hook=_from_builtin)
        self._msgpack: Any = msgspec.msgpack.Decoder(form.type, dec_hook=_from_builtin)

    def encode(self, value: object) -> Payload:
        """The payload of a value.

        Raises:
            EncodingError: It cannot be encoded; it names the part that cannot.
        """
        codec = self._codec
        try:
            if self._lower is not None:
                value = self._lower(value)
            data = codec.write(value)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            raise _refusal(value, error, codec.write) from _cause(error)
        if len(data) > limit.PAYLOAD_BYTES_MAX:
            raise EncodingError(
                f"{len(data):,} bytes are more than a payload may have ({limit.PAYLOAD_BYTES_MAX:,}); "
                "store the data elsewhere and pass its name"
            )
        if self._is_text:
            text = data.decode()
            if "null" in text and value is not None:
                _refuse_nonfinite(value)
            return text
        if self._is_json:
            if b"null" in data and value is not None:
                _refuse_nonfinite(value)
            if len(data) == 1:
                data += b" "  # See `decode`.
        if codec.hook is None:
            return data
        try:
            return codec.hook.encode(data)
        except Exception as error:
            raise EncodingError(f"the codec's hook cannot encode: {_named(error)}") from error

    def decode(self, payload: Payload) -> Any:
        """The value of a payload.

        Raises:
            EncodingError: It does not fit the type.
        """
        try:
            if isinstance(payload, str):
                return self._json.decode(payload)
            hook = self._codec.hook
            data = payload if hook is None else hook.decode(payload)
            # A first byte below 0x80 is an integer in MessagePack, and alone; JSON is never one byte.
            if len(data) > 1 and data[0] < 0x80:
                return self._json.decode(data)
            return self._msgpack.decode(data)
        except msgspec.DecodeError as error:
            raise EncodingError(str(error)) from _cause(error)
        except Exception as error:
            # What a hook, or a type's own code, says.
            raise EncodingError(_named(error)) from error

    def check(self, value: object) -> Payload:
        """Like `encode`, and also that the value fits the type.

        Raises:
            EncodingError: It cannot be encoded, or does not fit.
        """
        payload = self.encode(value)
        self.decode(payload)
        return payload


# What msgspec does not know, and what it gets wrong -----------------------------------------------------


def _to_builtin(value: Any) -> Any:
    """What msgspec writes for a value that it does not know."""
    if _is_model(value.__class__):
        return _dump(value)
    # Subclasses: numpy's floats, Django's safe strings, users' own.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, PurePath) or value.__class__.__module__ == "ipaddress":
        return str(value)
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(cast("Iterable[Any]", value))
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(_unstorable(value.__class__))


def _from_builtin(type_: Any, data: Any) -> Any:
    """The inverse of `_to_builtin`, for the type that is wanted."""
    load = getattr(type_, "__fenbu_load__", None)
    if load is not None:
        return load(data)
    cls = get_origin(type_) or type_
    if _is_model(cls):
        return _validate(type_, data)
    as_builtin = _CONTAINERS.get(cls)
    if as_builtin is not None:
        # The parameters stand on the alias, which msgspec leaves to this hook.
        return _build(
            cls, _convert(data, as_builtin[get_args(type_)] if get_args(type_) else as_builtin)
        )
    if cls is object:
        return data
    for base in (str, int, float):
        if issubclass(cls, base) and isinstance(data, base):
            return cls(data)
    if isinstance(data, str):  # The others that `_is_known` lets pass are written as text.
        return cls(data)
    raise ValueError(f"Expected `{_name(type_)}`, got `{_kind(data)}`")


_CONTAINERS: dict[Any, Any] = {Iterable: list, deque: list, OrderedDict: dict, Counter: dict}


def _build(cls: Any, data: Any) -> Any:
    return data if cls is Iterable else cls(data)


def _is_known(cls: Any) -> bool:
    """Whether the two functions above serve a class that msgspec does not know."""
    return (
        cls is object
        or cls in _CONTAINERS
        or _is_model(cls)
        or hasattr(cls, "__fenbu_load__")
        or issubclass(cls, (PurePath, str, int, float))
        or cls.__module__ == "ipaddress"
    )


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
    options = {"by_alias": True, "by_name": True} if _has_by_name(cls) else {}
    try:
        return cls.model_validate(data, **options)
    except ValueError:
        # A strict field takes a date as text only where it knows that the source is JSON.
        try:
            return cls.model_validate_json(msgspec.json.encode(data), **options)
        except ValueError:
            pass
        raise


_MASK = b"**********"


def _refuse_lost(value: Any, dumped: Any) -> None:
    """Pydantic masks secrets, and writes null for a NaN in a field of type Any: never let that pass."""
    if dumped is None and isinstance(value, float):
        raise EncodingError(f"{value} would be stored as null; declare the field as a float")
    if dumped == _MASK.decode() and hasattr(value, "get_secret_value"):
        raise EncodingError(
            "a secret would be stored masked; pass the name under which to look it up, or give the field "
            "a serializer that reveals it (and the codec a hook that encrypts)"
        )
    if isinstance(value, Mapping) and isinstance(dumped, dict):
        pairs = zip(value.values(), dumped.values(), strict=False)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    elif isinstance(value, list | tuple | set | frozenset) and isinstance(dumped, list):
        pairs = zip(value, dumped, strict=False)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    else:
        return
    for each in pairs:
        _refuse_lost(*each)


_pack = msgspec.msgpack.Encoder(enc_hook=_to_builtin).encode
_NONFINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def _refuse_nonfinite(value: object) -> None:
    """JSON has no NaN and no infinity, and msgspec writes null for them: never let that pass silently.

    MessagePack has them, so its bytes tell quickly that there is none; they may only seem to be one.
    """
    try:
        if _NONFINITE.search(_pack(value)) is None:
            return
    except OverflowError:  # Beyond 64 bits, which JSON can do.
        pass
    todo: list[Any] = [msgspec.to_builtins(value, enc_hook=_to_builtin)]
    while todo:
        each = todo.pop()
        if isinstance(each, float) and not math.isfinite(each):
            raise EncodingError(
                f"cannot encode {each}: JSON has no such number; use None, or the MessagePack format"
            )
        if isinstance(each, dict):
            todo.extend(each.values())  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(each, list | tuple):
            todo.extend(each)  # pyright: ignore[reportUnknownArgumentType]


# Forms: stand-ins for types that msgspec refuses --------------------------------------------------------


class _Form(NamedTuple):
    type: Any
    """What msgspec decodes."""
    lower: Callable[[Any], Any] | None
    """From a value to what msgspec encodes; None: it encodes the value itself."""


class _AnyInstance(type):
    """msgspec checks what a decoding hook returns; a stand-in returns what it stands for."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def _stand_in(load: Callable[[Any], Any]) -> Any:
    return _AnyInstance("StandIn", (), {"__fenbu_load__": staticmethod(load)})


def _lowered(form: _Form, value: Any) -> Any:
    return value if form.lower is None else form.lower(value)


class _Field(NamedTuple):
    name: str
    """The attribute."""
    key: str
    """What it is called in the payload."""
    form: _Form
    required: bool


class _Forms:
    """Makes the form of one type."""

    def __init__(self) -> None:
        self._records: dict[Any, _Form] = {}
        """Those made or being made, because a class may contain itself."""

    def of(self, type_: Any) -> _Form:
        """The form of a type.

        Raises:
            UsageError: It can have none.
        """
        if type_ in (NoReturn, Never):
            return _Form(None, None)
        if type_ is LiteralString:
            return _Form(str, None)
        problem = _problem(type_)
        if problem is None:
            return _Form(type_, None)
        origin, args = get_origin(type_), get_args(type_)
        if origin is Annotated:
            inner = self.of(args[0])
            return _Form(Annotated[(inner.type, *args[1:])], inner.lower)  # pyright: ignore[reportInvalidTypeArguments]
        if origin in (Union, UnionType):  # pyright: ignore[reportDeprecated]
            return self._union(args)
        if isinstance(type_, type) and issubclass(type_, Enum):
            return _enum(type_)
        supertype = getattr(type_, "__supertype__", None) or getattr(type_, "__value__", None)
        if supertype is not None and not isinstance(type_, type):  # NewType and `type X = …`.
            return self.of(supertype)
        if _is_record(type_):
            return self._record(type_)
        if isinstance(origin, type) and args and origin is not type:
            return self._container(type_, origin, args, problem)
        raise UsageError(f"type {_name(type_)}: {problem}")

    def _union(self, args: tuple[Any, ...]) -> _Form:
        members = [each for each in args if each is not type(None)]
        forms = [self.of(each) for each in members]
        classes = [_class_of(each) for each in members]
        names = [each.__name__ for each in classes]
        tags: dict[str, int] = {}
        by_class: dict[type, tuple[str | None, _Form]] = {}
        for index, cls in enumerate(classes):
            tag = names[index]
            if names.count(tag) > 1:
                tag = f"{cls.__module__}.{cls.__qualname__}"
            if classes.count(cls) > 1:
                # Such as list[int] | list[str]: the value's class does not tell which; see `load`.
                by_class[cls] = (None, _Form(None, None))
            else:
                by_class[cls] = (tag, forms[index])
                tags[tag] = index

        def lower(value: Any) -> Any:
            tag, form = _member(by_class, value)
            return _lowered(form, value) if tag is None else {tag: _lowered(form, value)}

        def load(data: Any) -> Any:
            if isinstance(data, dict) and len(cast("dict[Any, Any]", data)) == 1:
                ((tag, inner),) = cast("dict[Any, Any]", data).items()
                if tag in tags:
                    return _convert(inner, forms[tags[tag]].type)
            # Written by somebody who does not know the type: a signal, a command line, an older version.
            fits: list[Any] = []
            for form, cls in zip(forms, classes, strict=True):
                try:
                    fits.append(_convert(data, form.type))
                except Exception:  # noqa: BLE001, S112 - a model's own code may raise anything
                    continue
                if data.__class__ is cls and classes.count(cls) == 1:
                    return fits[-1]  # A text is a str before it is a date.
            if not fits:
                expected = " | ".join(map(_name, members))
                raise ValueError(f"Expected `{expected}`, got `{_kind(data)}`")
            if any(each.__class__ is not fits[0].__class__ or each != fits[0] for each in fits):
                example = next(iter(tags), "")
                raise ValueError(
                    f"It fits several of `{' | '.join(map(_name, members))}`"
                    + (
                        f'; tag it, such as {{"{example}": …}}'
                        if tags
                        else "; use a dataclass for each"
                    )
                )
            return fits[0]

        stand_in = _stand_in(load)
        return _Form(stand_in if len(members) == len(args) else stand_in | None, lower)

    def _record(self, cls: Any) -> _Form:
        """A class with fields, of which some need a form."""
        found = self._records.get(cls)
        if found is not None:
            return found
        fields: list[_Field] = []
        proxies: list[Any] = []
        is_tuple = issubclass(cls, tuple)

        def lower(value: Any) -> Any:
            if isinstance(value, dict):  # A TypedDict, or fields that are no instance yet.
                given = cast("dict[str, Any]", value)
                by_key = {each.key: each.form for each in fields}
                return {k: _lowered(by_key[k], v) if k in by_key else v for k, v in given.items()}
            if not isinstance(value, cls):
                return value
            parts = [(each.key, _lowered(each.form, getattr(value, each.name))) for each in fields]
            return [part for _, part in parts] if is_tuple else dict(parts)

        def load(data: Any) -> Any:
            values = msgspec.structs.astuple(_convert(data, proxies[0]))
            named = {
                field.name: value
                for field, value in zip(fields, values, strict=True)
                if value is not UNSET
            }
            return named if is_typeddict(cls) else cls(**named)

        form = self._records[cls] = _Form(_stand_in(load), lower)
        fields += [
            _Field(name, key, self.of(hint), required) for name, key, hint, required in _fields(cls)
        ]
        proxies.append(
            msgspec.defstruct(
                cls.__name__,
                [
                    (f"p{index}", each.form.type, msgspec.NODEFAULT if each.required else UNSET)
                    for index, each in enumerate(fields)
                ],
                rename={f"p{index}": each.key for index, each in enumerate(fields)},
                kw_only=True,
                array_like=is_tuple,
            )
        )
        return form

    def _container(self, type_: Any, origin: Any, args: tuple[Any, ...], problem: str) -> _Form:
        is_mapping = issubclass(origin, Mapping)
        is_fixed = origin is tuple and ... not in args
        if not (is_mapping or issubclass(origin, Iterable)) or _is_record(origin):
            raise UsageError(f"type {_name(type_)}: {problem}")
        forms = [self.of(each) for each in args if each is not ...]
        types = tuple(each.type for each in forms)
        changed = origin[types if ... not in args else (*types, ...)]
        if _problem(changed) is not None:
            raise UsageError(f"type {_name(type_)}: {problem}")

        def lower(value: Any) -> Any:
            if isinstance(value, Mapping) is not is_mapping or isinstance(value, str | bytes):
                return value
            if is_mapping:
                key, item = forms
                return {_lowered(key, k): _lowered(item, v) for k, v in value.items()}
            if is_fixed and len(value) == len(forms):
                return [_lowered(form, v) for form, v in zip(forms, value, strict=True)]
            return [_lowered(forms[0], v) for v in value]

        return _Form(changed, lower)


def _enum(cls: type[Enum]) -> _Form:
    """An enum whose values are neither all text nor all integers: by its names."""

    def lower(value: Any) -> Any:
        return value.name if isinstance(value, cls) else value

    def load(data: Any) -> Any:
        if isinstance(data, str) and data in cls.__members__:
            return cls[data]
        return cls(data)  # Written by somebody who does not know the type.

    return _Form(_stand_in(load), lower)


def _member(by_class: dict[type, tuple[str | None, _Form]], value: Any) -> tuple[str | None, _Form]:
    """The tag and form of the union's member that a value belongs to; neither if to none."""
    for cls in value.__class__.__mro__:
        if cls in by_class:
            return by_class[cls]
    for cls, found in by_class.items():
        if isinstance(value, cls):  # An abstract class, such as Mapping.
            return found
    return None, _Form(None, None)


def _class_of(type_: Any) -> type:
    """The class of the values of a type."""
    origin, args = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return _class_of(args[0])
    if origin is Literal:
        return args[0].__class__
    inner = getattr(type_, "__supertype__", None) or getattr(type_, "__value__", None)
    if inner is not None and not isinstance(type_, type):
        return _class_of(inner)
    if is_typeddict(type_):
        return dict
    cls = origin or type_
    return cls if isinstance(cls, type) else object


def _is_record(cls: Any) -> bool:
    """Whether it is a class whose fields msgspec reads. A tagged Struct is refused for another reason."""
    if not isinstance(cls, type):
        return False
    if issubclass(cls, Struct):
        config = cls.__struct_config__
        return config.tag is None and not config.array_like
    is_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
    return dataclasses.is_dataclass(cls) or is_typeddict(cls) or is_tuple


def _fields(cls: Any) -> Iterator[tuple[str, str, Any, bool]]:
    """(name, name in the payload, type, required) of each field of a record."""
    if issubclass(cls, Struct):
        for each in msgspec.structs.fields(cls):
            yield each.name, each.encode_name, each.type, each.required
        return
    hints = get_type_hints(cls, include_extras=True)
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        for field in dataclasses.fields(cls):
            if field.init:
                required = field.default is missing and field.default_factory is missing
                yield field.name, field.name, hints[field.name], required
    elif is_typeddict(cls):
        for name, hint in hints.items():
            plain = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
            yield name, name, plain, name in cls.__required_keys__
    else:
        for name in cls._fields:
            yield name, name, hints[name], name not in cls._field_defaults


def _convert(data: Any, type_: Any) -> Any:
    """Decoded data to a type, within another decoding."""
    try:
        # In JSON all keys are text, whatever their type.
        return msgspec.convert(data, type_, dec_hook=_from_builtin, str_keys=True)
    except ValidationError as error:
        # As a plain error it gets the outer path, so that both are told.
        raise ValueError(str(error).replace("`$", "`…")) from error.__cause__


def _problem(type_: Any) -> str | None:
    """Why msgspec, with the two hooks, cannot decode a type; None if it can."""
    try:
        msgspec.json.Decoder(type_, dec_hook=_from_builtin)
        msgspec.msgpack.Decoder(type_, dec_hook=_from_builtin)
        todo: list[Any] = [msgspec.inspect.type_info(type_)]
    except NameError as error:
        return (
            f"an annotation names {error.name!r}, which cannot be found at run time; define it at the top "
            "of a module, and import it outside `if TYPE_CHECKING`"
        )
    except Exception as error:  # noqa: BLE001 - annotations are code, and may raise anything
        return (
            f"msgspec says: {error}. Let a dataclass or model hold the alternatives, and give msgspec "
            "Structs tags"
        )
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if isinstance(each, tuple):
            todo += cast("tuple[Any, ...]", each)
        elif isinstance(each, msgspec.inspect.CustomType):
            if not _is_known(each.cls):
                return _unstorable(each.cls)
        elif (
            isinstance(each, msgspec.inspect.Type | msgspec.inspect.Field) and id(each) not in seen
        ):
            seen.add(id(each))
            names = each.__struct_fields__
            todo += [getattr(each, name) for name in names if not name.startswith("default")]
    return None


# Words --------------------------------------------------------------------------------------------------


def _unstorable(cls: type) -> str:
    return (
        f"{cls.__qualname__} is not a type that can be stored; use a dataclass, a msgspec Struct, a "
        "pydantic model, or plain data"
    )


def _refusal(value: Any, error: Exception, write: Callable[[Any], object]) -> EncodingError:
    """What to tell about a value that cannot be written, with the path to the part that is to blame."""
    if isinstance(error, RecursionError):
        return EncodingError(f"cannot encode {_brief(value)}: nested too deep, or in itself")
    path = ""
    for _ in range(50):
        for step, part in _parts(value):
            try:
                write(part)
            except Exception as deeper:  # noqa: BLE001 - see `encode`
                path, value, error = path + step, part, deeper
                break
        else:
            break
    reason = (
        str(error)
        if isinstance(error, (TypeError, OverflowError, EncodingError))
        else _named(error)
    )
    if isinstance(error, UnicodeEncodeError):
        reason = f"{error.reason}: it is no valid Unicode; pass it as bytes"
    elif isinstance(error, OverflowError):
        reason += "; use the JSON format, or pass it as a str"
    elif reason.startswith("Only dicts"):
        reason += "; use a list of pairs, or a dataclass for each"
    where = f" at `{path}`" if path else ""
    return EncodingError(f"cannot encode {_brief(value)}{where}: {reason}")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        given = cast("dict[Any, Any]", value)
        yield from ((f"[{_brief(key)}]", item) for key, item in given.items())
    elif isinstance(value, list | tuple | set | frozenset):
        items = cast("Iterable[Any]", value)
        yield from ((f"[{index}]", item) for index, item in enumerate(items))
    elif dataclasses.is_dataclass(value) or isinstance(value, Struct):
        names = getattr(value, "__struct_fields__", None) or value.__dataclass_fields__  # type: ignore[union-attr]
        yield from ((f".{name}", getattr(value, name, None)) for name in names)


def _cause(error: Exception) -> BaseException | None:
    """What to chain to: a user's own error, but not the ones of msgspec, whose text says all."""
    if isinstance(error, msgspec.DecodeError):
        return error.__cause__
    return (
        None
        if isinstance(error, TypeError | ValueError | OverflowError | RecursionError)
        else error
    )


def _named(error: BaseException) -> str:
    return f"{error.__class__.__name__}: {error}"


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


def _brief(value: object) -> str:
    """Short and never failing, however large or broken the value is."""
    return _repr.repr(value)


def _name(type_: Any) -> str:
    return inspect.formatannotation(type_)


def _kind(data: Any) -> str:
    return "null" if data is None else data.__class__.__name__
