from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixture.postgres import Server, binaries


@pytest.fixture
def server() -> Iterator[Server]:
    """One of its own, to be crashed."""
    server = Server(binaries())
    yield server
    server.remove()
