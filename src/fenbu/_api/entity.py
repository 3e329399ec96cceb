"""Entities: classes with one durable instance per key, whose operations run one at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from datetime import timedelta
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
from fenbu._api.options import checked_key, make_spec
from fenbu._api.runtime import Runtime
from fenbu._core.handler import HandlerSpec
from fenbu._core.location import caller
from fenbu._core.model import Kind
from fenbu._core.retry import NO_RETRY
from fenbu._core.signature import Signature
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
        reference = Reference(runtime, cls.__dict__["_fenbu_operations"], cls.__name__, key)
        return cast("Self", reference)

    if TYPE_CHECKING:

        def __init__(self, key: str) -> None: ...

    @property
    def key(self) -> str:
        """The key of this entity."""
        return cast("str", self.__dict__["_key"])

    def delete(self) -> None:
        """Forget this entity's state when the operation ends well; the next one finds the defaults."""
        required_activation("delete()")
        self.__dict__["_deleted"] = True

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
        cls = type(self)
        specs: dict[str, HandlerSpec] = cls.__dict__["_fenbu_operations"]
        name = getattr(operation, "__name__", "")
        if name not in specs:
            raise UsageError(f"send_later: {operation!r} is no operation of {cls.__name__}")
        runtime: Runtime = cls.__dict__["_fenbu_runtime"]
        function: DurableFunction[..., Any] = DurableFunction(runtime, specs[name], self.key)
        bound = function.options(delay=delay)
        return bound.start_inside(running, specs[name].signature.check(args, kwargs), caller())


class Reference:
    """What `Stock("sku-1")` really is: operations by name, and no state."""

    __slots__ = ("_entity", "_operations", "_runtime", "key")

    def __init__(
        self, runtime: Runtime, operations: dict[str, HandlerSpec], entity: str, key: str
    ) -> None:
        self._runtime = runtime
        self._operations = operations
        self._entity = entity
        self.key = checked_key(entity, key)

    def __repr__(self) -> str:
        return f"{self._entity}({self.key!r})"

    def __getattr__(self, name: str) -> DurableFunction[..., Any]:
        spec = self._operations.get(name)
        if spec is None:
            raise AttributeError(
                f"{self!r} has no operation {name!r}; the state of an entity is visible to its own "
                f"operations only. Its operations: {', '.join(sorted(self._operations)) or 'none'}"
            )
        return DurableFunction(self._runtime, spec, self.key)


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
    timeout: float | timedelta | None = None,
    retention: float | timedelta | None = None,
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]], Operation[P, R]]: ...
def operation(function: Any = None, **options: Any) -> Any:
    """Mark an entity's method as an operation, to give it options or typed `.start` and `.options`.

    Every public `async def` of an entity is an operation, marked or not.

    Args:
        read_only: It does not change the state, which is checked. Its finished calls are not kept.
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


def _spec(runtime: Runtime, name: str, function: Any, options: dict[str, Any]) -> HandlerSpec:
    read_only = bool(options.get("read_only", False))
    retention = options.get("retention")
    return make_spec(
        name=name,
        kind=Kind.OPERATION,
        function=function,
        signature=Signature(function, runtime.registry.codec, skip_first=True),
        retry=NO_RETRY,
        timeout=options.get("timeout"),
        retention=0.0 if read_only and retention is None else retention,
        read_only=read_only,
    )
