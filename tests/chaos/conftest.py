from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixture.postgres import Server, binaries


@pytest.fixture
def server() -> Iterator[Server]:
    """One of its own, to be crashed."""
    server = Server(binaries())
    yield server
    server.remove()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those of this folder take as long as they are told to, and then until all is checked."""
    seconds = config.getoption("--minutes") * 60 + 300
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(seconds))
