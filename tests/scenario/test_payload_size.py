"""Values that are too large are refused where they are passed or returned, and the error says which it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fenbu import App, Entity, PayloadTooLarge, UsageError, heartbeat, step, stream


async def fetch(size: int) -> str:
    return "x" * size


async def beat() -> None:
    heartbeat("x" * 2000)


async def say(name: str) -> None:
    await stream(name, str).write("x" * 2000)


@pytest.fixture
def made(tmp_path: Path) -> tuple[App, Any]:
    app = App("sizes", url=f"sqlite:///{tmp_path}/sizes.db", payload_bytes_max=1000)

    @app.entity
    class Cart(Entity):
        items: list[str] = []
        note: str = ""

        async def fill(self, size: int) -> None:
            self.note = "kept"
            self.items = ["x" * size]

        async def read(self) -> str:
            return self.note

    @app.workflow(name="crawl")
    async def crawl(size: int, *, here: bool = False) -> str:
        return "y" * size if here else await step(fetch, size)

    @app.task(name="task")
    async def task(size: int, text: str = "") -> str:
        return "x" * size

    return app, (Cart, crawl, task)


async def test_what_a_body_says_is_not_its_result(tmp_path: Path) -> None:
    app = App("sizes", url=f"sqlite:///{tmp_path}/sizes.db", payload_bytes_max=1000)
    says, beats = app.task(name="says")(say), app.task(name="beats")(beat)

    @app.workflow(name="code")
    async def code(how: str) -> None:
        await (step(say, "b") if how == "step" else step(beat) if how == "beat" else say("b"))

    async with app:
        with pytest.raises(
            PayloadTooLarge, match=r"^a value of stream 'b' of says has 2,002 bytes"
        ):
            await says("b")
        with pytest.raises(PayloadTooLarge, match=r"^the heartbeat of task beats has 2,002 bytes"):
            await beats()
        with pytest.raises(PayloadTooLarge, match=r"^a value of stream 'b' of say has 2,002 bytes"):
            await code("step")
        with pytest.raises(PayloadTooLarge, match=r"^the heartbeat of step beat has 2,002 bytes"):
            await code("beat")
        with pytest.raises(
            PayloadTooLarge, match=r"^a value of stream 'b' of code has 2,002 bytes"
        ):
            await code("code")


async def test_each_place_is_named(made: tuple[App, Any]) -> None:
    app, (cart, crawl, task) = made
    async with app:
        assert len(await task(998)) == 998
        with pytest.raises(
            PayloadTooLarge, match=r"task\(text=…\), with the other arguments, has 2,0"
        ):
            await task(1, "x" * 2000)
        with pytest.raises(PayloadTooLarge, match="the result of task task has 1,001 bytes"):
            await task(999)
        with pytest.raises(PayloadTooLarge, match="the result of step fetch has 1,001 bytes"):
            await crawl(999)
        with pytest.raises(
            PayloadTooLarge, match=r"the result of crawl \S+ has 1,001 bytes"
        ) as info:
            await crawl(999, here=True)
        assert (info.value.size, info.value.bytes_max) == (1001, 1000)
        with pytest.raises(
            PayloadTooLarge, match="state of Cart/user-1, of which field items is the"
        ):
            await cart("user-1").fill(1000)
        assert await cart("user-1").read() == ""
        with pytest.raises(PayloadTooLarge, match="the value of signal go has 1,002 bytes"):
            await task.handle("a").signal("go", "x" * 1000)
        for ask in (task.handle("a").update, task.handle("a").query):
            with pytest.raises(
                PayloadTooLarge, match="'say' is asked with, of which argument number 2"
            ):
                await ask("say", 1, "x" * 1000)
            with pytest.raises(
                PayloadTooLarge, match="'say' is asked with, of which argument text"
            ):
                await ask("say", 1, text="x" * 1000)


@pytest.mark.parametrize("most", [0, -1, "64 MiB", True])
def test_a_limit_is_a_number_of_bytes(most: Any) -> None:
    with pytest.raises(UsageError, match="payload_bytes_max"):
        App("sizes", payload_bytes_max=most)
