"""Values ⇄ payloads, by type: JSON text that people can read, or MessagePack, through msgspec.

Absent: pickle, and any import of pydantic; its models are known by what they can do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Literal, Protocol

import msgspec

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

    __slots__ = ("_codec", "_is_text", "_json", "_msgpack", "_type")

    def __init__(self, codec: Codec, type_: Any) -> None:
        self._codec = codec
        self._type = type_
        self._is_text = codec.format == "json" and codec.hook is None
        try:
            self._json: Any = msgspec.json.Decoder(type_, dec_hook=_from_builtin)
            self._msgpack: Any = msgspec.msgpack.Decoder(type_, dec_hook=_from_builtin)
        except (TypeError, ValueError, NameError) as error:
            raise UsageError(
                f"type {type_!r} cannot be decoded: {error}. In a union, give msgspec Structs tags, or "
                "let one dataclass or model hold the alternatives"
            ) from None

    def encode(self, value: object) -> Payload:
        """The payload of a value.

        Raises:
            EncodingError: It cannot be encoded.
        """
        codec = self._codec
        try:
            data: bytes = codec.write(value)
        except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
            raise EncodingError(f"cannot encode {_brief(value)}: {error}") from None
        except RecursionError:
            raise EncodingError(
                f"cannot encode {_brief(value)}: nested too deep, or in itself"
            ) from None
        if len(data) > limit.PAYLOAD_BYTES_MAX:
            raise EncodingError(
                f"{len(data):,} bytes are more than a payload may have ({limit.PAYLOAD_BYTES_MAX:,}); "
                "store the data elsewhere and pass its name"
            )
        if self._is_text:
            text = data.decode()
            if "null" in text:
                _refuse_nonfinite(value)
            return text
        if codec.format == "json" and b"null" in data:
            _refuse_nonfinite(value)
        return data if codec.hook is None else codec.hook.encode(data)

    def decode(self, payload: Payload) -> Any:
        """The value of a payload.

        Raises:
            EncodingError: It does not fit the type.
        """
        try:
            if isinstance(payload, str):
                return self._json.decode(payload)
            hook = self._codec.hook
            if hook is None:
                return self._msgpack.decode(payload)
            data = hook.decode(payload)
            decoder = self._json if self._codec.format == "json" else self._msgpack
            return decoder.decode(data)
        except msgspec.DecodeError as error:
            raise EncodingError(str(error)) from None
        except (ValueError, TypeError, RecursionError) as error:
            # What a model's own validation, or a hook, says.
            raise EncodingError(f"{type(error).__name__}: {error}") from error


def _to_builtin(value: Any) -> Any:
    """What msgspec does not know by itself."""
    dump = getattr(value, "model_dump", None)
    if dump is not None and hasattr(value, "__pydantic_core_schema__"):
        return dump(mode="json")
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(
        f"{type(value).__qualname__} is not a type that can be stored; use a dataclass, a msgspec Struct, "
        "a pydantic model, or plain data"
    )


def _from_builtin(type_: Any, data: Any) -> Any:
    """The inverse of `_to_builtin`, for the type that is wanted."""
    validate = getattr(type_, "model_validate", None)
    if validate is not None:
        return validate(data)
    if isinstance(type_, type):
        if issubclass(type_, PurePath) and isinstance(data, str):
            return type_(data)
        if isinstance(data, type_):
            return data
    raise TypeError(f"values of type {type_!r} cannot be decoded")


def _refuse_nonfinite(value: object) -> None:
    """JSON has no NaN and no infinity, and msgspec writes null for them: never let that pass silently."""
    todo: list[Any] = [msgspec.to_builtins(value, enc_hook=_to_builtin)]
    while todo:
        each = todo.pop()
        if isinstance(each, float) and not math.isfinite(each):
            raise EncodingError(f"cannot encode {each}: JSON has no such number")
        if isinstance(each, dict):
            todo.extend(each.values())  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(each, list | tuple):
            todo.extend(each)  # pyright: ignore[reportUnknownArgumentType]


def _brief(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not hide the error
        text = f"a {type(value).__qualname__}"
    return text if len(text) <= 80 else text[:77] + "…"
