"""Lazy fields of entities, as a class declares them and as one operation sees them.

Each is a row of its own, which is read when an operation asks for it and written when one has set it. The
value that an operation sees does not stand in its journal, only that it saw it: as long as it has its turn,
nobody else changes the value, so a replay finds the same one in the row.
Guarantee: replay-same.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any, Final, Generic, TypeVar, cast, get_args, get_origin

from fenbu._core.codec import Codec, TypeCodec
from fenbu._core.model import Payload
from fenbu.errors import EncodingError, UsageError

T = TypeVar("T")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()

_EMPTY: Final = (bool, int, float, str, bytes, list, dict, set, frozenset, tuple)
"""Types that have an empty value."""


class LazyField(Generic[T]):
    """A lazy field of a class. It holds no value: one object serves all instances."""

    __slots__ = ("codec", "default", "entity", "initial", "name")

    def __init__(self, default: T = MISSING) -> None:
        self.default = default
        self.name = ""
        """Until its class is known."""
        self.entity = ""
        self.codec: TypeCodec
        self.initial: Payload = ""
        """The payload of the default."""


def is_lazy(hint: Any) -> bool:
    """Whether an annotation declares a lazy field."""
    cls = get_origin(hint) or hint
    return isinstance(cls, type) and issubclass(cls, LazyField)


def declare(cls: type[Any], entity: str, name: str, hint: Any, codec: Codec) -> LazyField[Any]:
    """The lazy field that a class annotates, which its instances find under its name from now on.

    Raises:
        UsageError: It has no default, or one that does not fit.
    """
    made: LazyField[Any] = (get_origin(hint) or hint)()
    type_ = (*get_args(hint), Any)[0]
    given: Any = getattr(cls, name, made)
    what = f"entity {entity}: lazy field {name!r}"
    if not isinstance(given, LazyField):
        raise UsageError(f"{what}: write its default as `= Lazy({given!r})`")
    default = cast("Any", given).default
    if default is MISSING:
        default = _empty(type_)
        if default is MISSING:
            raise UsageError(
                f"{what} needs a default, because its type has no empty value: write `= Lazy(…)`"
            )
    made.default, made.name, made.entity = default, name, entity
    made.codec = codec.of(type_)
    try:
        made.initial = made.codec.check(default)
    except EncodingError as error:
        raise UsageError(f"{what}: its default {default!r} does not fit: {error}") from None
    type.__setattr__(cls, name, made)
    return made


def _empty(type_: Any) -> Any:
    """The empty value of a type; MISSING if it has none."""
    origin: Any = get_origin(type_) or type_
    if NoneType in get_args(type_):
        return None
    if origin in (Any, None, NoneType):
        return None
    return cast("Any", origin()) if origin in _EMPTY else MISSING


class LazyValues:
    """What one operation knows of the lazy fields of its entity; `find` is for what else is in memory."""

    __slots__ = ("_find", "_own", "changes", "entity", "key", "read_only")

    def __init__(
        self, entity: str, key: str, find: Callable[[str], Payload | None], *, read_only: bool
    ) -> None:
        self.entity = entity
        self.key = key
        self.read_only = read_only
        self._find = find
        self._own: dict[str, Payload] = {}
        self.changes: dict[str, Payload] = {}
        """What it has set; it counts when the operation ends well."""

    def own(self, name: str) -> Payload | None:
        """What it has seen or set."""
        return self._own.get(name)

    def find(self, name: str) -> Payload | None:
        """That, or else what is in memory; None if it has to be read."""
        own = self._own.get(name)
        return self._find(name) if own is None else own

    def learn(self, name: str, payload: Payload | None = None) -> Payload:
        """It sees a value, by default what is in memory. What it has set in the meantime stays."""
        found = self.find(name) if payload is None else payload
        if found is None:
            raise AssertionError((self.entity, self.key, name))
        return self._own.setdefault(name, found)

    def set(self, name: str, payload: Payload) -> None:
        """It changes a field."""
        self._own[name] = self.changes[name] = payload
