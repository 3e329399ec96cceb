"""Entities: classes with one durable instance per key, whose operations run one at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    cast,
    overload,
)

from fenbu._api.context import required_activation
from fenbu._api.function import DurableFunction
from fenbu._api.handle import Handle
from fenbu._api.options import checked_key, make_spec, seconds
from fenbu._api.runtime import Runtime
from fenbu._core.expiry import OPERATION, forget
from fenbu._core.handler import EntitySpec, HandlerSpec
from fenbu._core.location import caller
from fenbu._core.model import Kind
from fenbu._core.need import NOT_IN_CODE, check_needs_nothing
from fenbu._core.retry import NO_RETRY
from fenbu._core.signature import Signature
from fenbu._core.wish import Alarm, wishes_of
from fenbu.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Entity:
    """Base of entity classes: annotate fields with defaults, write `async def` operations.

    `Stock("sku-1")` is a reference: it can be made anywhere, costs nothing, and its operations are
    durable calls. Inside an operation, `self` is the entity: its fields are its state. The operations of
    one key run one at a time in order of acceptance; an operation that raises changes nothing.

    Example:
        ```python
        @app.entity
        class Stock(Entity):
            units: int = 0

            async def add(self, units: int) -> int:
                self.units += units
                return self.units

        await Stock("sku-1").add(5)
        ```
    """

    def __new__(cls, key: str) -> Self:
        """A reference to the entity with this key."""
        runtime: Runtime | None = cls.__dict__.get("_fenbu_runtime")
        if runtime is None:
            raise UsageError(f"decorate class {cls.__name__} with @app.entity before using it")
        reference = Reference(runtime, cls, key)
        return cast("Self", reference)

    if TYPE_CHECKING:

        def __init__(self, key: str) -> None: ...

    @property
    def key(self) -> str:
        """The key of this entity."""
        return cast("str", self.__dict__["_key"])

    def delete(self) -> None:
        """Forget this entity when the operation ends well: the next one finds the defaults.

        Its alarms are cancelled, also one that this operation has set.
        """
        required_activation("delete()")
        wishes_of(self).deleted = True

    def send_later(
        self,
        delay: float | timedelta,
        operation: Callable[P, Coroutine[Any, Any, Any]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[Any]:
        """Start an operation of this entity after a while: a timer that calls back.

        Args:
            delay: Seconds until the operation begins.
            operation: One of this entity's operations: `self.expire`.

        Raises:
            UsageError: It is no operation, its arguments do not fit, or no operation is running.

        Example:
            ```python
            self.send_later(900, self.expire, reservation_id)
            ```
        """
        running = required_activation("send_later()")
        _, spec = self._operation(operation, "send_later")
        runtime: Runtime = type(self).__dict__["_fenbu_runtime"]
        function: DurableFunction[..., Any] = DurableFunction(runtime, spec, self.key)
        bound = function.options(delay=delay)
        return bound.start_inside(running, spec.signature.check(args, kwargs), caller())

    def alarm(
        self,
        when: float | timedelta | datetime,
        operation: Callable[P, Coroutine[Any, Any, Any]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Have one of this entity's operations called at an instant: once, and not early.

        There is at most one alarm for each operation: setting it again replaces it. It is set when the
        operation that sets it ends well, and not at all if that fails. While it waits it costs a row.
        Different from `send_later`, which starts a call of its own each time.

        Args:
            when: Seconds from now, or an instant, with its time zone.
            operation: One of this entity's operations: `self.expire`.

        Raises:
            UsageError: It is no operation, its arguments do not fit, the instant has no time zone, or no
                operation is running.

        Example:
            ```python
            async def touch(self) -> None:
                self.alarm(1800, self.expire)    # 30 minutes after the last touch
            ```
        """
        running = required_activation("alarm()")
        name, spec = self._operation(operation, "alarm")
        if not isinstance(when, datetime):
            at = running.loop.now + (seconds(when, "alarm") or 0.0)
        elif when.tzinfo is None:
            raise UsageError(f"alarm: {when} has no time zone; use `fenbu.now()` and `tzinfo=…`")
        else:
            at = when.timestamp()
        alarm = Alarm(at, spec.name, spec.version, spec.signature.check(args, kwargs))
        wishes_of(self).alarms[name] = alarm

    def cancel_alarm(self, operation: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        """Have no alarm for an operation any more, once the operation that runs ends well.

        Does nothing if there is none. One whose instant has come, and which waits for its turn, is cancelled
        too.

        Raises:
            UsageError: It is no operation, or no operation is running.

        Example:
            ```python
            async def pay(self) -> None:
                self.cancel_alarm(self.expire)
            ```
        """
        required_activation("cancel_alarm()")
        name, _ = self._operation(operation, "cancel_alarm")
        wishes_of(self).alarms[name] = None

    def _operation(self, operation: object, what: str) -> tuple[str, HandlerSpec]:
        """One of this entity's own, by what it is called on `self`."""
        cls = type(self)
        specs: dict[str, HandlerSpec] = cls.__dict__["_fenbu_operations"]
        name = getattr(operation, "__name__", "")
        if name not in specs:
            raise UsageError(f"{what}: {operation!r} is no operation of {cls.__name__}")
        return name, specs[name]


class Reference:
    """What `Stock("sku-1")` really is: operations by name, and no state."""

    __slots__ = ("_cls", "_operations", "_runtime", "key")

    def __init__(self, runtime: Runtime, cls: type[Any], key: str) -> None:
        self._runtime = runtime
        self._operations: dict[str, HandlerSpec] = cls.__dict__["_fenbu_operations"]
        self._cls = cls
        self.key = checked_key(cls.__name__, key)

    def __repr__(self) -> str:
        return f"{self._cls.__name__}({self.key!r})"

    def __getattr__(self, name: str) -> DurableFunction[..., Any]:
        spec = self._operations.get(name)
        if spec is None:
            raise AttributeError(
                f"{self!r} has no operation {name!r}; the state of an entity is visible to its own "
                f"operations only. Its operations: {', '.join(sorted(self._operations)) or 'none'}"
            )
        return DurableFunction(self._runtime, spec, self.key)


def spec_of(runtime: Runtime, cls: object) -> EntitySpec:
    """What the app knows of an entity class.

    Raises:
        UsageError: It is no entity class of this app.
    """
    if not isinstance(cls, type) or cls.__dict__.get("_fenbu_runtime") is not runtime:
        raise UsageError(f"{cls!r} is no entity class of app {runtime.name!r}")
    found: EntitySpec = cls.__dict__["_fenbu_entity"]
    return found


def named_by(runtime: Runtime, reference: object) -> tuple[EntitySpec, str]:
    """The class and key that a reference names.

    Raises:
        UsageError: It is no reference to an entity of this app.
    """
    if not isinstance(reference, Reference):
        raise UsageError(
            f"give a reference to an entity, such as Stock('sku-1'), not {reference!r}"
        )
    return spec_of(runtime, reference._cls), reference.key  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


class Operation(Generic[P, R]):
    """An operation with options, made by `@operation`; on a reference it is a `DurableFunction`."""

    def __init__(
        self, function: Callable[..., Coroutine[Any, Any, R]], options: dict[str, Any]
    ) -> None:
        self.function = function
        self.options = options

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> DurableFunction[P, R]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        runtime: Runtime = owner.__dict__["_fenbu_runtime"]
        spec: HandlerSpec = owner.__dict__["_fenbu_operations"][self.function.__name__]
        own: OwnOperation[P, R] = OwnOperation(runtime, spec, instance, self.function)
        return own


class OwnOperation(DurableFunction[P, R]):
    """An operation as its own entity sees it: called, it is an ordinary method, for it is this key's turn."""

    def __init__(
        self, runtime: Runtime, spec: HandlerSpec, instance: Any, function: Callable[..., Any]
    ) -> None:
        super().__init__(runtime, spec, instance.key)
        self._instance = instance
        self._function = function
        """Not the spec's: `super().op()` means the one of a base class."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        made: Coroutine[Any, Any, R] = self._function(self._instance, *args, **kwargs)
        return made


@overload
def operation(
    function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Operation[P, R]: ...
@overload
def operation(
    *,
    read_only: bool = False,
    reentrant: bool = False,
    timeout: float | timedelta | None = None,
    retention: float | timedelta | None = None,
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]], Operation[P, R]]: ...
def operation(function: Any = None, **options: Any) -> Any:
    """Mark an entity's method as an operation, to give it options or typed `.start` and `.options`.

    Every public `async def` of an entity is an operation, marked or not.

    Args:
        read_only: It does not change the state, delete the entity or set alarms: if it has done so, it fails
            with a `UsageError`, and nothing has changed. It may start calls, also with `send_later`. Its
            finished calls are not kept.
        reentrant: Calls that an operation of the same entity waits for may call it back: it runs in the turn
            of that one, which stands still meanwhile, and sees its state. What it changes counts when that
            one ends well, and is void if it fails. It can neither set alarms nor delete the entity then.
        timeout: Seconds within which a call must end.
        retention: Seconds that a finished call is kept.

    Example:
        ```python
        @operation(read_only=True)
        async def units_left(self) -> int:
            return self.units
        ```
    """
    if function is not None:
        return Operation(function, {})

    def mark(function: Any) -> Operation[..., Any]:
        return Operation(function, options)

    return mark


def operations_of(
    runtime: Runtime, cls: type[Any], name: str, **defaults: Any
) -> dict[str, HandlerSpec]:
    """The operations of an entity class, by method name.

    Raises:
        UsageError: A method marked as an operation is no `async def`.
    """
    found: dict[str, HandlerSpec] = {}
    for each in reversed(cls.__mro__):
        if each in (object, Entity):
            continue
        for attribute, value in vars(each).items():
            if attribute.startswith("_"):
                continue
            marked = isinstance(value, Operation)
            function: Any = value.function if marked else value
            if not inspect.iscoroutinefunction(function):
                if marked:
                    raise UsageError(f"{name}.{attribute}: an operation must be an `async def`")
                continue
            options = {**defaults, **(value.options if marked else {})}
            found[attribute] = _spec(runtime, f"{name}.{attribute}", function, options)
    return found


def check_class(cls: Any) -> None:
    """Whether a class can be an entity, apart from its fields.

    Raises:
        UsageError: It cannot.
    """
    if not isinstance(cls, type) or not issubclass(cls, Entity):
        name = getattr(cast("Any", cls), "__name__", "…")
        raise UsageError(
            f"@app.entity decorates a class derived from Entity: `class {name}(Entity):`"
        )
    what = f"entity {cls.__name__}"
    if "__init__" in vars(cls):
        raise UsageError(f"{what} must not define __init__: its state is its annotated fields")
    version: Any = getattr(cls, "__version__", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UsageError(f"{what}: __version__ must be a number from 1, not {version!r}")
    upgrade: Any = inspect.getattr_static(cls, "__upgrade__", None)
    if upgrade is None:
        return
    if not isinstance(upgrade, classmethod | staticmethod):
        raise UsageError(
            f"{what}: __upgrade__ is called before there is an instance: decorate it with @classmethod"
        )
    if inspect.iscoroutinefunction(cast("Any", upgrade).__func__):
        raise UsageError(
            f"{what}: __upgrade__ must be a plain `def`, which does nothing but convert"
        )


def checked_ttl(ttl: float | timedelta | None, name: str) -> float | None:
    """Seconds without a change after which an entity is forgotten.

    Raises:
        UsageError: It is no duration, or not above zero.
    """
    found = seconds(ttl, "ttl")
    if found is not None and found <= 0:
        raise UsageError(f"entity {name}: ttl must be above zero, not {ttl!r}")
    return found


def forget_spec(runtime: Runtime, entity: str) -> HandlerSpec:
    """The operation that forgets an entity whose time is over."""
    return _spec(runtime, f"{entity}.{OPERATION}", forget, {"retention": 0})


def _spec(runtime: Runtime, name: str, function: Any, options: dict[str, Any]) -> HandlerSpec:
    check_needs_nothing(function, NOT_IN_CODE)
    read_only = bool(options.get("read_only", False))
    retention = options.get("retention")
    return make_spec(
        name=name,
        kind=Kind.OPERATION,
        function=function,
        signature=Signature(function, runtime.registry.codec, skip_first=True, is_code=True),
        retry=NO_RETRY,
        timeout=options.get("timeout"),
        retention=0.0 if read_only and retention is None else retention,
        read_only=read_only,
        reentrant=bool(options.get("reentrant", False)),
    )
