"""Forks: another call goes on from a step of one, which stays as it was."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from fenbu import (
    AlreadyExists,
    App,
    CallFailed,
    CallNotFound,
    CallTimedOut,
    Status,
    UsageError,
    now,
    patched,
    random,
    step,
    wait_signal,
)
from fenbu._api.forking import fork_of
from fenbu.testing import crash_everywhere, run

pytestmark = pytest.mark.timeout(60)


async def failed(handle: Any) -> None:
    with pytest.raises((ValueError, CallFailed)):
        await handle.result(20)


class Shop:
    """A workflow whose last step is broken at first, and how often each was done."""

    def __init__(self, app: App) -> None:
        self.done: list[str] = []
        self.broken = True

        async def reserve(sku: str) -> str:
            self.done.append(f"reserve {sku}")
            return f"reserved {sku}"

        async def charge(cents: int) -> str:
            self.done.append(f"charge {cents}")
            return f"charged {cents}"

        async def ship(what: str) -> str:
            self.done.append("ship")
            if self.broken:
                raise ValueError("no van")
            return f"shipped {what}"

        @app.workflow
        async def checkout(sku: str, cents: int) -> str:
            began, chance = now(), random()
            what = await step(reserve, sku)
            paid = await step(charge, cents)
            sent = await step(ship, f"{what}, {paid}")
            return f"{sent}, {began.timestamp()}, {chance}"

        self.checkout = checkout


async def test_from_the_step_that_failed(app: App) -> None:
    shop = Shop(app)
    async with app:
        handle = await shop.checkout.options(id="a", attributes={"customer": 7}).start("tea", 5)
        await failed(handle)
        shop.broken = False
        again = await handle.fork()
        result = await again.result(20)
        assert result.startswith("shipped reserved tea, charged 5, ")
        assert shop.done == ["reserve tea", "charge 5", "ship", "ship"]
        assert await handle.status() is Status.FAILED
        page = await app.list_calls(where=[("customer", "=", 7)])
        assert {each.id for each in page.calls} == {"a", again.id}
        # Time and chance are those of the original, in a fork of the fork as well.
        other = await again.fork("charge", id="b")
        assert (await other.result(20)).split(", ")[-2:] == result.split(", ")[-2:]
        assert shop.done[4:] == ["charge 5", "ship"]
        first = await again.fork(1, results={1: "found tea"})
        assert (await first.result(20)).startswith("shipped found tea, charged 5")
        assert shop.done[6:] == ["charge 5", "ship"]


async def test_with_other_results(app: App) -> None:
    shop = Shop(app)
    async with app:
        handle = await shop.checkout.options(id="a").start("tea", 5)
        await failed(handle)
        by_hand = await handle.fork("ship", results={"ship": "sent by hand"})
        assert (await by_hand.result(20)).startswith("sent by hand")
        shop.broken = False
        free = await handle.fork("ship", results={"charge": "free"})
        assert (await free.result(20)).startswith("shipped reserved tea, free")
        assert shop.done == ["reserve tea", "charge 5", "ship", "ship"]


async def test_calls_belong_to_both(app: App) -> None:
    @app.workflow
    async def child() -> int:
        return await wait_signal("go", int)

    broken = True

    async def last(number: int) -> int:
        if broken:
            raise ValueError("not yet")
        return number

    @app.workflow
    async def parent() -> list[int]:
        started = await child.start()
        waited = asyncio.create_task(child())
        await asyncio.sleep(0)
        number = await step(last, 3)
        return [number, await waited, await started.result()]

    async with app:
        handle = await parent.options(id="p").start()
        await failed(handle)
        broken = False
        again = await handle.fork()
        for each in ("p/1", "p/2"):
            await child.handle(each).signal("go", int(each[-1]) * 10)
        assert await again.result(20) == [3, 20, 10]
        page = await app.list_calls(handler=child.name)
        assert {each.id for each in page.calls} == {"p/1", "p/2"}


async def test_steps_and_timers_that_were_open_are_asked_for_again(app: App) -> None:
    done: list[str] = []
    broken = True

    async def slow() -> str:
        done.append("slow")
        if broken:
            await asyncio.Event().wait()
        return "slow"

    async def fails() -> str:
        if broken:
            raise ValueError("broken")
        return "fine"

    @app.workflow
    async def both() -> list[str]:
        async def sleeps() -> str:
            await asyncio.sleep(0.05)
            return "woke"

        async with asyncio.TaskGroup() as group:
            a, b = group.create_task(step(slow)), group.create_task(sleeps())
            c = group.create_task(step(fails))
        return [a.result(), b.result(), c.result()]

    async with app:
        handle = await both.start()
        with pytest.raises((ExceptionGroup, CallFailed)):
            await handle.result(20)
        broken = False
        again = await handle.fork()
        assert await again.result(20) == ["slow", "woke", "fine"]
        assert done == ["slow", "slow"]


async def test_the_code_may_have_changed_from_there_on(app: App) -> None:
    if app.url == "memory:":
        pytest.skip("what is in memory does not outlive the app")

    def shop(name: str, *, new: bool) -> tuple[App, Any]:
        made = App(name, url=app.url)

        @made.workflow(name="checkout")
        async def checkout() -> str:
            first = await step(one)
            if new:
                extra = await step(three) if patched("more") else ""
                return f"{first}{extra}"
            return first + await step(two)

        return made, checkout

    async def one() -> str:
        return "1"

    async def two() -> str:
        raise ValueError("broken")

    async def three() -> str:
        return "3"

    old, checkout = shop("old", new=False)
    async with old:
        await failed(await checkout.options(id="a").start())
    fresh, checkout = shop("new", new=True)
    async with fresh:
        handle = checkout.handle("a")
        forked = await handle.fork(1, results={1: "one"}, id="b")
        assert await forked.result(20) == "one3"
        # Before the fork it has to ask for the same.
        wrong = await handle.fork(2, id="c")
        assert await wrong.result(20) == "13"


async def test_in_bulk(app: App) -> None:
    shop = Shop(app)

    @app.task
    async def breaks() -> None:
        raise ValueError("a task cannot be forked")

    async with app:
        handles = [await shop.checkout.start("tea", number) for number in range(5)]
        for each in [*handles, await breaks.start()]:
            await failed(each)
        shop.broken = False
        assert await app.steer_calls("fork") == 5
        async with asyncio.timeout(20):
            while len((await app.list_calls(statuses=[Status.COMPLETED])).calls) < 5:
                await asyncio.sleep(0)
        assert len([each for each in shop.done if each.startswith("charge")]) == 5
        assert await app.steer_calls("fork", step="nothing") == 0
        # Whoever does it again, because he does not know how far he came, makes no second fork.
        assert await app.steer_calls("fork") == 0
        assert len([each for each in shop.done if each.startswith("charge")]) == 5
        # A retried one is another run, which has not been forked.
        shop.broken = True
        await handles[0].retry()
        async with asyncio.timeout(20):
            while (found := await app.runtime.gateway.load(handles[0].id)) is None or (
                found.invocation.attempt == 0 or found.invocation.status is not Status.FAILED
            ):
                await asyncio.sleep(0)
        shop.broken = False
        assert await app.steer_calls("fork") == 1
        assert await app.steer_calls("fork") == 0


async def test_a_fork_has_the_timeout_of_its_handler(app: App) -> None:
    """However it was made: what makes it need not know the handler."""

    async def fails() -> None:
        raise ValueError("broken")

    @app.workflow(timeout=3600)
    async def slow() -> None:
        await step(fails)
        await asyncio.sleep(7200)

    async with app:
        handle = await slow.options(id="a", timeout=60).start()
        await failed(handle)
        by_handle = await handle.fork(results={"fails": None})
        gateway, clock = app.runtime.gateway, app.runtime.gateway.clock
        loaded = await gateway.load("a")
        assert loaded is not None
        shell, _ = await fork_of(
            gateway.storage,
            loaded,
            step=None,
            results={"fails": "null"},
            new_id="by-shell",
            clock=clock,
            partition_count=app.runtime.registry.partition_count,
        )
        await gateway.send_many([shell])
        assert await app.steer_calls("fork", handler=slow.name, step="fails") == 1
        begun: set[str] = set()
        async with asyncio.timeout(20):
            while len(begun) < 3:
                for each in (await app.list_calls()).calls:
                    found = await gateway.load(each.id)
                    if found is None or each.id == "a" or not found.entries[-1].attempt:
                        continue
                    call = found.invocation
                    assert call.deadline_at == call.created_at + 3600
                    begun.add(each.id)
        assert {by_handle.id, "by-shell"} < begun


def test_the_time_of_a_fork_runs_out() -> None:
    app = App("late", url="memory:")

    async def fails() -> None:
        raise ValueError("broken")

    @app.workflow(timeout=60)
    async def slow() -> None:
        await step(fails)
        await asyncio.sleep(7200)

    async def scenario() -> None:
        handle = await slow.start()
        await failed(handle)
        again = await handle.fork(results={"fails": None})
        began = asyncio.get_running_loop().time()
        with pytest.raises(CallTimedOut):
            await again.result()
        assert 59 <= asyncio.get_running_loop().time() - began <= 61

    run(app, scenario)


def shaped(app: App) -> Any:
    """Workflows that ask for their commands one after the other, at once, and both; the last one fails."""
    fails = [True]

    async def work(number: int) -> int:
        for _ in range(number % 3):
            await asyncio.sleep(0)
        return number

    async def end(number: int) -> int:
        if fails[0]:
            raise ValueError("not yet")
        return number

    @app.task
    async def leaf(number: int) -> int:
        return number

    @app.workflow
    async def shape(kind: str) -> int:
        await step(work, 1)
        if kind == "in a row":
            await step(work, 2)
            await leaf(3)
        elif kind == "at once":
            await asyncio.gather(step(work, 2), leaf(3), step(work, 4))
        else:
            early = asyncio.ensure_future(step(work, 2))
            await leaf(3)
            await asyncio.sleep(5)
            await early
        return await step(end, 7)

    return shape, fails


@pytest.mark.parametrize("kind", ["in a row", "at once", "early"])
def test_forks_of_forks(kind: str) -> None:
    app = App("again", url="memory:")
    shape, fails = shaped(app)

    async def scenario() -> None:
        first = await shape.start(kind)
        await failed(first)
        for places in product(range(1, 5), repeat=3):
            handle = first
            for place in places:
                handle = await handle.fork(place)
                await failed(handle)
            fails[0] = False
            again = await handle.fork()
            assert await again.result(20) == 7, places
            fails[0] = True

    run(app, scenario)


async def test_what_cannot_be_forked(app: App) -> None:
    shop = Shop(app)

    @app.workflow
    async def waits() -> None:
        await wait_signal("go")

    @app.task
    async def task() -> None: ...

    async with app:
        handle = await shop.checkout.options(id="a").start("tea", 5)
        await failed(handle)
        with pytest.raises(UsageError, match="has no command 9"):
            await handle.fork(9)
        with pytest.raises(UsageError, match="no step or call named 'pay'"):
            await handle.fork("pay")
        with pytest.raises(UsageError, match="no outcome of command 3 before command 2"):
            await handle.fork(2, results={3: "x"})
        with pytest.raises(AlreadyExists):
            await handle.fork(id="a")
        with pytest.raises(CallNotFound):
            await app.handle("nobody").fork()
        waiting = await waits.start()
        async with asyncio.timeout(20):
            while await waiting.status() is not Status.SUSPENDED:
                await asyncio.sleep(0)
        with pytest.raises(UsageError, match="only a call that has ended"):
            await waiting.fork()
        await waiting.signal("go")
        await waiting.result()
        with pytest.raises(UsageError, match="has asked for no step or call"):
            await waiting.fork()
        done = await task.start()
        await done.result()
        with pytest.raises(UsageError, match="has asked for no step or call"):
            await done.fork()


@pytest.mark.guarantee("step-once")
def test_a_crash_anywhere_changes_nothing() -> None:
    app = App("crashing", url="memory:")

    async def number_of(number: int) -> int:
        if number == 3:
            raise ValueError("not three")
        return number

    @app.workflow
    async def child(number: int) -> int:
        return await step(number_of, number) * 10

    @app.workflow
    async def parent() -> list[int]:
        found = [await step(number_of, 1), await child(2)]
        found.append(await step(number_of, 3))
        return [*found, await child(4), await step(number_of, 5)]

    async def scenario() -> Any:
        handle = await parent.options(id="p").start()
        await failed(handle)
        again = await handle.fork(results={"number_of": 33}, id="q")
        return await again.result()

    assert crash_everywhere(app, scenario) >= 8
