"""The examples of docs/testing.md are files that a user could have: they run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fenbu._core.history import Histories, History, write
from fenbu._core.model import Entry, EntryKind, Invocation, Loaded, Status

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
FILES: dict[str, str] = dict(
    re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
)
TESTS = {
    "test_shop": 3,
    "test_crashes": 2,
    "test_faults": 1,
    "test_histories": 1,
}


def test_all_of_the_page_is_tried() -> None:
    assert set(FILES) == {"shop", *TESTS}


@pytest.mark.parametrize("name", TESTS)
def test_an_example_runs(pytester: pytest.Pytester, name: str) -> None:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:anyio --strict-markers\n")
    pytester.makepyfile(shop=FILES["shop"], **{name: FILES[name]})
    folder = pytester.mkdir("histories")
    (folder / "order-7.json").write_bytes(write(_history()))
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=TESTS[name])


def _history() -> Histories:
    call = Invocation(
        id="order-7", partition=0, handler="remind", args='{"name":"Ada"}', started_at=1.0,
        status=Status.COMPLETED, result='"reminded Ada"', commands='[["timer","","shop.py:32"]]',
    )  # fmt: skip
    entry = Entry("order-7", 1, EntryKind.TIMER_FIRED, 9e6, 1)
    return Histories([History(Loaded(call, [entry]))])
