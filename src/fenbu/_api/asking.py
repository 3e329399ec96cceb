"""What a handle asks a workflow: its queries and updates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from fenbu._api import ask
from fenbu._api.ask import UpdateHandle, Wanted
from fenbu._api.context import activation
from fenbu._api.runtime import Runtime

T = TypeVar("T")


class Asks:
    """The part of a `Handle` that asks."""

    __slots__ = ()

    _runtime: Runtime
    _partition: int
    id: str

    @abstractmethod
    def _addressed(self) -> int:
        """The call's partition, which workflow and entity code must know."""

    def _wanted(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        id_: str | None,
        result: Any,
    ) -> Wanted:
        """What is asked for, of this call."""
        partition = self._partition if activation() is None else self._addressed()
        return Wanted(self.id, partition, name, args, kwargs, id_, result)

    @overload
    async def query(self, name: str, /, *args: Any, result: type[T], **kwargs: Any) -> T: ...
    @overload
    async def query(self, name: str, /, *args: Any, result: Any = Any, **kwargs: Any) -> Any: ...
    async def query(self, name: str, /, *args: Any, result: Any = Any, **kwargs: Any) -> Any:
        """Ask a workflow for something that it reads in its variables: see `on_query`.

        Its code is run through its journal in this process and then thrown away: so the workflow must be
        registered here, no node need have it, and it may have ended. What it returns is as of the last event
        that is durable, such as the end of an update that was waited for.

        Args:
            name: The query's name.
            args: Its arguments by position.
            result: What the answer is decoded as.
            kwargs: Its arguments by name; one that is called `result` goes by position.

        Raises:
            CallNotFound: There is no such call, or its retention is over.
            UsageError: It has no such query, is no workflow, or is not registered here.
            NonDeterminismError: The code here does not fit what is recorded.
            Exception: What the query raises.

        Example:
            ```python
            assert await cart.handle("cart-ann").query("count", result=int) == 3
            ```
        """
        return await ask.ask(self._runtime, self._wanted(name, args, kwargs, None, result))

    @overload
    async def update(
        self, name: str, /, *args: Any, id: str | None = None, result: type[T], **kwargs: Any
    ) -> T: ...
    @overload
    async def update(
        self, name: str, /, *args: Any, id: str | None = None, result: Any = Any, **kwargs: Any
    ) -> Any: ...
    async def update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        result: Any = Any,
        **kwargs: Any,
    ) -> Any:
        """Ask a running workflow for something, and wait for its answer: see `on_update`.

        Args:
            name: The update's name.
            args: Its arguments by position.
            id: The update's id, of this workflow's. Asking again with it is asking for the same update.
            result: What the answer is decoded as.
            kwargs: Its arguments by name; those that are called `id` or `result` go by position.

        Raises:
            CallNotFound: There is no such call, or its retention is over.
            CallEnded: The workflow has ended, or ended first.
            UsageError: It has no such update, is no workflow, or the arguments do not fit.
            Exception: The validator's or the handler's error; `CallFailed` if its type is not known here.

        Example:
            ```python
            count = await cart.handle("cart-ann").update("add", "sku-1", id="click-7", result=int)
            ```
        """
        return await ask.ask_update(self._runtime, self._wanted(name, args, kwargs, id, result))

    @overload
    async def start_update(
        self, name: str, /, *args: Any, id: str | None = None, result: type[T], **kwargs: Any
    ) -> UpdateHandle[T]: ...
    @overload
    async def start_update(
        self, name: str, /, *args: Any, id: str | None = None, result: Any = Any, **kwargs: Any
    ) -> UpdateHandle[Any]: ...
    async def start_update(
        self,
        name: str,
        /,
        *args: Any,
        id: str | None = None,  # noqa: A002
        result: Any = Any,
        **kwargs: Any,
    ) -> UpdateHandle[Any]:
        """Like `update`, without waiting: returns when it is durable, also if it will be refused.

        Raises:
            CallNotFound: There is no such call, or its retention is over.
        """
        return await ask.start_update(self._runtime, self._wanted(name, args, kwargs, id, result))
