from __future__ import annotations

from pathlib import Path

import pytest

from fenbu import App
from tests.fixture.loop import run_coroutine_test, runner

__all__ = ["app", "runner"]


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return run_coroutine_test(pyfuncitem)


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> App:
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/app.db"
    return App("scenario", url=url, idle_seconds=0.05)
