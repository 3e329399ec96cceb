"""Read-only operations of one key, at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fenbu import App, DeadlockError, Entity, Lazy, UsageError, operation, step
from fenbu.testing import crash_everywhere


@pytest.mark.guarantee("entity-linear")
def test_reads_meet_and_a_write_comes_behind_them(app: App) -> None:
    meeting: list[asyncio.Barrier] = []

    async def meet() -> None:
        async with asyncio.timeout(20):
            await meeting[0].wait()

    @app.entity
    class Page(Entity):
        text: str = "old"

        async def write(self, text: str) -> None:
            self.text = text

        @operation(read_only=True)
        async def read(self) -> str:
            await step(meet)
            return self.text

    async def main() -> None:
        meeting[:] = [asyncio.Barrier(3)]
        async with app:
            first = [await Page("a").read.start() for _ in range(2)]
            write = await Page("a").write.options(id="w").start("new")  # type: ignore[attr-defined]
            behind = [await Page("a").read.start() for _ in range(2)]
            async with asyncio.timeout(20):
                await meeting[0].wait()
                assert [await each.result() for each in first] == ["old", "old"]
                await write.result()
                await meeting[0].wait()
                assert [await each.result() for each in behind] == ["new", "new"]

    asyncio.run(main())


async def test_what_a_read_may_not_do_is_wrong_use(app: App) -> None:
    @app.entity
    class Page(Entity):
        text: str = "old"
        notes: Lazy[list[str]]

        async def write(self, text: str) -> str:
            self.text = text
            return text

        @operation(read_only=True)
        async def read(self) -> str:
            return self.text

        @operation(read_only=True)
        async def wrong(self, how: str) -> None:
            match how:
                case "state":
                    self.text = "changed"
                case "alarm":
                    self.alarm(3600, self.write, "later")
                case "no alarm":
                    self.cancel_alarm(self.write)
                case "lazy":
                    self.notes.set(["changed"])
                case _:
                    self.delete()

        @operation(read_only=True)
        async def ask(self) -> str:
            return self.send_later(0, self.write, "asked").id

    page: Any = Page("a")
    async with app:
        await page.write("new")
        for how, did in (
            ("state", "changed the state of Page"),
            ("alarm", "set or cancelled an alarm of Page"),
            ("no alarm", "set or cancelled an alarm of Page"),
            ("delete", "deleted Page"),
            ("lazy", "sets the lazy field notes"),
        ):
            with pytest.raises(
                UsageError, match=rf"Page\.wrong is marked read_only.* {did}"
            ) as info:
                await page.wrong(how)
            assert type(info.value) is UsageError
            assert await page.read() == "new"
        assert await app.handle(await page.ask()).result() == "asked"
        assert await page.read() == "asked"


def test_reads_that_wait_for_writes_of_each_other_are_a_circle(app: App) -> None:
    @app.entity
    class Side(Entity):
        n: int = 0

        async def write(self) -> int:
            self.n += 1
            return self.n

        @operation(read_only=True)
        async def cross(self, other: str) -> int:
            await asyncio.sleep(0.05)
            return await Side(other).write()

    async def main() -> None:
        async with app:
            crossed = await asyncio.gather(
                Side("x").cross("y"), Side("y").cross("x"), return_exceptions=True
            )
            assert sorted(type(each).__name__ for each in crossed) == ["DeadlockError", "int"]
            with pytest.raises(DeadlockError, match="Side/x → Side/x"):
                await Side("x").cross("x")

    asyncio.run(main())


@pytest.mark.guarantee("entity-linear")
def test_a_crash_anywhere_lets_no_read_see_half_a_write() -> None:
    app = App("reads", url="memory:")

    async def work(n: int) -> int:
        return n

    @app.entity
    class Pair(Entity):
        left: int = 0
        right: int = 0

        @operation
        async def write(self, n: int) -> None:
            self.left = n
            self.right = await step(work, n)

        @operation(read_only=True, retention=3600)
        async def read(self) -> tuple[int, int]:
            before = self.left
            await step(work, 0)
            return before, self.right

    async def scenario() -> list[tuple[int, int]]:
        handles = []
        for n in range(1, 4):
            await Pair("p").write.options(id=f"w{n}").start(n)
            handles += [
                await Pair("p").read.options(id=f"r{n}-{each}").start() for each in range(2)
            ]
        return [await each.result() for each in handles]

    assert crash_everywhere(app, scenario) >= 4
