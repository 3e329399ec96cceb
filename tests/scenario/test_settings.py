"""Settings that mean nothing are refused where they are given."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu import App, UsageError, step
from fenbu._api.step import Step


@pytest.mark.parametrize(
    "setting",
    [
        {"process_tasks_max": 0},
        {"process_tasks_max": -3},
        {"process_tasks_max": 2.5},
        {"process_megabytes_max": -3},
        {"process_megabytes_max": 0},
        {"process_megabytes_max": float("inf")},
        {"processes": 0},
        {"threads": 0},
        {"concurrency": 0},
    ],
)
def test_of_an_app(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(UsageError, match=f"^{name} must be"):
        App("settings", **setting)


def test_those_that_mean_something() -> None:
    options = App("settings", process_tasks_max=1, process_megabytes_max=0.5).node_options
    assert (options.process_tasks_max, options.process_megabytes_max) == (1, 0.5)
    assert options.processes >= 1


@pytest.mark.parametrize("soft", [10, 5])
def test_a_soft_limit_comes_before_the_hard_one(app: App, soft: float) -> None:
    with pytest.raises(UsageError, match=r"soft_timeout \(.* must be shorter than attempt_timeout"):
        app.task(soft_timeout=soft, attempt_timeout=5)(len)
    with pytest.raises(UsageError, match=r"must be shorter than timeout \(5 seconds\)"):
        step.options(timeout=5).options(soft_timeout=soft)
    assert isinstance(step.options(timeout=5, soft_timeout=4), Step)


async def test_only_a_parent_can_say_what_its_end_means(app: App) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    @app.workflow
    async def parent() -> int:
        return await work.options(on_parent_end="cancel")(1) + await step(inner)

    async def inner() -> int:
        return await work.options(on_parent_end="cancel")(2)

    bound = work.options(on_parent_end="wait")
    async with app:
        for call in (bound(1), bound.start(1), app.start_many([bound.bind(1)]), parent()):
            with pytest.raises(UsageError, match=r"work: on_parent_end is for calls"):
                await call
        assert await work.options(on_parent_end="abandon")(3) == 3
