from __future__ import annotations

from pathlib import Path

import pytest

from fenbu import App
from tests.fixture.loop import run_coroutine_test, runner
from tests.fixture.postgres import new_url, postgres

__all__ = ["app", "postgres", "runner"]


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return run_coroutine_test(pyfuncitem)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> App:
    match request.param:
        case "memory":
            url = "memory:"
        case "sqlite":
            url = f"sqlite:///{tmp_path}/app.db"
        case _:
            url = new_url(request.getfixturevalue("postgres"))
    return App("scenario", url=url, idle_seconds=0.05)
