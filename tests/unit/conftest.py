from __future__ import annotations

import pytest

from tests.unit.drive import Drive


@pytest.fixture
def drive() -> Drive:
    return Drive()
