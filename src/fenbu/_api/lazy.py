"""Lazy fields of entities, as operations use them: read when asked for, written when set."""

from __future__ import annotations

from typing import TypeVar, cast

from fenbu._api.context import required_activation
from fenbu._core import field
from fenbu._core.lazy import MISSING, LazyField, LazyValues
from fenbu.errors import EncodingError, PayloadTooLarge, PayloadUnreadable, UsageError

T = TypeVar("T")


class Lazy(LazyField[T]):
    """A field of an entity that is kept in a row of its own: for large state that few operations need.

    The entity is read and written without it. Its value is read when an operation asks for it, and written
    when one has set it, together with the rest of the state, the result and the messages.

    Args:
        default: Its value until it is set; by default the empty value of its type, such as `[]`, `""`, 0, or
            None where the type allows it.

    Example:
        ```python
        @app.entity
        class Cart(Entity):
            owner: str = ""
            history: Lazy[list[Order]]

            async def add(self, order: Order) -> int:
                past = await self.history.get()
                self.history.set([*past, order])
                return len(past) + 1
        ```
    """

    __slots__ = ()

    def __init__(self, default: T = MISSING) -> None:
        super().__init__(default)

    def __repr__(self) -> str:
        return f"<lazy field {self.name or '?'} of {self.entity or 'no entity yet'}>"

    async def get(self) -> T:
        """Its value: what this operation has set, else what the last one has left.

        It is a copy: to change the field, `set` it.

        Raises:
            EncodingError: What is stored does not fit the type.
            UsageError: This is not the code of an operation of its entity.
        """
        running = required_activation("get() of a lazy field")
        payload = await field.read(running, self._values(running.lazy), self.name)
        try:
            return cast("T", self.codec.decode(payload))
        except PayloadUnreadable:
            raise
        except EncodingError as error:
            raise EncodingError(f"{self._place(running.lazy)}: {error}") from None

    def set(self, value: T) -> None:
        """Change it, as soon as the operation ends well. What is given is stored as it is now.

        Raises:
            EncodingError: The value does not fit the type; `PayloadTooLarge` if it is too large.
            UsageError: This is not the code of an operation of its entity, or it is marked read_only.
        """
        running = required_activation("set() of a lazy field")
        values = self._values(running.lazy)
        if running.closed is not None:
            raise running.closed
        if values.read_only:
            raise UsageError(
                f"{running.invocation.handler} is marked read_only, and sets the {self._place(values)}"
            )
        try:
            values.set(self.name, self.codec.check(value))
        except PayloadTooLarge as error:
            raise error.named(self._place(values)) from None
        except EncodingError as error:
            raise EncodingError(f"{self._place(values)}: {error}") from None

    def _values(self, values: LazyValues | None) -> LazyValues:
        if values is None or values.entity != self.entity:
            raise UsageError(
                f"{self!r} has a value for operations of its entity only: use it as `self.{self.name or '…'}`"
            )
        return values

    def _place(self, values: LazyValues | None) -> str:
        return f"lazy field {self.name} of {self.entity}" + (f"/{values.key}" if values else "")
