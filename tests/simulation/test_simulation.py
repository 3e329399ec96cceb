"""Real nodes on simulated clusters under faults: no seed may break a promise, and a seed is the same run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fenbu._testing.faults import KINDS
from fenbu._testing.simulation import plan_of
from tests.simulation.many import run_many
from tests.simulation.run import run_plan, run_seed, smallest
from tests.simulation.workload import WORKLOADS

SEEDS = 3000


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("one-outcome")
@pytest.mark.guarantee("step-once")
@pytest.mark.guarantee("transaction-once")
@pytest.mark.guarantee("entity-linear")
@pytest.mark.guarantee("message-once-in-order")
@pytest.mark.guarantee("no-split-brain")
@pytest.mark.timeout(600)
def test_no_promise_is_broken_under_faults() -> None:
    chunks = list(run_many(0, SEEDS, os.cpu_count() or 1))
    failed = [each for chunk in chunks for each in chunk.failed]
    assert failed == [], "python -m tests.simulation --seed N --shrink"
    assert sum(chunk.seeds for chunk in chunks) == SEEDS
    for name in KINDS:
        assert sum(chunk.faults[name] for chunk in chunks) > SEEDS // 20, name
    for name in WORKLOADS:
        # A seed chooses two of them, on average.
        assert sum(chunk.workloads[name] for chunk in chunks) > SEEDS // len(WORKLOADS), name


def test_a_seed_is_the_same_run_to_the_byte() -> None:
    program = (
        "from tests.simulation.run import run_seed\n"
        "print([run_seed(seed).digest for seed in range(40)])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True,
        ).stdout
        for salt in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
    assert run_seed(3).digest in found.pop()


def test_a_plan_that_fails_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    # What must not be: the inbox of a partition that was taken is not read.
    monkeypatch.setattr("fenbu._node.wakeup.Wakeup.adopt", _forgetful)
    plan = next(plan for seed in range(200) if not run_seed(seed).ok for plan in (plan_of(seed),))
    found = smallest(plan)
    assert not run_plan(found).ok
    assert len(found.faults) <= len(plan.faults)


async def _forgetful(self, numbers, take) -> None:
    take()
