"""The test kit, as a user would use it."""

from __future__ import annotations

import asyncio
import time

import pytest

import fenbu
from fenbu import App, Entity, Unavailable, operation, step
from fenbu.testing import SimulationFailed, crash_everywhere, run, simulate

MONTH = 30 * 86400.0


@pytest.fixture
def app() -> App:
    return App("kit", url="memory:")


def test_a_month_takes_no_time(app: App) -> None:
    @app.workflow(name="remind")
    async def remind(name: str) -> float:
        began = fenbu.now()
        await asyncio.sleep(MONTH)
        return (fenbu.now() - began).total_seconds()

    async def scenario() -> float:
        return await remind("Ada")

    began = time.monotonic()
    assert run(app, scenario) == pytest.approx(MONTH, abs=1)
    assert time.monotonic() - began < 30


def test_a_fake_runs_in_place_of_a_step_and_of_a_task(app: App) -> None:
    async def charge(cents: int) -> str:
        raise AssertionError("the real one")

    @app.task(name="ship")
    def ship(payment: str) -> str:
        raise AssertionError("the real one")

    @app.workflow(name="checkout")
    async def checkout(cents: int) -> str:
        return await ship(await step(charge, cents))

    async def scenario() -> str:
        return await checkout(5)

    with (
        app.override(charge, lambda cents: f"payment of {cents}"),
        app.override(ship, lambda payment: f"shipped after {payment}"),
    ):
        assert run(app, scenario) == "shipped after payment of 5"
    with pytest.raises(AssertionError, match="the real one"):
        run(app, scenario)


def test_what_the_scenario_raises_comes_out(app: App) -> None:
    async def scenario() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(app, scenario)


def test_waiting_for_nothing_is_an_error(app: App) -> None:
    async def scenario() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(fenbu.testing.NeverEnds):
        run(app, scenario)


def test_crashes_everywhere_are_survived(app: App) -> None:
    @app.entity(name="Stock")
    class Stock(Entity):
        units: int = 0

        @operation
        async def add(self, units: int) -> int:
            self.units += units
            return self.units

    async def work(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    @app.workflow(name="deliver")
    async def deliver(number: int) -> int:
        await step(work, number)
        await asyncio.sleep(60)
        return await Stock("a").add(number)

    async def scenario() -> int:
        return await deliver.options(id="d")(3)

    assert crash_everywhere(app, scenario) >= 4


def test_what_a_crash_changes_is_told(app: App) -> None:
    runs: list[int] = []

    @app.workflow(name="forgetful")
    async def forgetful() -> int:
        # What must not be: the code of a workflow asks a global variable.
        runs.append(1)
        await asyncio.sleep(1)
        return len(runs)

    async def scenario() -> int:
        runs.clear()
        return await forgetful.options(id="f")()

    with pytest.raises(SimulationFailed, match="after a crash behind commit"):
        crash_everywhere(app, scenario)


def test_faults_find_what_is_not_idempotent(app: App) -> None:
    sent: list[str] = []

    async def send(name: str) -> None:
        sent.append(name)
        await asyncio.sleep(0.5)

    @app.workflow(name="greet")
    async def greet(name: str) -> None:
        await step(send, name)

    async def careless() -> None:
        sent.clear()
        await asyncio.gather(*(greet.options(id=f"g{each}")(f"{each}") for each in range(5)))
        assert len(sent) == 5, "a greeting was sent twice"

    with pytest.raises(SimulationFailed, match=r"twice|Unavailable") as found:
        simulate(app, careless, seeds=300)
    assert f"seeds=[{found.value.seed}]" in str(found.value)


def test_faults_do_not_change_what_is_durable(app: App) -> None:
    @app.entity(name="Counter")
    class Counter(Entity):
        count: int = 0

        @operation
        async def add(self) -> int:
            self.count += 1
            return self.count

    async def patiently(number: int) -> None:
        while True:
            try:
                await Counter("c").add.options(id=f"add-{number}")()
            except Unavailable:
                await asyncio.sleep(0.5)
            else:
                return

    async def scenario() -> None:
        for number in range(5):
            await patiently(number)
            await asyncio.sleep(1.0)

    simulate(app, scenario, seeds=60, nodes=2)
