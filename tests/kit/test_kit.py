"""The test kit, as a user would use it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import fenbu
from fenbu import (
    App,
    CallNotFound,
    Entity,
    Retry,
    Status,
    Unavailable,
    UsageError,
    operation,
    step,
    wait_signal,
)
from fenbu._core.history import Histories, History, write
from fenbu._core.model import Entry, EntryKind, Invocation, Loaded
from fenbu.testing import (
    ReplayDiverged,
    SimulationFailed,
    crash_everywhere,
    history_of,
    replay,
    run,
    simulate,
)

MONTH = 30 * 86400.0


@pytest.fixture
def app() -> App:
    return App("kit", url="memory:")


async def debit(cents: int) -> int:
    await asyncio.sleep(0.01)
    return cents


def test_what_a_call_did_can_be_asserted(app: App) -> None:
    tries = 0

    async def charge(cents: int) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("not now")
        return cents

    async def refuse() -> None:
        raise ValueError("no money")

    retry = Retry(attempts=5, first_seconds=60)

    @app.workflow(name="checkout")
    async def checkout(cents: int) -> int:
        paid = await step.options(retry=retry, name="charge")(charge, cents)
        if await wait_signal("approval", bool):
            await step.options(name="refuse")(refuse)
        return paid

    async def scenario() -> None:
        handle = await checkout.options(id="order-7").start(5)
        with pytest.raises(CallNotFound):
            history_of("order-8")
        await asyncio.sleep(86400)
        history = history_of(handle)
        assert (history.status, history.result, history.error) == (Status.SUSPENDED, None, None)
        assert history.steps == ["charge"]
        await handle.signal("approval", True)
        with pytest.raises(ValueError, match="no money"):
            await handle.result()
        history = history_of("order-7")
        assert history.steps == ["charge", "refuse"]
        assert history.attempts("charge") == 3
        assert history.attempts("other") == 0
        assert history.events[-3:] == (
            "step_completed charge", "signal_received approval", "step_failed refuse",
        )  # fmt: skip
        assert history.has_asked("step charge", "step refuse")
        assert not history.has_asked("step refuse", "step charge")
        assert history.has_seen("step_retrying charge", "step_failed refuse")
        assert (history.status, history.error) == (Status.FAILED, "ValueError: no money")

    run(app, scenario)
    with pytest.raises(UsageError, match="while they run"):
        history_of("order-7")


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

    @app.workflow(name="deliver")
    async def deliver(number: int) -> int:
        await step(debit, number)
        await asyncio.sleep(60)
        return await Stock("a").add(number)

    async def scenario() -> int:
        result = await deliver.options(id="d")(3)
        history = history_of("d")
        assert history.asked == ("step debit", "timer", "call Stock.add")
        assert history.has_seen("step_completed debit", "call_finished Stock.add")
        return result

    assert crash_everywhere(app, scenario) >= 4
    assert crash_everywhere(app, deliver, 3) >= 4


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


def test_histories_of_a_folder_are_replayed(app: App, tmp_path: Path) -> None:
    @app.workflow(name="checkout")
    async def checkout(cents: int) -> int:
        return await step(debit, cents)

    entry = Entry(
        "order-7",
        1,
        EntryKind.STEP_COMPLETED,
        2.0,
        1,
        attempt=1,
        status=Status.COMPLETED,
        value="5",
    )
    call = Invocation(
        id="order-7", partition=0, handler="checkout", args='{"cents":5}', started_at=1.0,
        status=Status.COMPLETED, result="5", commands='[["step","debit","shop.py:7"]]',
    )  # fmt: skip
    (tmp_path / "order-7.json").write_bytes(write(Histories([History(Loaded(call, [entry]))])))
    assert replay(tmp_path, app) == 1
    assert replay(str(tmp_path / "order-7.json"), app) == 1

    changed = App("kit", url="memory:")

    @changed.workflow(name="checkout")
    async def other(cents: int) -> int:
        await asyncio.sleep(1)
        return await step(debit, cents)

    with pytest.raises(
        ReplayDiverged, match=r"order-7.json: checkout order-7 at journal position 0"
    ) as info:
        replay(tmp_path, changed)
    assert info.value.divergence.recorded == "step debit at shop.py:7"
    with pytest.raises(UsageError, match=r"none\.json cannot be read"):
        replay(tmp_path / "none.json", app)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UsageError, match=r"a\.json: this is no history"):
        replay(tmp_path, app)
