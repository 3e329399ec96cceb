from __future__ import annotations

import pytest

from tests.fixture.loop import run_coroutine_test, runner
from tests.unit.drive import Drive

__all__ = ["runner"]


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return run_coroutine_test(pyfuncitem)


@pytest.fixture
def drive() -> Drive:
    return Drive()
