"""Batches: a call for each of any number of inputs, which a function brings page by page.

A batch is a workflow, so whatever crashes it goes on; it continues as new, so its journal stays short; and
it holds one page of inputs and the numbers of the calls that are open, so its memory stays small. That a call
is started for an input, and how far the batch has come, is one commit. A call's id tells its batch and its
number, so the next run finds those that are open and waits for them again: no run ends with waiting for all,
and one that takes long is in nobody's way.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from msgspec import Struct

from fenbu._api.answer import on_query
from fenbu._api.context import current_id, journal_length
from fenbu._api.function import DurableFunction
from fenbu._api.mapping import checked
from fenbu._api.signal import wait_until
from fenbu._api.step import step
from fenbu._core.attribute import decoded
from fenbu._core.handler import Registry
from fenbu._core.ids import is_valid
from fenbu._core.model import Kind
from fenbu._core.retry import Retry
from fenbu._core.signature import Signature
from fenbu.errors import UsageError

T = TypeVar("T")

ATTRIBUTE: Final = "batch"
"""The search attribute of a batch's calls."""

ERRORS_MAX: Final = 20

RUN_ENTRIES_MAX: Final = 1_000
"""Of a run's journal; one so long takes some milliseconds to replay."""

PATIENT: Final = Retry(attempts=None, first_seconds=0.5, max_seconds=60.0)
"""How a source is tried again by default."""


class BatchError(Struct, frozen=True):
    """A call of a batch that has failed.

    Attributes:
        id: The call's id.
        error: Type and message.
    """

    id: str
    error: str


class BatchProgress(Struct, frozen=True, omit_defaults=True):
    """How far a batch is; when it has ended, its result.

    Attributes:
        started: Inputs whose call was started.
        completed: Those whose call went well.
        failed: Those whose call did not: it failed, was cancelled, or ran out of time.
        errors: The first 20 of these.
        is_read: The source has no more pages.
    """

    started: int = 0
    completed: int = 0
    failed: int = 0
    errors: tuple[BatchError, ...] = ()
    is_read: bool = False

    @property
    def open(self) -> int:
        """Calls that have been started and have not ended."""
        return self.started - self.completed - self.failed


class Position(Struct, Generic[T], frozen=True, omit_defaults=True):
    """What a run of a batch hands to the next."""

    progress: BatchProgress = BatchProgress()
    open: tuple[int, ...] = ()
    """The numbers of the calls that are open."""
    pending: list[T] = []
    """Inputs that were read and not started."""


class Registering(Protocol):
    """What is asked of an app."""

    workflow: Any

    @property
    def registry(self) -> Registry:
        """Its handlers."""
        ...


class Plan(Struct, frozen=True):
    """A batch, as it was registered."""

    source: Callable[..., Any]
    each: DurableFunction[..., Any]
    concurrency: int
    retry: Retry = PATIENT
    run_entries: int = RUN_ENTRIES_MAX
    """Behind so many entries a run ends."""


def register(app: Registering, name: str, plan: Plan, **options: Any) -> DurableFunction[..., Any]:
    """Register the workflow of a batch.

    Raises:
        UsageError: The source or what is called with its inputs is none that can be.
    """
    checked(plan.concurrency)
    codec = app.registry.codec
    spec = app.registry.latest(plan.each.name) if isinstance(plan.each, DurableFunction) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if spec is None or spec.kind is Kind.OPERATION:
        raise UsageError(f"batch {name!r}: each={plan.each!r} is no task or workflow of this app")
    if plan.each.chosen.id is not None:
        raise UsageError(f"batch {name!r}: its calls have ids of their own, and not one for all")
    known = Signature(plan.source, codec)
    parameters = _parameters(name, plan.source, known)
    cursor, first = parameters[0], next(iter(inspect.signature(spec.function).parameters), None)
    if first is None:
        raise UsageError(f"batch {name!r}: {spec.name} takes no input")
    given = inspect.Signature(parameters)

    async def run(*args: Any, **kwargs: Any) -> BatchProgress:
        position: Position[Any] = kwargs.pop("position", None) or Position()
        bound = given.bind(*args, **kwargs)
        bound.apply_defaults()
        work = _Work(plan, bound, cursor, position)
        on_query(name="progress")(work.progress)
        if await work.run():
            return work.progress()
        return batch.continue_as_new(*bound.args, position=work.position(), **bound.kwargs)

    hints = {each.name: known.type_of(each.name) for each in parameters}
    item = spec.signature.type_of(first)
    where = inspect.Parameter("position", inspect.Parameter.KEYWORD_ONLY, default=None)
    made = cast("Any", run)
    made.__signature__ = inspect.Signature([*parameters, where])
    made.__annotations__ = {**hints, "position": Position[item] | None, "return": BatchProgress}
    batch: DurableFunction[..., BatchProgress] = app.workflow(name=name, **options)(run)
    return batch


def _parameters(name: str, source: Callable[..., Any], known: Signature) -> list[inspect.Parameter]:
    """What a batch is started with: what its source takes, without what nodes fill in."""
    filled = {each.name for each in known.needs}
    found = [
        each for each in inspect.signature(source).parameters.values() if each.name not in filled
    ]
    usual = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    if not found or found[0].kind not in usual or any(each.name == "position" for each in found):
        raise UsageError(
            f"batch {name!r}: its source takes a cursor first, as in `async def pages(cursor: int | None) "
            "-> tuple[list[str], int | None]`, and no parameter of it is called `position`"
        )
    return found


def call_id(batch: str, number: int) -> str:
    """The id of a batch's call."""
    id_ = f"{batch}:{number}"
    return id_ if is_valid(id_) else f"{sha256(batch.encode()).hexdigest()[:32]}:{number}"


class _Work:
    """A run of a batch."""

    def __init__(
        self,
        plan: Plan,
        given: inspect.BoundArguments,
        cursor: inspect.Parameter,
        position: Position[Any],
    ) -> None:
        before = position.progress
        self._plan = plan
        self._given = given
        self._cursor = cursor.name
        self._id = current_id()
        self._started, self._completed = before.started, before.completed
        self._failed, self._errors = before.failed, list(before.errors)
        self._is_read = before.is_read
        self._pending = deque[Any](position.pending)
        self._open: dict[int, asyncio.Task[None]] = {}
        for number in position.open:
            self._follow(number)

    def progress(self) -> BatchProgress:
        """For who asks."""
        return BatchProgress(
            self._started, self._completed, self._failed, tuple(self._errors), self._is_read
        )

    def position(self) -> Position[Any]:
        """For the next run."""
        return Position(self.progress(), tuple(self._open), list(self._pending))

    async def run(self) -> bool:
        """Whether everything has ended; otherwise another run goes on."""
        most = self._plan.concurrency
        try:
            while True:
                if not self._pending and not self._is_read:
                    await self._read()
                while self._pending and len(self._open) < most:
                    await self._start(self._pending.popleft())
                if self._is_read and not self._pending:
                    await wait_until(lambda: not self._open)
                    return True
                if journal_length() >= self._plan.run_entries:
                    return False
                if self._pending:
                    await wait_until(lambda: len(self._open) < most)
        except asyncio.CancelledError:
            for number in self._open:
                call = self._plan.each.handle(call_id(self._safe_id, number))
                await call.cancel(f"its batch {self._id} is cancelled")
            raise
        except Exception:
            # What has been started is seen to its end.
            await wait_until(lambda: not self._open)
            raise

    @property
    def _safe_id(self) -> str:
        """A batch may be called by a workflow: then its id has what no user's has."""
        return self._id.replace("/", ".").replace("~", ".")

    async def _read(self) -> None:
        """The next page."""
        given, plan = self._given, self._plan
        ask = step.options(name="source", retry=plan.retry)
        page: Any = await ask(plan.source, *given.args, **given.kwargs)
        match page:
            case ([*items], cursor):
                self._pending.extend(items)
                self._is_read = cursor is None
                if cursor is not None:
                    given.arguments[self._cursor] = cursor
            case _:
                raise UsageError(
                    "the source of a batch returns a list of inputs and the next cursor, which is None "
                    f"behind the last page; and not {page!r:.200}"
                )

    async def _start(self, item: Any) -> None:
        number = self._started
        call = self._plan.each.options(
            id=call_id(self._safe_id, number),
            attributes={**decoded(self._plan.each.chosen.attributes), ATTRIBUTE: self._id},
        )
        await call.start(item)
        self._started += 1
        self._follow(number)

    def _follow(self, number: int) -> None:
        self._open[number] = asyncio.create_task(self._wait(number))

    async def _wait(self, number: int) -> None:
        """See how a call ends."""
        id_ = call_id(self._safe_id, number)
        try:
            await self._plan.each.handle(id_).result()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's
            self._failed += 1
            if len(self._errors) < ERRORS_MAX:
                text = f"{type(error).__name__}: {error}".rstrip(": ")
                self._errors.append(BatchError(id_, text[:1000]))
        else:
            self._completed += 1
        del self._open[number]
