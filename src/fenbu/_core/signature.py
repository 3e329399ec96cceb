"""A function's parameters and result as payloads: arguments are stored as one object, by parameter name.

Annotations are read at the first use and not at decoration, so that they may name what is defined later.
Arguments that a payload has beyond the parameters are ignored: an older caller may still pass them.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import (
    Any,
    NamedTuple,
    ParamSpecArgs,
    ParamSpecKwargs,
    Unpack,
    get_args,
    get_origin,
)

import msgspec
from msgspec import UNSET

from fenbu._core.codec import Codec, TypeCodec
from fenbu._core.hint import hints_of
from fenbu._core.model import Payload
from fenbu._core.need import NAMED, Needed, needs_of
from fenbu.errors import EncodingError, PayloadTooLarge, PayloadUnreadable, UsageError

_EMPTY: Any = inspect.Parameter.empty
_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL = (_POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MORE = inspect.Parameter.VAR_POSITIONAL
_MORE_NAMED = inspect.Parameter.VAR_KEYWORD


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine."""
    call = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


class _Layout(NamedTuple):
    """What binding the usual calls needs to know, so that `inspect` is only asked about the others."""

    positional: tuple[str, ...]
    """The parameters that can be given by position."""
    named: frozenset[str]
    """Those that can be given by name."""
    required: frozenset[str]
    enough: int
    """So many by position leave nothing required."""
    is_plain: bool
    """All can be given by position."""
    takes_any_name: bool


class Signature:
    """What calls of one function need; `skip_first` leaves out an operation's `self`."""

    def __init__(
        self,
        function: Callable[..., Any],
        codec: Codec,
        *,
        skip_first: bool = False,
        is_code: bool = False,
    ) -> None:
        self._function = function
        self._is_code = is_code
        """Of a workflow or an operation."""
        self._codec = codec
        self._skip_first = skip_first

    @property
    def first(self) -> Any:
        """The annotation of the first parameter: `Any` without one, an error if it cannot be read."""
        name = next(iter(inspect.signature(self._function).parameters), "")
        return self._hints.get(name, Any)

    @property
    def name(self) -> str:
        function = self._function
        function = getattr(function, "func", function)  # functools.partial
        name: str = getattr(function, "__qualname__", "") or type(function).__qualname__
        return name.rpartition("<locals>.")[2]

    # What is read once.

    @cached_property
    def is_async(self) -> bool:
        """See the function of the same name."""
        return is_async(self._function)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return hints_of(self._function)

    @cached_property
    def _whole(self) -> inspect.Signature:
        """With what the node fills in."""
        try:
            signature = inspect.signature(self._function)
        except ValueError:
            # Some functions written in C do not say what they take.
            return inspect.Signature([inspect.Parameter("args", _MORE)])
        parameters = list(signature.parameters.values())
        return signature.replace(parameters=parameters[1:] if self._skip_first else parameters)

    @cached_property
    def needs(self) -> tuple[Needed, ...]:
        """The parameters that the node fills in.

        Raises:
            EncodingError: One of them cannot be filled in.
        """
        return needs_of(
            self._function, self._hints, self.name, lambda: self._whole, is_code=self._is_code
        )

    @cached_property
    def _signature(self) -> inspect.Signature:
        """What callers give."""
        if not self.needs:
            return self._whole
        filled = {each.name for each in self.needs}
        # Behind one that is left out, what follows can only be given by name.
        parameters: list[inspect.Parameter] = []
        is_behind = False
        for each in self._whole.parameters.values():
            if each.name in filled:
                is_behind = True
            elif is_behind and each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                parameters.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            else:
                parameters.append(each)
        return self._whole.replace(parameters=parameters)

    @cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(self._signature.parameters.values())

    @cached_property
    def _layout(self) -> _Layout:
        all_ = self._parameters
        required = [each.name for each in all_ if _is_required(each)]
        by_position = [each.name for each in all_ if each.kind in _POSITIONAL]
        return _Layout(
            tuple(by_position),
            frozenset(each.name for each in all_ if each.kind in NAMED),
            frozenset(required),
            len(required) if set(required) <= set(by_position) else len(all_) + 1,
            len(by_position) == len(all_),
            any(each.kind is _MORE_NAMED for each in all_),
        )

    def _type(self, parameter: inspect.Parameter) -> Any:
        """The type of what is stored for a parameter.

        Raises:
            UsageError: Its annotation cannot be read.
        """
        hint = self._hint(parameter.name)
        if isinstance(hint, ParamSpecArgs | ParamSpecKwargs):  # Of a decorator without `wraps`.
            hint = Any
        if get_origin(hint) is Unpack:
            return get_args(hint)[0]
        if parameter.kind is _MORE:
            return tuple[hint, ...]
        return dict[str, hint] if parameter.kind is _MORE_NAMED else hint

    def type_of(self, name: str) -> Any:
        """The annotation of a parameter; `Any` without one.

        Raises:
            UsageError: It cannot be read.
        """
        return self._hint(name)

    def _hint(self, name: str) -> Any:
        hint = self._hints.get(name, Any)
        if isinstance(hint, NameError):
            raise UsageError(
                f"{self.name}: the annotation of {name!r} names {hint.name!r}, which cannot be found at "
                "run time; define it at the top of a module, and import it outside `if TYPE_CHECKING`"
            )
        if isinstance(hint, Exception):
            raise UsageError(f"{self.name}: the annotation of {name!r} cannot be read: {hint}")
        return hint

    def _codec_of(self, parameter: inspect.Parameter) -> TypeCodec:
        type_ = self._type(parameter)
        try:
            return self._codec.of(type_)
        except UsageError as error:
            raise UsageError(f"{self.name}({parameter.name}): {error}") from None

    @cached_property
    def _arguments(self) -> TypeCodec:
        """The codec of the object that holds the arguments: a struct with a field for each parameter.

        Fields are named p0, p1, … inside, because a parameter may have a name that a field cannot have.
        """
        fields: list[tuple[str, Any, Any]] = []
        for index, each in enumerate(self._parameters):
            self._codec_of(each)  # Now, because it can name the parameter.
            default = msgspec.NODEFAULT if _is_required(each) else UNSET
            fields.append((f"p{index}", self._type(each), default))
        names = {f"p{index}": each.name for index, each in enumerate(self._parameters)}
        struct = msgspec.defstruct("Arguments", fields, rename=names, kw_only=True, gc=False)
        # Not through `of`, which would keep it for good.
        return TypeCodec(self._codec, struct)

    @cached_property
    def result(self) -> TypeCodec:
        """The codec of what the function returns.

        Raises:
            UsageError: The annotation cannot be read, or values of the type cannot be stored.
        """
        hint = self._hint("return")
        if get_origin(hint) in (Awaitable, Coroutine):
            hint = get_args(hint)[-1]
        try:
            return self._codec.of(hint)
        except UsageError as error:
            raise UsageError(f"{self.name}, result: {error}") from None

    # What is done for each call.

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
        """The arguments as a payload. Those left to their default are not in it.

        Raises:
            UsageError: They do not fit the parameters, in number or name.
            EncodingError: A value cannot be encoded; it names the parameter.
        """
        named = self._bind(args, kwargs)
        try:
            return self._arguments.encode(named)
        except PayloadTooLarge as error:
            largest = max(named, key=lambda name: self._codec.size(named[name]))
            rest = "" if len(named) == 1 else ", with the other arguments,"
            raise error.named(f"{self.name}({largest}=…){rest}") from None
        except EncodingError as error:
            for parameter in self._parameters:
                try:
                    self._codec_of(parameter).encode(named.get(parameter.name))
                except EncodingError as culprit:
                    text = f"{self.name}({parameter.name}=…): {culprit}"
                    raise EncodingError(text) from culprit.__cause__
            raise EncodingError(f"{self.name}: {error}") from error.__cause__

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        layout = self._layout
        if len(args) <= len(layout.positional):
            named = dict(zip(layout.positional, args, strict=False))
            if not kwargs:
                if len(args) >= layout.enough:
                    return named
            elif kwargs.keys() <= layout.named and named.keys().isdisjoint(kwargs):
                named.update(kwargs)
                if layout.required <= named.keys():
                    return named
        try:
            named = self._signature.bind(*args, **kwargs).arguments
            # Python 3.13.0 overlooks these two where a positional-only parameter is given by name.
            for name in layout.required - named.keys():
                raise TypeError(f"missing a required argument: {name!r}")
            for name in () if layout.takes_any_name else kwargs.keys() - layout.named:
                raise TypeError(f"got an unexpected keyword argument {name!r}")
        except TypeError as error:
            raise UsageError(f"{self.name}{self._signature}: {error}") from None
        return named

    def decode(self, payload: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a payload, decoded by the annotations.

        Raises:
            UsageError: The annotations cannot be read, or values of a type cannot be stored.
            EncodingError: The arguments do not fit; it names the parameter.
        """
        try:
            values = msgspec.structs.astuple(self._arguments.decode(payload))
        except EncodingError as error:
            kind = PayloadUnreadable if isinstance(error, PayloadUnreadable) else EncodingError
            raise kind(f"{self.name}: {_readable(str(error))}") from error.__cause__
        layout = self._layout
        if not layout.is_plain:
            return self._arrange(values)
        for index in range(layout.enough, len(values)):
            if values[index] is UNSET:
                if any(each is not UNSET for each in values[index:]):
                    return self._arrange(values)
                return values[:index], {}
        return values, {}

    def _arrange(self, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """By position as long as nothing is left out, then by name."""
        pairs = list(zip(self._parameters, values, strict=True))
        last = 0
        for index, (parameter, value) in enumerate(pairs):
            if value is not UNSET and parameter.kind in (_POSITIONAL_ONLY, _MORE):
                last = index
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        is_gap = False
        for index, (parameter, value) in enumerate(pairs):
            kind = parameter.kind
            if value is UNSET:
                if kind in _POSITIONAL and index < last:
                    args.append(parameter.default)  # What comes after it can only stand behind it.
                is_gap = True
            elif kind is _MORE:
                args.extend(value)
            elif kind is _MORE_NAMED:
                kwargs.update(value)
            elif kind in _POSITIONAL and (not is_gap or index <= last):
                args.append(value)
            else:
                kwargs[parameter.name] = value
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
            (each.name, inspect.formatannotation(self._hint(each.name)), _is_required(each))
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
        for parameter in self._parameters:
            name, hint = parameter.name, self._hint(parameter.name)
            given = bound.arguments.get(name, UNSET)
            if given is UNSET:
                continue
            if parameter.kind is _MORE:
                bound.arguments[name] = tuple(self._parse(name, hint, each) for each in given)
            elif parameter.kind is _MORE_NAMED:
                bound.arguments[name] = {k: self._parse(k, hint, v) for k, v in given.items()}
            else:
                bound.arguments[name] = self._parse(name, hint, given)
        return self.check(bound.args, bound.kwargs)

    def _parse(self, name: str, hint: Any, text: str) -> Any:
        codec = self._codec.of(hint)
        try:
            return codec.decode(text)
        except EncodingError as error:
            reason = error
        try:
            return codec.decode(msgspec.json.encode(text).decode())
        except EncodingError as error:
            if not _is_json(text):
                reason = error
        expected = inspect.formatannotation(hint)
        raise UsageError(f"{self.name}: {name}={text} is no {expected}: {reason}")


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is _EMPTY and parameter.kind not in (_MORE, _MORE_NAMED)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _readable(error: str) -> str:
    """The message of msgspec with the parameter's name where it writes a path."""
    reason, *paths = error.split(" - at `")
    if not paths:
        return error.replace("Object missing required field", "missing a required argument:")
    # Of types that msgspec refuses, each has a path of its own, the innermost first.
    path = "".join(each.rstrip("`").lstrip("$…") for each in reversed(paths))
    return f"{reason} at `{path.lstrip('.')}`"
