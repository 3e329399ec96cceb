"""The pytest plugin: what a user's test run does with marked tests."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

APP = """
import asyncio
import pytest
from fenbu import App, Entity, Unavailable, step

@pytest.fixture
def app():
    return made

made = App("shop", url="memory:")
tries = []

async def charge(cents: int) -> int:
    tries.append(cents)
    await asyncio.sleep(2)
    return cents

@made.workflow
async def checkout(cents: int) -> int:
    paid = await step(charge, cents)
    await asyncio.sleep(30 * 86400)
    return paid
"""


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:anyio --strict-markers\n")
    return pytester


def test_a_marked_test_runs_on_virtual_time(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        APP
        + """
@pytest.fixture
def cents():
    return 7

@pytest.mark.fenbu
async def test_a_month(cents):
    assert await checkout(cents) == 7

@pytest.mark.fenbu(made)
async def test_it_fails():
    assert await checkout(5) == 6

@pytest.mark.fenbu(app="app", crash_everywhere=True)
async def test_crashes():
    assert await checkout.options(id="a")(5) == 5

@pytest.mark.fenbu
def test_ordinary():
    pass
"""
    )
    result = shop.runpytest_subprocess()
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*assert 5 == 6*"])


def test_a_seed_that_fails_is_told_with_the_command_that_runs_it_again(
    shop: pytest.Pytester,
) -> None:
    # A month costs a simulated cluster, whose nodes go on living meanwhile, 14 s of a processor.
    shop.makepyfile(
        APP.replace("30 * 86400", "60")
        + """
@pytest.mark.fenbu(seeds=40)
async def test_once():
    tries.clear()
    try:
        await checkout.options(id="a")(5)
    except Unavailable:
        return
    assert len(tries) == 1, "charged twice"
"""
    )
    result = shop.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    again = [each for each in result.outlines if " --fenbu-seed " in each]
    seed = again[-1].split()[-1]
    result = shop.runpytest_subprocess("--fenbu-seed", seed)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*seed {seed} fails: *charged twice*"])
    shop.runpytest_subprocess("--fenbu-seeds", "1").assert_outcomes(
        **({"failed": 1} if seed == "0" else {"passed": 1})
    )


def test_a_wrong_mark_is_told(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        APP
        + """
@pytest.mark.fenbu("nothing")
async def test_a(): ...

@pytest.mark.fenbu(5)
async def test_b(): ...

@pytest.mark.fenbu(seed=5)
async def test_c(): ...
"""
    )
    result = shop.runpytest_subprocess()
    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    assert "fixture 'nothing' not found" in text
    assert "needs an App" in text
    assert "the mark is fenbu(app=" in text
