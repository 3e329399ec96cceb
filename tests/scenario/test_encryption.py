"""Payloads that the database cannot read, and keys that change while calls are in flight."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fenbu import (
    App,
    CallEnded,
    CodecHook,
    Compression,
    Encryption,
    Entity,
    Handle,
    PayloadUnreadable,
    Retry,
    Status,
    TerminalError,
    UsageError,
    callback,
    heartbeat,
    on_update,
    operation,
    step,
    stream,
    wait_signal,
)
from fenbu._api.hook import one_hook
from fenbu._core.model import Invocation
from fenbu._storage.open import storage_of
from fenbu._storage.postgres.url import target_of
from fenbu._storage.rekey import rekey
from fenbu.testing import crash_everywhere
from tests.fixture.postgres import Session

# Of a memory database nothing is left when its node is gone, and nobody else can look into it.
outliving = pytest.mark.parametrize("app", ["sqlite", "postgres"], indirect=True)

MARKER = "4711-0815"
OLD, NEW = Encryption.new_key(), Encryption.new_key()


def use(app: App, *hooks: CodecHook) -> None:
    """As if the process had been started again with other keys."""
    app.runtime.registry.hook = one_hook(hooks)


class Refused(Exception):
    def __init__(self, card: str) -> None:
        super().__init__(card)
        self.card = card


async def charge(card: str) -> str:
    return f"charged {card}"


async def refuse(card: str) -> str:
    raise Refused(card)


def register(app: App) -> dict[str, Any]:
    @app.entity
    class Wallet(Entity):
        cards: list[str] = []

        async def add(self, card: str) -> int:
            self.cards.append(card)
            return len(self.cards)

        async def remind(self, card: str) -> None:
            self.alarm(3600, self.add, card)

        @operation(read_only=True)
        async def all(self) -> list[str]:
            return self.cards

    @app.task(retry=Retry(attempts=2, first_seconds=3600))
    async def flaky(card: str) -> None:
        raise Refused(card)

    @app.workflow
    async def pay(card: str) -> str:
        paid = await step(charge, card)
        try:
            await step(refuse, card)
        except Refused as error:
            card = error.card
        token = await callback(str)
        await step(tokens.put, token.token)
        first, second = await wait_signal("first", str), await token.result()
        await Wallet("ada").add(card)
        return f"{paid} {first} {second}"

    @app.workflow
    async def wait(card: str) -> str:
        return f"{card} {await wait_signal('go', str)}"

    @app.workflow
    async def changed(card: str) -> None:
        if turns:
            raise TerminalError(f"no {card}")
        await step(charge, card)
        await wait_signal("never")

    tokens: asyncio.Queue[str] = asyncio.Queue()
    turns: list[int] = []
    return {
        "Wallet": Wallet, "flaky": flaky, "pay": pay, "wait": wait, "changed": changed,
        "tokens": tokens, "turns": turns, **register_writers(app),
    }  # fmt: skip


def register_writers(app: App) -> dict[str, Any]:
    @app.workflow
    async def serve(card: str) -> str:
        gate = asyncio.Event()

        @on_update
        async def pay_with(other: str) -> str:
            gate.set()
            await wait_signal("answer")
            return f"{card} {other}"

        @on_update
        def refuse_all(other: str) -> None:
            raise Refused(other)

        out = stream("cards", str)
        await out.write(card)
        await gate.wait()
        await wait_signal("end")
        return card

    @app.task(retry=Retry(attempts=2, first_seconds=3600))
    async def beating(card: str) -> None:
        await stream("beats", str).write(card)
        heartbeat(card)
        raise Refused(card)

    return {"serve": serve, "beating": beating}


async def until(handle: Handle[Any], status: Status) -> None:
    async with asyncio.timeout(20):
        while await handle.status() is not status:
            await asyncio.sleep(0)


async def stored(app: App, handle: Handle[Any]) -> Invocation:
    (loaded,) = await app.runtime.gateway.storage.load_calls([handle.id])
    return loaded.invocation


def everything(app: App) -> Iterator[str]:
    """Each cell of each table, as the database has it; and the file itself, with what was deleted."""
    scheme = app.url.partition(":")[0]
    if scheme == "sqlite":
        path = Path(app.url.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(path)) as connection:
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ):
                for row in connection.execute(f"SELECT * FROM {name}"):
                    yield from map(str, row)
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists():
                yield file.read_bytes().decode("latin1")
        return
    with Session(app.url) as session:
        names = session.rows(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = $1",
            session.schema.strip('"'),
        )
        assert len(names) > 5
        for (name,) in names:
            for row in session.rows(f"SELECT t::text FROM {session.schema}.{name} AS t"):
                yield row[0]
                for digits in re.findall(r"x((?:[0-9a-f]{2})+)", row[0]):
                    yield bytes.fromhex(digits).decode("latin1")  # As texts in them would be.


@outliving
async def test_the_database_never_sees_a_plain_value(app: App) -> None:
    use(app, Encryption([NEW]))
    made = register(app)
    async with app.client():  # What waits in the inbox, too.
        waiting = await made["wait"].start(MARKER)
        await waiting.signal("go", MARKER)
    assert not any(MARKER in each for each in everything(app))
    async with app:
        assert await waiting.result() == f"{MARKER} {MARKER}"
        paying = await made["pay"].start(MARKER)
        token = await made["tokens"].get()
        flaky = await made["flaky"].start(MARKER)
        stuck = await made["changed"].options(id="stuck").start(MARKER)
        await until(stuck, Status.SUSPENDED)
        await paying.signal("first", MARKER)
        await app.complete(token, MARKER)
        assert await paying.result() == f"charged {MARKER} {MARKER} {MARKER}"
        assert await made["Wallet"]("ada").all() == [MARKER]
        cancelled = await made["wait"].start(MARKER)
        await cancelled.cancel(f"because of {MARKER}")
        async with asyncio.timeout(20):
            while not (await app.runtime.gateway.storage.load_calls([flaky.id]))[
                0
            ].invocation.wake_at:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
    assert not any(MARKER in each for each in everything(app))
    made["turns"].append(1)
    async with app:
        await stuck.signal("never", MARKER)
        await until(stuck, Status.STUCK)
    found = list(everything(app))
    assert not any(MARKER in each for each in found)
    assert any("Refused" in each for each in found)  # The scan sees what is not encrypted.
    assert any("stuck" in each for each in found)


@outliving
async def test_streams_updates_heartbeats_and_alarms_are_sealed(app: App) -> None:
    use(app, Encryption([NEW]))
    made = register(app)
    async with app.client():  # An update that waits in the inbox, too.
        serving = await made["serve"].options(id="serve").start(MARKER)
        early = await serving.start_update("pay_with", MARKER, result=str)
    assert not any(MARKER in each for each in everything(app))
    async with app:
        beating = await made["beating"].start(MARKER)
        await made["Wallet"]("ada").remind(MARKER)
        with pytest.raises(Refused, match=MARKER):
            await serving.update("refuse_all", MARKER)
        async with asyncio.timeout(20):
            while await beating.progress(str) != MARKER:
                await asyncio.sleep(0)
        async for value in serving.stream("cards", str):
            assert value == MARKER
            break
        async for value in beating.stream("beats", str):
            assert value == MARKER
            break
        assert not any(MARKER in each for each in everything(app))
        await serving.signal("answer")
        assert await early.result() == f"{MARKER} {MARKER}"
        await serving.signal("end")
        assert await serving.result() == MARKER
    found = list(everything(app))
    assert not any(MARKER in each for each in found)
    # The scan sees the rows that it is about.
    assert any("cards" in each for each in found)
    assert any("fenbu.update" in each for each in found)
    assert any("Wallet.add" in each for each in found)


@pytest.mark.parametrize("app", ["postgres"], indirect=True)
async def test_what_a_transaction_sends_with_a_call_is_sealed(app: App) -> None:
    use(app, Encryption([NEW]))
    made = register(app)
    async with app.client():
        connection = await asyncpg.connect(target_of(app.url).url)
        try:
            wanted = made["wait"].options(id="a", transaction=connection)
            async with connection.transaction():
                handle = await wanted.and_signal("go", MARKER).start(MARKER)
        finally:
            await connection.close()
    assert not any(MARKER in each for each in everything(app))
    async with app:
        assert await handle.result() == f"{MARKER} {MARKER}"


@outliving
async def test_an_update_under_an_unknown_key_waits_or_is_refused(app: App) -> None:
    use(app, Encryption([OLD]))
    made = register(app)
    other = App("other", url=app.url, hook=Encryption([NEW, OLD]))
    async with app:
        serving = await made["serve"].start("a")
        ended = await made["wait"].start("a")
        await until(serving, Status.SUSPENDED)
        await ended.signal("go", "b")
        await ended.result()
        task = await made["beating"].start("a")
        async with other.client():
            await other.handle(serving.id).start_update("pay_with", "b", id="one")
            late = await other.handle(ended.id).start_update("pay_with", "b")
            nobody = await other.handle(task.id).start_update("pay_with", "b", id="two")
            await until(serving, Status.STUCK)
            with pytest.raises(CallEnded, match="has ended"):
                await late.result()
            with pytest.raises(UsageError, match="only workflows"):
                await nobody.result()
    use(app, Encryption([NEW, OLD]))
    async with app:
        await serving.signal("answer")
        again = await serving.start_update("pay_with", "not looked at", id="one", result=str)
        assert await again.result() == "a b"


@outliving
async def test_calls_go_on_under_a_new_key(app: App) -> None:
    use(app, Encryption([OLD]))
    made = register(app)
    async with app:
        assert await made["Wallet"]("ada").add("1") == 1
        handle = await made["wait"].start("a")
        await until(handle, Status.SUSPENDED)
    use(app, Encryption([NEW, OLD]))
    async with app:
        assert await made["Wallet"]("ada").add("2") == 2
        await handle.signal("go", "b")
        assert await handle.result() == "a b"
    use(app, Encryption([NEW]))
    async with app:
        assert await made["Wallet"]("ada").all() == ["1", "2"]


@outliving
async def test_without_the_key_calls_are_stuck_and_nothing_is_lost(app: App) -> None:
    use(app, Encryption([OLD]))
    made = register(app)
    async with app:
        assert await made["Wallet"]("ada").add("1") == 1
        handle = await made["wait"].start("a")
        ended = await made["pay"].start("a")
        await made["tokens"].get()
        await ended.cancel("not wanted")
        await until(handle, Status.SUSPENDED)
    async with app.client():
        fresh = await made["wait"].start("c")
        await fresh.signal("go", "d")
        task = await made["flaky"].start("e")
    use(app, Encryption([NEW]))
    async with app:
        await handle.signal("go", "b")
        operation = await made["Wallet"]("ada").add.start("2")
        for each in (handle, fresh, task, operation):
            await until(each, Status.STUCK)
        assert "encrypted with key" in ((await stored(app, handle)).waiting or "")
    use(app, Encryption([NEW, OLD]))
    async with app:
        assert await handle.result() == "a b"
        assert await fresh.result() == "c d"
        assert await operation.result() == 2
        await until(task, Status.PENDING)


@outliving
async def test_a_signal_under_an_unknown_key_waits_with_its_call(app: App) -> None:
    use(app, Encryption([OLD]))
    made = register(app)
    other = App("other", url=app.url, hook=Encryption([NEW, OLD]))
    async with app:
        handle = await made["wait"].start("a")
        await until(handle, Status.SUSPENDED)
        async with other.client():
            await other.handle(handle.id).signal("go", "first")
        await until(handle, Status.STUCK)
        await handle.signal("go", "second")
        await handle.retry()  # Nothing has changed: it is stuck again, and the order stays.
        await handle.signal("go", "third")
    use(app, Encryption([OLD]))
    async with app:
        await until(handle, Status.STUCK)
    use(app, Encryption([NEW, OLD]))
    async with app:
        assert await handle.result() == "a first"


@outliving
async def test_a_client_without_the_key_hears_so_and_may_ask_again(app: App) -> None:
    use(app, Encryption([NEW]))
    made = register(app)
    other = App("other", url=app.url, hook=Encryption([OLD]))
    async with app:
        handle = await made["wait"].options(id="a").start("a")
        await handle.signal("go", "b")
        assert await handle.result() == "a b"
    async with other.client():
        with pytest.raises(PayloadUnreadable, match="encrypted with key"):
            await other.handle("a").result()


@outliving
async def test_what_was_stored_plain_or_compressed_stays_readable(app: App) -> None:
    made = register(app)
    large = "a" * 100_000
    async with app:
        plain = await made["wait"].start(large)
        await until(plain, Status.SUSPENDED)
    use(app, Compression())
    async with app:
        compressed = await made["wait"].start(large)
        await until(compressed, Status.SUSPENDED)
    assert sum(large in each for each in everything(app)) >= 1
    use(app, Compression(), Encryption([NEW]))
    async with app:
        for each in (plain, compressed):
            await each.signal("go", "b")
            assert await each.result() == f"{large} b"


def test_a_crash_at_any_commit_changes_nothing() -> None:
    app = App("crash", url="memory:", hook=[Compression(beyond=10), Encryption([NEW, OLD])])

    @app.entity
    class Till(Entity):
        sum: int = 0

        async def add(self, cents: int) -> int:
            self.sum += cents
            return self.sum

        @operation(read_only=True)
        async def total(self) -> int:
            return self.sum

    @app.workflow
    async def sell(cents: int) -> int:
        await step(charge, str(cents))
        await Till("a").add(cents)
        try:
            await step(refuse, "x")
        except Refused as error:
            return await Till("a").add(len(error.card))
        return await Till("a").total()

    assert crash_everywhere(app, sell, 7) >= 4


@outliving
async def test_rekey_leaves_nothing_under_an_old_key_or_plain(app: App) -> None:
    made = register(app)
    async with app:
        plain = await made["wait"].start("p")
        await until(plain, Status.SUSPENDED)
    use(app, Encryption([OLD]))
    async with app:
        assert await made["Wallet"]("ada").add("1") == 1
        flaky = await made["flaky"].start("x")
        await until(flaky, Status.PENDING)
        beating = await made["beating"].start("y")
        async with asyncio.timeout(20):
            while await beating.progress(str) != "y":
                await asyncio.sleep(0)
        await until(beating, Status.PENDING)
        paying = await made["pay"].start("a")
        token = await made["tokens"].get()
        await paying.signal("first", "b")
        await until(paying, Status.SUSPENDED)
    new = Encryption([NEW, OLD])
    use(app, new)
    seen: list[int] = []
    async with app:
        storage = storage_of(app.url)
        await storage.open()
        first = await rekey(storage, new, new.is_current, lambda done: seen.append(done.calls))
        again = await rekey(storage, new, new.is_current)
        keyless = Encryption([OLD])
        unreadable = await rekey(storage, keyless, keyless.is_current)
        await storage.close()
        assert (first.unreadable, first.changed, first.waiting) == (0, 0, 0)
        assert first.rewritten >= 8
        assert first.chunks == 1
        assert (again.rewritten, again.unreadable) == (0, 0)
        assert unreadable.rewritten == 0
        assert unreadable.unreadable >= first.rewritten
        assert seen[-1] >= 3
    use(app, Encryption([NEW]))
    async with app:
        await plain.signal("go", "q")
        assert await plain.result() == "p q"
        assert await beating.progress(str) == "y"
        async for value in beating.stream("beats", str):
            assert value == "y"
            break
        await app.complete(token, "c")
        assert await paying.result() == "charged a b c"
        assert await made["Wallet"]("ada").all() == ["1", "a"]
