"""What a node opens for its bodies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest

import fenbu
from fenbu import INJECTED, App, EncodingError, Entity, Resource, Retry, UsageError, step
from fenbu.testing import crash_everywhere
from fenbu.testing import run as run_in_virtual_time

SOON = Retry(attempts=3, first_seconds=0)

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Db:
    def __init__(self, name: str) -> None:
        self.name = name


async def open_generator() -> AsyncIterator[Db]:
    log.append("open generator")
    yield Db("generator")
    log.append("close generator")


@asynccontextmanager
async def open_manager() -> AsyncIterator[Db]:
    log.append("open manager")
    yield Db("manager")
    log.append("close manager")


@contextmanager
def open_plain_manager() -> Iterator[Db]:
    log.append(f"open plain manager {threading.current_thread() is threading.main_thread()}")
    yield Db("plain manager")
    log.append("close plain manager")


def open_plain_generator() -> Iterator[Db]:
    yield Db("plain generator")


def open_plain() -> Db:
    return Db("plain")


async def open_coroutine() -> Db:
    return Db("coroutine")


async def open_late() -> AsyncIterator[Db]:
    log.append("try")
    if len(log) < 3:
        raise ConnectionRefusedError("no database yet")
    yield Db("late")


async def open_never() -> Db:
    raise ConnectionRefusedError("no database at all")


async def hang() -> Db:
    await asyncio.Event().wait()
    raise AssertionError


async def lock() -> Any:
    return asyncio.Lock()


async def send(
    n: int,
    a: Annotated[Db, Resource(open_generator)] = INJECTED,
    b: Annotated[Db, Resource(open_manager)] = INJECTED,
    more: str = "",
    *,
    c: Annotated[Db, Resource(open_plain_manager)] = INJECTED,
    d: Annotated[Db, Resource(open_plain_generator)] = INJECTED,
    e: Annotated[Db, Resource(open_plain)] = INJECTED,
    f: Annotated[Db, Resource(open_coroutine)] = INJECTED,
) -> str:
    return " | ".join([str(n) + more, *(each.name for each in (a, b, c, d, e, f))])


EXPECTED = "generator | manager | plain manager | plain generator | plain | coroutine"


async def test_every_kind_is_opened_once_and_closed_in_reverse_order(app: App) -> None:
    task = app.task(send)

    @app.workflow
    async def flow() -> list[str]:
        own = Db("own")
        return [await step(send, 3), await step(send, 4, own, more="+"), await step(plain)]

    def plain(db: Annotated[Db, Resource(open_plain)] = INJECTED) -> str:
        return db.name

    async with app:
        found = await asyncio.gather(task(1), task(2, more="!"))
        assert found == [f"1 | {EXPECTED}", f"2! | {EXPECTED}"]
        named = EXPECTED.replace("generator", "own", 1)
        assert await flow() == [f"3 | {EXPECTED}", f"4+ | {named}", "plain"]
        # Callers cannot give what the node does, and it is no argument by position.
        with pytest.raises(UsageError, match="too many positional"):
            await task(1, "!")
        handle = await task.start(5)
        (loaded,) = await app.runtime.gateway.storage.load_calls([handle.id])
        assert loaded.invocation.args == '{"n":5}'
    assert log == [
        "open generator", "open manager", "open plain manager False",
        "close plain manager", "close manager", "close generator",
    ]  # fmt: skip


def test_a_failed_opening_is_a_failed_attempt_and_the_next_opens_again() -> None:
    app = App("opening", url="memory:")

    @app.task(retry=Retry(attempts=5))
    async def patient(db: Annotated[Db, Resource(open_late)] = INJECTED) -> str:
        return db.name

    @app.task(retry=Retry(attempts=5, never=(ConnectionRefusedError,)))
    async def impatient(db: Annotated[Db, Resource(open_never)] = INJECTED) -> str:
        return db.name

    async def scenario() -> None:
        assert await patient() == "late"
        assert log == ["try", "try", "try"]
        with pytest.raises(ConnectionRefusedError, match="at all") as found:
            await impatient()
        notes = "".join(found.value.__notes__)
        assert "raised while Resource(" in notes
        assert "open_never" in notes

    run_in_virtual_time(app, scenario)


async def test_it_is_opened_within_the_time_of_the_attempt(app: App) -> None:
    @app.task(attempt_timeout=0.05)
    async def wants(db: Annotated[Db, Resource(hang)] = INJECTED) -> str:
        return db.name

    async with app:
        with pytest.raises(fenbu.CallTimedOut):
            await wants()


async def test_what_opens_can_be_overridden(app: App) -> None:
    @app.task
    async def name(db: Annotated[Db, Resource(open_coroutine)] = INJECTED) -> str:
        return db.name

    async with app:
        assert await name() == "coroutine"
        with app.override(open_coroutine, lambda: Db("fake")):
            assert await name() == "fake"
        assert await name() == "coroutine"
        with app.override(name, lambda: "no body at all"):
            assert await name() == "no body at all"


async def test_errors_say_what_to_do(app: App) -> None:
    @app.task
    async def locked(it: Annotated[asyncio.Lock, Resource(lock)] = INJECTED) -> None: ...

    @app.task(name="unmarked")
    async def unmarked(db: str = INJECTED) -> None: ...

    async with app:
        with pytest.raises(UsageError, match="gives nothing when it is entered"):
            await locked()
        with pytest.raises(EncodingError, match="annotate it as"):
            await unmarked()


async def test_who_can_have_none_is_refused_when_it_is_registered(app: App) -> None:
    async def code(db: Annotated[Db, Resource(open_plain)]) -> None: ...
    async def unreadable(db: Missing = INJECTED) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def far(n: int, db: Annotated[Db, Resource(open_plain)] = INJECTED) -> None: ...

    class Cart(Entity):
        async def add(self, db: Annotated[Db, Resource(open_plain)] = INJECTED) -> None: ...

    with pytest.raises(UsageError, match=r"code\(db\): .* replayed, and has no resources"):
        app.workflow(code)
    with pytest.raises(UsageError, match=r"unreadable\(db\): .* has no resources"):
        app.workflow(unreadable)
    with pytest.raises(UsageError, match=r"add\(db\): .* has no resources"):
        app.entity(Cart)
    with pytest.raises(UsageError, match=r"far\(db\): cpu=True runs it in another process"):
        app.task(cpu=True)(far)

    @app.workflow
    async def flow() -> None:
        await step.options(cpu=True)(needs_here, 1)

    async with app:
        with pytest.raises(UsageError, match=r"\(db\): cpu=True runs it in another process"):
            await flow()


def needs_here(n: int, db: Annotated[Db, Resource(open_plain)] = INJECTED) -> None: ...


def test_what_opens_one_can_be_called() -> None:
    with pytest.raises(UsageError, match="takes what is called to open it, not 5"):
        Resource(5)  # type: ignore[arg-type]


def test_the_function_alone_takes_what_one_likes(app: App) -> None:
    @app.task
    def name(n: int, db: Annotated[Db, Resource(open_never)] = INJECTED) -> str:
        return f"{db.name} {n}"

    assert name.__wrapped__(1, Db("fake")) == "fake 1"


def test_a_crash_anywhere_changes_nothing() -> None:
    app = App("resources", url="memory:")

    @app.workflow
    async def flow() -> str:
        return await step(send, 1)

    assert crash_everywhere(app, flow) >= 2
