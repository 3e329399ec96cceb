"""Alarms: one for each operation of an entity, set with its state or not at all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import fenbu
from fenbu import App, Entity, Status, UsageError, operation, step
from fenbu.testing import crash_everywhere, run, simulate


def make(app: App) -> type[Any]:
    @app.entity
    class Session(Entity):
        touched: int = 0
        log: list[str] = []

        async def touch(self, seconds: float) -> None:
            self.touched += 1
            self.alarm(seconds, self.expire, self.touched)

        async def touch_and_fail(self, seconds: float) -> None:
            self.alarm(seconds, self.expire, 99)
            raise ValueError("no")

        async def keep_open(self) -> None:
            self.cancel_alarm(self.expire)

        async def expire(self, touched: int) -> None:
            self.log.append(f"expired {touched}")

        async def beat(self, times: int) -> None:
            self.log.append(f"beat {times}")
            if times > 1:
                self.alarm(0.01, self.beat, times - 1)

        async def break_off(self) -> None:
            raise ValueError("an alarm that fails")

        async def set_break_off(self) -> None:
            self.alarm(0.01, self.break_off)

        async def forget(self) -> None:
            self.delete()

        @operation(read_only=True)
        async def cheat(self) -> None:
            self.alarm(1, self.expire, 1)

        @operation(read_only=True)
        async def lines(self) -> list[str]:
            return self.log

    return Session


async def until(session: Any, count: int) -> list[str]:
    while True:
        lines: list[str] = await session.lines()
        if len(lines) >= count:
            return lines


def test_an_alarm_rings_once_and_setting_it_again_replaces_it(app: App) -> None:
    session_class = make(app)

    async def main() -> None:
        async with app:
            session = session_class("a")
            await session.touch(3600)
            await session.touch(0.05)
            assert await until(session, 1) == ["expired 2"]
            await session.beat(3)
            assert await until(session, 4) == ["expired 2", "beat 3", "beat 2", "beat 1"]

    asyncio.run(main())


@pytest.mark.guarantee("entity-linear")
def test_an_operation_that_fails_sets_no_alarm_and_cancels_none(app: App) -> None:
    session_class = make(app)

    async def main() -> None:
        async with app:
            session = session_class("a")
            await session.touch(0.05)
            with pytest.raises(ValueError, match="no"):
                await session.touch_and_fail(0)
            with pytest.raises(UsageError, match="read_only"):
                await session.cheat()
            assert await until(session, 1) == ["expired 1"]

    asyncio.run(main())


def test_an_alarm_is_set_by_a_client_and_rings_at_the_node_that_starts_later(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/alarms.db"

    async def main() -> None:
        first, second = App("alarms", url=url), App("alarms", url=url)
        session_class, other = make(first), make(second)
        async with first:
            await session_class("a").touch(0.2)
        async with second:
            assert await until(other("a"), 1) == ["expired 1"]

    asyncio.run(main())


def test_what_makes_no_sense_says_so(app: App) -> None:
    @app.entity
    class Odd(Entity):
        n: int = 0

        async def naive(self) -> None:
            self.alarm(datetime(2030, 1, 1), self.naive)

        async def helper(self) -> None:
            self.alarm(1, _no_operation)

    async def _no_operation() -> None: ...

    async def main() -> None:
        async with app:
            with pytest.raises(UsageError, match="no time zone"):
                await Odd("a").naive()
            with pytest.raises(UsageError, match="no operation of Odd"):
                await Odd("a").helper()
            with pytest.raises(AttributeError):
                Odd("a").alarm(1, _no_operation)

    asyncio.run(main())


def test_an_alarm_comes_at_its_instant_by_virtual_time_and_costs_a_row_until_then() -> None:
    app = App("alarms", url="memory:")

    @app.entity
    class Bill(Entity):
        due: datetime | None = None
        rang: datetime | None = None

        async def issue(self, days: int) -> datetime:
            self.due = fenbu.now() + timedelta(days=days)
            self.alarm(self.due, self.remind)
            return self.due

        async def remind(self) -> None:
            self.rang = fenbu.now()

        @operation(read_only=True)
        async def state(self) -> datetime | None:
            return self.rang

    async def scenario() -> None:
        due = await Bill("a").issue(30)
        await asyncio.sleep(30 * 86_400 - 10)
        assert await Bill("a").state() is None
        await asyncio.sleep(20)
        rang = await Bill("a").state()
        assert rang is not None
        assert due <= rang <= due + timedelta(seconds=10)
        assert datetime.now(UTC) is not None

    run(app, scenario)


def test_a_failed_alarm_is_kept_and_can_be_set_again(app: App) -> None:
    session_class = make(app)

    async def main() -> None:
        async with app:
            session = session_class("a")
            for name in ("one", "two"):
                setter = session.set_break_off.options(id=name)
                await setter()
                alarm = app.handle(f"{name}/break_off")
                with pytest.raises(ValueError, match="an alarm that fails"):
                    await alarm.result(timeout=20)
            assert await app.handle("one/break_off").status() is Status.FAILED

    asyncio.run(main())


def test_who_is_deleted_has_no_alarm(app: App) -> None:
    session_class = make(app)

    async def main() -> None:
        async with app:
            session = session_class("a")
            await session.touch.options(id="touch")(0.2)
            await session.forget()
            with pytest.raises(fenbu.CallNotFound):
                await app.handle("touch/expire").status()
            await session.beat(1)
            await asyncio.wait_for(app.handle((await session.beat.start(1)).id).result(), 20)
            assert await session.lines() == ["beat 1", "beat 1"]

    asyncio.run(main())


@pytest.mark.guarantee("entity-linear")
def test_a_crash_anywhere_rings_no_alarm_twice_and_loses_none() -> None:
    app = App("alarms", url="memory:")

    async def work(n: int) -> int:
        return n

    @app.entity
    class Order(Entity):
        steps: list[str] = []

        @operation
        async def place(self, name: str) -> None:
            self.alarm(60, self.remind, name)
            self.steps.append(await step(_name, name))

        @operation
        async def pay(self) -> None:
            self.cancel_alarm(self.remind)
            self.alarm(30, self.ship)
            await step(work, 1)

        async def remind(self, name: str) -> None:
            self.steps.append(f"remind {name}")

        async def ship(self) -> None:
            await step(work, 2)
            self.steps.append("ship")

        @operation(read_only=True)
        async def all(self) -> list[str]:
            return self.steps

    async def _name(name: str) -> str:
        return name

    async def scenario() -> dict[str, list[str]]:
        for key in ("paid", "unpaid"):
            await Order(key).place.options(id=f"place-{key}")("first")
            await Order(key).place.options(id=f"again-{key}")("again")
        await Order("paid").pay.options(id="pay")()
        await asyncio.sleep(300)
        return {key: await Order(key).all() for key in ("paid", "unpaid")}

    assert run(app, scenario) == {
        "paid": ["first", "again", "ship"],
        "unpaid": ["first", "again", "remind again"],
    }
    assert crash_everywhere(app, scenario) >= 8
    simulate(app, _only(scenario), seeds=5)


def _only(scenario: Any) -> Any:
    async def patient() -> None:
        while True:
            try:
                found = await scenario()
            except fenbu.Unavailable:
                continue
            assert found["unpaid"][-1] == "remind again", found
            return

    return patient
