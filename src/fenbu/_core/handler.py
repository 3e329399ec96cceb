"""What a node knows of user code: a HandlerSpec for each task, workflow and operation, and their Registry."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct

from fenbu._core import limit
from fenbu._core.codec import Codec, CodecHook
from fenbu._core.ids import partition_of
from fenbu._core.lazy import LazyField, declare, is_lazy
from fenbu._core.message import Call
from fenbu._core.middleware import Middleware
from fenbu._core.model import Invocation, Kind, Payload
from fenbu._core.need import Limits
from fenbu._core.retry import NO_RETRY, Retry
from fenbu._core.signature import Signature
from fenbu._core.topic import TopicSpec
from fenbu._core.work import Work
from fenbu.errors import EncodingError, PayloadTooLarge, PayloadUnreadable, UsageError


class HandlerSpec(Struct, kw_only=True, eq=False):
    """One registered function and its options; durations in seconds."""

    name: str
    kind: Kind
    function: Callable[..., Any]
    signature: Signature
    version: int = 1
    retry: Retry = NO_RETRY
    timeout_seconds: float | None = None
    """For the whole call, from its acceptance."""
    attempt_timeout_seconds: float | None = None
    limits: Limits | None = None
    retention_seconds: float = limit.RETENTION_SECONDS
    """How long the finished call is kept; 0 keeps nothing."""
    cpu: bool = False
    """Runs in the process pool."""
    read_only: bool = False
    reentrant: bool = False
    """It may run in the turn of an operation of its entity that waits for it."""
    entity: EntitySpec | None = None
    _work: Work | None = None

    @property
    def work(self) -> Work:
        """What a node runs, if it is a task."""
        if self._work is None:
            self._work = Work(
                self.name, self.function, self.signature.is_async, self.signature.result, self.retry,
                self.attempt_timeout_seconds, self.cpu, None, self.limits, self.signature.needs,
            )  # fmt: skip
        return self._work

    def coroutine(self, args: Payload, instance: Any = None) -> Coroutine[Any, Any, Any]:
        """The code of one workflow run, or of one operation on `instance`.

        Raises:
            EncodingError: The arguments do not fit the function as it is now.
        """
        positional, named = self.signature.decode(args)
        if instance is None:
            return self.function(*positional, **named)
        return self.function(instance, *positional, **named)


class EntitySpec:
    """The fields of an entity class, and how instances and stored states become each other."""

    def __init__(self, name: str, cls: type[Any], codec: Codec) -> None:
        self.name = name
        self.cls = cls
        self.version: int = getattr(cls, "__version__", 1)
        """Of the states that it writes."""
        self.reentrant = False
        """It has reentrant operations."""
        self.ttl_seconds: float | None = None
        """After so long without a change it is forgotten."""
        self.forget: HandlerSpec | None = None
        """The operation that does it."""
        self._codec = codec
        self._struct: type[Any] | None = None
        self._fields: tuple[str, ...] = ()
        self.lazy: dict[str, LazyField[Any]] = {}
        """Its lazy fields, once its annotations have been read."""

    def prepare(self, *, is_final: bool) -> None:
        """Find out whether instances can be made; unless it is final, names may come to be known later.

        Raises:
            UsageError: They cannot; it says what is wrong with the class.
        """
        if self._struct is not None:
            return
        try:
            self._build()
        except UsageError as error:
            if is_final or not isinstance(error.__context__, NameError):
                raise

    def _build(self) -> type[Any]:
        """Read the annotations: at registration, or later, if they name what is not there by then."""
        try:
            hints = get_type_hints(self.cls, include_extras=True)
        except NameError as error:
            raise UsageError(
                f"entity {self.name}: an annotation names {error.name!r}, which cannot be found at run "
                "time; define it at the top of a module, and import it outside `if TYPE_CHECKING`"
            ) from None
        fields: list[tuple[str, Any, Any]] = []
        for name, hint in hints.items():
            if name.startswith("_") or name == "key" or _is_class_variable(hint):
                continue
            if is_lazy(hint):
                self.lazy[name] = declare(self.cls, self.name, name, hint, self._codec)
                continue
            if not hasattr(self.cls, name):
                raise UsageError(
                    f"entity {self.name}: field {name!r} needs a default, because an entity begins to "
                    f"exist when it is first called: write `{name}: … = …`"
                )
            fields.append((name, hint, self._default(name)))
        self._fields = tuple(name for name, _, _ in fields)
        more = {"__getattr__": _no_attribute} if self.lazy else None
        struct: type[Any] = msgspec.defstruct(self.name, fields, kw_only=True, namespace=more)
        self._type = self._codec.of(struct)
        try:
            self.initial = self._type.check(struct())
        except EncodingError as error:
            raise UsageError(f"entity {self.name}: its defaults do not fit: {error}") from None
        self._struct = struct
        return struct

    def _default(self, name: str) -> Any:
        """The field's default, made anew each time where it can be changed in place."""
        default: Any = getattr(self.cls, name)
        if default.__class__ is dataclasses.Field:
            if default.default_factory is not dataclasses.MISSING:
                return msgspec.field(default_factory=default.default_factory)
            default = default.default
        if type(default) in (list, dict, set):
            return msgspec.field(default_factory=default.copy)
        return default

    def instance(self, key: str, state: Payload | None, version: int | None = None) -> Any:
        """An instance to run operations on; `state` None is an entity that does not exist yet.

        `version` is that of the state; None is the class's own.

        Raises:
            EncodingError: The state does not fit the class.
            UsageError: The class's `__upgrade__` failed, or the state is of a newer class.
        """
        fields = self.fields(key, state, version)
        # Calling the class makes a reference to an entity; this is the entity itself.
        made = object.__new__(self.cls)
        attributes = made.__dict__
        for name in self._fields:
            attributes[name] = getattr(fields, name)
        attributes["_key"] = key
        return made

    def fields(self, key: str, state: Payload | None, version: int | None = None) -> Any:
        """A state as a struct with the fields of the class, and nothing else. Raises what `instance` does."""
        if self._struct is None:
            self._build()
        try:
            if state is None:
                return self._type.decode(self.initial)
            if version is None or version == self.version:
                return self._type.decode(state)
            return self._type.decode(self._upgraded(key, state, version))
        except PayloadUnreadable as error:
            raise PayloadUnreadable(f"state of {self.name}({key!r}): {error}") from None
        except EncodingError as error:
            raise EncodingError(
                f"state of {self.name}({key!r}): {error}. A stored state of another shape needs a class with "
                "a higher `__version__` and an `__upgrade__`"
            ) from None

    def _upgraded(self, key: str, state: Payload, version: int) -> Payload:
        """A stored state of an older class as one of this class."""
        upgrade = getattr(self.cls, "__upgrade__", None)
        if version > self.version:
            raise UsageError(
                f"state of {self.name}({key!r}) has version {version}, and the class here has "
                f"{self.version}: deploy the newer one"
            )
        if upgrade is None:
            return state
        old = self._codec.of(dict[str, Any]).decode(state)
        try:
            new = upgrade(old, version)
            unknown = sorted(set(new) - set(self._fields) - self.lazy.keys())
        except Exception as error:
            raise UsageError(
                f"{self.name}.__upgrade__ from version {version} failed for the key {key!r} with "
                f"{type(error).__name__}: {error}"
            ) from error
        if unknown:
            raise UsageError(
                f"{self.name}.__upgrade__ from version {version} returned {', '.join(unknown)}, which the "
                "class does not declare: leave out what is to be forgotten"
            )
        return self._codec.of(dict[str, Any]).encode(new)

    def ordinary(self) -> set[str]:
        """The names of the fields that stand in the state. Raises what `instance` does."""
        if self._struct is None:
            self._build()
        return set(self._fields)

    def leftovers(self, key: str, state: Payload, version: int) -> dict[str, Payload]:
        """The values of lazy fields that a stored state has, because they were ordinary ones until now."""
        if version != self.version:
            state = self._upgraded(key, state, version)
        text = state if isinstance(state, bytes) else state.encode()
        if not any(name.encode() in text for name in self.lazy):
            return {}
        values = self._codec.of(dict[str, Any]).decode(state)
        anything = self._codec.of(Any)
        return {name: anything.encode(values[name]) for name in self.lazy if name in values}

    def with_field(self, state: Payload, name: str, value: Payload) -> Payload:
        """A stored state with a value that was in a row of its own, unless it has one."""
        values = self._codec.of(dict[str, Any])
        found = values.decode(state)
        found.setdefault(name, self._codec.of(Any).decode(value))
        return values.encode(found)

    def assign(self, instance: Any, state: Payload) -> None:
        """Give an instance the fields of a state that `encode` has made."""
        fields = self._type.decode(state)
        for name in self._fields:
            instance.__dict__[name] = getattr(fields, name)

    def encode(self, instance: Any) -> Payload:
        """The state to store.

        Raises:
            EncodingError: A field has a value that does not fit its type, or an attribute is no field.
        """
        attributes = instance.__dict__
        if len(attributes) != len(self._fields) + 1:
            extra = sorted(set(attributes) - set(self._fields) - {"_key"})
            for name in self.lazy.keys() & extra:
                raise EncodingError(
                    f"{self.name}.{name} is a lazy field: change it with `self.{name}.set(…)`"
                )
            raise EncodingError(
                f"{self.name}: {', '.join(extra) or 'a deleted field'} is not a declared field; state "
                "is what the class annotates, so declare it with a type and a default"
            )
        try:
            state = self._type.encode({name: attributes[name] for name in self._fields})
            self._type.decode(state)
        except PayloadTooLarge as error:
            field = max(self._fields, key=lambda name: self._codec.size(attributes[name]))
            what = f"the state of {self.name}/{attributes['_key']}, of which field {field} is the largest,"
            raise error.named(what) from None
        except EncodingError as error:
            raise EncodingError(f"state of {self.name}({attributes['_key']!r}): {error}") from None
        return state


def _no_attribute(state: Any, name: str) -> Any:
    """Of what stands for a state outside of operations."""
    raise AttributeError(
        f"{type(state).__name__!r} has no field {name!r} here: lazy fields are read by operations only"
    )


def _is_class_variable(hint: Any) -> bool:
    return "ClassVar" in str(hint)


class Standing(Struct, frozen=True):
    """A call that is to exist wherever its handler does: a node that begins starts it."""

    id: str
    spec: HandlerSpec
    args: Payload

    def call(self, now: float, partition_count: int) -> Call:
        """The message that starts it."""
        return Call(
            Invocation(
                id=self.id,
                partition=partition_of(self.id, partition_count),
                handler=self.spec.name,
                version=self.spec.version,
                args=self.args,
                created_at=now,
            )
        )


class Registry:
    """The handlers of one app, by name and version, and the codec they share."""

    def __init__(self, codec: Codec, hook: CodecHook | None = None) -> None:
        self.codec = codec
        self.hook = hook
        """What stands between memory and the database; the core knows nothing of it."""
        self.partition_count = limit.PARTITION_COUNT
        self._specs: dict[tuple[str, int], HandlerSpec] = {}
        self._latest: dict[str, HandlerSpec] = {}
        self.entities: dict[str, EntitySpec] = {}
        self.overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        """Bodies that run in place of others, in tests."""
        self.middleware: list[Middleware] = []
        """The outermost first."""
        self.topics: dict[str, TopicSpec] = {}
        self.standing: list[Standing] = []
        """Calls that each node starts."""

    def add(self, spec: HandlerSpec) -> None:
        """Register a handler.

        Raises:
            UsageError: One with this name and version exists.
        """
        if (spec.name, spec.version) in self._specs:
            raise UsageError(
                f"handler {spec.name!r} version {spec.version} is registered twice; give one of them "
                "another name with `name=…`, or the newer one `version=…`"
            )
        self._specs[spec.name, spec.version] = spec
        latest = self._latest.get(spec.name)
        if latest is None or latest.version < spec.version:
            self._latest[spec.name] = spec
        if spec.entity is not None:
            self.entities[spec.entity.name] = spec.entity

    def prepare(self) -> None:
        """All has been registered.

        Raises:
            UsageError: A class cannot be an entity, because its annotations name what cannot be found.
        """
        for each in self.entities.values():
            each.prepare(is_final=True)

    def get(self, name: str, version: int) -> HandlerSpec | None:
        """The handler for a call that was accepted for this version."""
        return self._specs.get((name, version))

    def latest(self, name: str) -> HandlerSpec | None:
        """The handler for a new call."""
        return self._latest.get(name)

    def of_function(self, function: Callable[..., Any]) -> HandlerSpec | None:
        """The newest handler that was made of a function."""
        found = [each for each in self._latest.values() if each.function is function]
        return found[0] if found else None

    def missing(self, name: str, version: int) -> str:
        """In words, what a call waits for whose handler is not here."""
        versions = sorted(each for known, each in self._specs if known == name)
        if not versions:
            return f"a node that has registered {name}" + (f", version {version}" * (version > 1))
        known = ", ".join(map(str, versions))
        return f"a node that has registered version {version} of {name}; this one has {known}"

    def versions(self) -> list[tuple[str, int]]:
        """The name and version of each handler."""
        return sorted(self._specs)

    def digest(self) -> str:
        """The same for registries that have the same handlers."""
        return hashlib.sha256(repr(self.versions()).encode()).hexdigest()[:16]

    def names(self) -> list[str]:
        return sorted(self._latest)
