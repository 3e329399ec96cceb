"""Large arguments through a call's whole life: as they were for the code, and gone with the call."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fenbu import App, CodecHook, Encryption, Entity, Handle, Retry, Status, step, wait_signal
from fenbu._api.hook import one_hook
from fenbu._storage.open import storage_of
from fenbu._storage.rekey import rekey
from fenbu._storage.sqlite.rows import ARGS_IN_ROW_MAX
from fenbu.testing import crash_everywhere
from tests.fixture.storage import calls_with_large_args

OLD, NEW = Encryption.new_key(), Encryption.new_key()

# Of a memory database nothing is left when its node is gone.
outliving = pytest.mark.parametrize("app", ["sqlite", "postgres"], indirect=True)

sizes = pytest.mark.parametrize("size", [100, ARGS_IN_ROW_MAX, 1024 * 1024])


@pytest.fixture(params=[None, Encryption([OLD])], ids=["plain", "encrypted"])
def hooked(request: pytest.FixtureRequest, app: App) -> App:
    use(app, *([request.param] if request.param else []))
    return app


def use(app: App, *hooks: CodecHook) -> None:
    """As if the process had been started again with other keys."""
    app.runtime.registry.hook = one_hook(hooks)


def text_of(size: int) -> str:
    return secrets.token_hex(size // 2)


def sum_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def check(text: str) -> str:
    return sum_of(text)


def register(app: App) -> Any:
    """What is made of arguments is short, so that nothing else is large."""
    made = SimpleNamespace(broken=True)
    tries: list[str] = []

    @app.task(name="flaky", retry=Retry(attempts=3, first_seconds=0.0))
    async def flaky(text: str) -> str:
        tries.append(sum_of(text))
        if len(tries) < 3:
            raise ValueError
        return sum_of(text)

    @app.workflow(name="wait")
    async def wait(text: str) -> str:
        first = await step(check, text)
        other = await wait_signal("go", str)
        if other == "again":
            wait.continue_as_new(text[::-1])
        if other == "fail" and made.broken:
            raise ValueError(other)
        return f"{first} {await step(check, text)} {other}"

    @app.workflow(name="parent")
    async def parent(text: str) -> str:
        return await wait.options(id="child")(text + text)

    @app.entity(name="Log")
    class Log(Entity):
        sums: list[str] = []

        async def note(self, text: str) -> int:
            self.sums.append(await step(check, text))
            return len(self.sums)

    made.flaky, made.wait, made.parent, made.log = flaky, wait, parent, Log
    return made


async def until(handle: Handle[Any], status: Status) -> None:
    async with asyncio.timeout(20):
        while await handle.status() is not status:
            await asyncio.sleep(0)


def expected(text: str, other: str) -> str:
    return f"{sum_of(text)} {sum_of(text)} {other}"


def nothing_is_left(app: App) -> None:
    if app.url.startswith("sqlite"):
        assert calls_with_large_args(Path(app.url.removeprefix("sqlite:///"))) == set()


async def forget(app: App) -> None:
    """As when the retention of everything is over."""
    storage = app.runtime.gateway.storage
    async with asyncio.timeout(20):
        while (await app.list_calls()).calls:
            for name in ("flaky", "wait", "parent", "Log.note", "fenbu.start"):
                await storage.delete_finished(name, 9e9, limit=99)
            await asyncio.sleep(0)
    nothing_is_left(app)


@sizes
async def test_workflows_tasks_and_operations_get_what_was_passed(hooked: App, size: int) -> None:
    made = register(hooked)
    text = text_of(size)
    async with hooked:
        waiting = await made.wait.start(text)
        await until(waiting, Status.SUSPENDED)  # Its code is replayed.
        await waiting.signal("go", "on")
        assert await waiting.result() == expected(text, "on")
        assert await made.flaky(text) == sum_of(text)
        assert await made.log("a").note(text) == 1
        parent = await made.parent.start(text)
        await until(hooked.handle("child"), Status.SUSPENDED)
        await hooked.handle("child").signal("go", "up")
        assert await parent.result() == expected(text + text, "up")
        await forget(hooked)


@sizes
async def test_a_call_that_begins_anew(hooked: App, size: int) -> None:
    made = register(hooked)
    text = text_of(size)
    async with hooked:
        call = made.wait.options(id="w", if_exists="replace")
        waiting = await call.start(text)
        await until(waiting, Status.SUSPENDED)
        await waiting.signal("go", "again")
        await waiting.signal("go", "on")
        assert await waiting.result() == expected(text[::-1], "on")
        for each in (text, "short", text + "1"):
            waiting = await call.start(each)
        await waiting.signal("go", "last")
        assert await waiting.result() == expected(text + "1", "last")
        failing = await made.wait.options(id="f").start(text)
        await failing.signal("go", "fail")
        with pytest.raises(ValueError, match="fail"):
            await failing.result()
        made.broken = False
        await failing.retry()
        await until(failing, Status.SUSPENDED)
        await failing.signal("go", "fail")
        assert await failing.result() == expected(text, "fail")
        await forget(hooked)


@sizes
async def test_forked_paused_ended_and_listed(hooked: App, size: int) -> None:
    made = register(hooked)
    text = text_of(size)
    async with hooked:
        first = await made.wait.options(id="first").start(text)
        await until(first, Status.SUSPENDED)
        await first.pause()
        await first.resume()
        await first.signal("go", "fail")
        with pytest.raises(ValueError, match="fail"):
            await first.result()
        made.broken = False
        fork = await first.fork("check")
        await until(fork, Status.SUSPENDED)
        await fork.signal("go", "fork")
        assert await fork.result() == expected(text, "fork")
        ended = await made.wait.options(id="ended").start(text)
        await until(ended, Status.SUSPENDED)
        await ended.terminate()
        assert {each.id for each in (await hooked.list_calls()).calls} == {
            "first", "ended", fork.id,
        }  # fmt: skip
        await forget(hooked)


@outliving
@sizes
async def test_exported_and_imported(hooked: App, size: int) -> None:
    made = register(hooked)
    text = text_of(size)
    async with hooked:
        waiting = await made.wait.options(id="w").start(text)
        await until(waiting, Status.SUSPENDED)
        data = await hooked.export_call("w")
        await waiting.terminate()
        await forget(hooked)
        assert await hooked.import_calls(data, go_on=True) == ["w"]
        # Right behind it, before any node has seen the call.
        await waiting.signal("go", "here")
        assert await waiting.result() == expected(text, "here")
        await forget(hooked)


@outliving
@sizes
async def test_other_keys_beside_a_node_that_is_started_again(app: App, size: int) -> None:
    made = register(app)
    text = text_of(size)
    hooks: list[list[CodecHook]] = [[], [Encryption([OLD])], [new := Encryption([NEW, OLD])]]
    for hook in hooks:
        use(app, *hook)
        async with app:
            waiting = await made.wait.options(id=f"{len(hook)} {hook is hooks[1]}").start(text)
            await until(waiting, Status.SUSPENDED)
            ended = await made.wait.start(text)
            await ended.signal("go", "x")
            await ended.result()
    storage = storage_of(app.url)
    await storage.open()
    done = await rekey(storage, new, new.is_current)
    assert (done.unreadable, done.changed) == (0, 0)
    assert done.rewritten >= 4
    await storage.close()
    use(app, Encryption([NEW]))
    async with app:
        for each in (await app.list_calls(statuses=[Status.SUSPENDED])).calls:
            await app.handle(each.id).signal("go", "new")
            assert await app.handle(each.id).result() == expected(text, "new")
        await forget(app)


def test_crashes_at_every_point() -> None:
    app = App("crashes", url="memory:")
    made = register(app)

    @app.workflow
    async def all_of_it(size: int) -> str:
        text = "x" * size
        await made.log("a").note(text)
        return await made.flaky(text)

    assert crash_everywhere(app, all_of_it, 2 * ARGS_IN_ROW_MAX) >= 4
