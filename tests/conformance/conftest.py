from __future__ import annotations

import pytest

from tests.fixture.loop import run_coroutine_test
from tests.fixture.postgres import postgres
from tests.fixture.process import spawn
from tests.fixture.storage import connect, disk, runner, storage

__all__ = ["connect", "disk", "postgres", "runner", "spawn", "storage"]


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return run_coroutine_test(pyfuncitem)
