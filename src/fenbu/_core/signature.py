"""A function's parameters and result as payloads: arguments are stored as one object, by parameter name.

Annotations are read at the first use and not at decoration, so that they may name what is defined later.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Union, get_type_hints  # pyright: ignore[reportDeprecated]

import msgspec
from msgspec import UNSET, UnsetType

from fenbu._core.codec import Codec, TypeCodec
from fenbu._core.model import Payload
from fenbu.errors import EncodingError, UsageError

_VAR = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """What calls of one function need; `skip_first` leaves out an operation's `self`."""

    def __init__(
        self, function: Callable[..., Any], codec: Codec, *, skip_first: bool = False
    ) -> None:
        self._function = function
        self._codec = codec
        self._skip_first = skip_first

    @property
    def name(self) -> str:
        return getattr(self._function, "__qualname__", repr(self._function))

    @cached_property
    def _hints(self) -> dict[str, Any]:
        function = inspect.unwrap(self._function)
        while hasattr(function, "func"):  # functools.partial
            function = function.func
        if not inspect.isroutine(function) and not isinstance(function, type):
            function = getattr(function, "__call__", function)  # noqa: B004 - a callable object
        try:
            return get_type_hints(function, include_extras=True)
        except NameError as error:
            raise UsageError(
                f"{self.name}: an annotation names {error.name!r}, which cannot be found at run time; "
                "define it at the top of a module, and import it outside `if TYPE_CHECKING`"
            ) from None
        except TypeError:
            return {}

    @cached_property
    def _signature(self) -> inspect.Signature:
        try:
            signature = inspect.signature(self._function)
        except ValueError:
            # Some functions written in C do not say what they take.
            rest = inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)
            return inspect.Signature([rest])
        parameters = list(signature.parameters.values())
        return signature.replace(parameters=parameters[1:] if self._skip_first else parameters)

    @cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(self._signature.parameters.values())

    @cached_property
    def _plain(self) -> tuple[tuple[str, ...], int] | None:
        """(names, how many are required) where all can be given by position, else None."""
        kinds = {each.kind for each in self._parameters}
        if kinds - {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}:
            return None
        required = sum(each.default is inspect.Parameter.empty for each in self._parameters)
        return tuple(each.name for each in self._parameters), required

    def _type(self, parameter: inspect.Parameter) -> Any:
        hint = self._hints.get(parameter.name, Any)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return tuple[hint, ...]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return dict[str, hint]
        return hint

    @cached_property
    def _arguments(self) -> TypeCodec:
        """The codec of the object that holds the arguments: a struct with a field for each parameter.

        Fields are named p0, p1, … inside, because a parameter may have a name that a field cannot have.
        """
        fields: list[tuple[str, Any, Any]] = []
        names: dict[str, str] = {}
        for index, parameter in enumerate(self._parameters):
            type_ = self._type(parameter)
            try:
                self._codec.of(type_)
            except UsageError as error:
                raise UsageError(f"{self.name}({parameter.name}): {error}") from None
            optional = parameter.kind in _VAR or parameter.default is not inspect.Parameter.empty
            annotated = _or_unset(type_) if optional else type_
            default: Any = UNSET if optional else msgspec.NODEFAULT
            fields.append((f"p{index}", annotated, msgspec.field(default=default)))
            names[f"p{index}"] = parameter.name
        struct = msgspec.defstruct("Arguments", fields, rename=names, kw_only=True)
        return self._codec.of(struct)

    @cached_property
    def result(self) -> TypeCodec:
        """The codec of what the function returns."""
        try:
            return self._codec.of(self._hints.get("return", Any))
        except UsageError as error:
            raise UsageError(f"{self.name}, result: {error}") from None

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
        """The arguments as a payload. Those left to their default are not in it.

        Raises:
            UsageError: They do not fit the parameters, in number or name.
            EncodingError: A value cannot be encoded; it names the parameter.
        """
        plain = self._plain
        if plain is not None and not kwargs and plain[1] <= len(args) <= len(plain[0]):
            named = dict(zip(plain[0], args, strict=False))
        else:
            try:
                named = self._signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise UsageError(f"{self.name}{self._signature}: {error}") from None
        try:
            return self._arguments.encode(named)
        except EncodingError as error:
            for name, value in named.items():
                try:
                    self._arguments.encode(value)
                except EncodingError as culprit:
                    raise EncodingError(f"{self.name}({name}=…): {culprit}") from None
            raise EncodingError(f"{self.name}: {error}") from None

    def decode(self, payload: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a payload, decoded by the annotations.

        Raises:
            EncodingError: They do not fit; it names the parameter.
        """
        try:
            values = msgspec.structs.astuple(self._arguments.decode(payload))
        except EncodingError as error:
            raise EncodingError(f"{self.name}: {_readable(str(error))}") from None
        if self._plain is not None and not any(each is UNSET for each in values):
            return values, {}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        skipped = False
        for parameter, value in zip(self._parameters, values, strict=True):
            if value is UNSET:
                skipped = True
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is inspect.Parameter.KEYWORD_ONLY or skipped:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return tuple(args), kwargs

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
        """Like `encode`, and also that the values fit the annotations.

        Raises:
            UsageError: They do not fit the parameters, in number or name.
            EncodingError: A value cannot be encoded or has the wrong type; it names the parameter.
        """
        payload = self.encode(args, kwargs)
        self.decode(payload)
        return payload

    # For people who write arguments as text.

    def parameters(self) -> list[tuple[str, str, bool]]:
        """(name, type, required) of each parameter."""
        return [
            (
                each.name,
                inspect.formatannotation(self._hints.get(each.name, Any)),
                each.default is inspect.Parameter.empty and each.kind not in _VAR,
            )
            for each in self._parameters
        ]

    def from_json(self, values: Sequence[str], named: Mapping[str, str]) -> Payload:
        """Arguments from a command line: each is JSON of the parameter's type, or else a plain text.

        Raises:
            UsageError: They do not fit the parameters; it says what was expected.
        """
        try:
            bound = self._signature.bind(*values, **named)
        except TypeError as error:
            raise UsageError(f"{self.name}{self._signature}: {error}") from None
        by_name = {each.name: each for each in self._parameters}
        for name, text in bound.arguments.items():
            parameter = by_name[name]
            hint = self._hints.get(name, Any)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(self._parse(name, hint, each) for each in text)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                parsed = {key: self._parse(key, hint, each) for key, each in text.items()}
                bound.arguments[name] = parsed
            else:
                bound.arguments[name] = self._parse(name, hint, text)
        return self.check(bound.args, bound.kwargs)

    def _parse(self, name: str, hint: Any, text: str) -> Any:
        codec = self._codec.of(hint)
        try:
            return codec.decode(text)
        except EncodingError as error:
            try:
                return codec.decode(msgspec.json.encode(text).decode())
            except EncodingError:
                expected = inspect.formatannotation(hint)
                raise UsageError(f"{self.name}: {name}={text} is no {expected}: {error}") from None


def _or_unset(type_: Any) -> Any:
    """`X | UnsetType` for annotations of every form, also those that have no `|`."""
    return Union[type_, UnsetType]  # noqa: UP007  # pyright: ignore[reportDeprecated]


def _readable(error: str) -> str:
    """The message of msgspec with the parameter's name where it writes a path."""
    return error.replace("`$.", "`").replace(" - at `", " at `")
