from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenbu._core.retry import Retry
from fenbu.errors import EncodingError, TerminalError, UsageError


@given(
    attempt=st.integers(1, 10**6),
    random=st.floats(0, 1, exclude_max=True),
    first=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    most=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)
def test_a_delay_is_never_beyond_its_bounds(
    attempt: int, random: float, first: float, factor: float, most: float, jitter: float
) -> None:
    retry = Retry(first_seconds=first, factor=factor, max_seconds=most, jitter=jitter)
    assert 0 <= retry.delay(attempt, random) <= most * (1 + jitter)


def test_delays_grow_by_the_factor() -> None:
    retry = Retry(first_seconds=1, factor=3, max_seconds=20, jitter=0)
    assert [retry.delay(each, 0.7) for each in (1, 2, 3, 4)] == [1, 3, 9, 20]


@pytest.mark.parametrize(
    ("retry", "attempt", "error", "again"),
    [
        (Retry(attempts=3), 2, ValueError(), True),
        (Retry(attempts=3), 3, ValueError(), False),
        (Retry(attempts=None), 10**9, ValueError(), True),
        (Retry(never=(ValueError,)), 1, UnicodeError(), False),
        (Retry(only=(OSError,)), 1, ValueError(), False),
        (Retry(only=(OSError,)), 1, TimeoutError(), True),
        (Retry(), 1, TerminalError(), False),
        (Retry(), 1, EncodingError(), False),
        (Retry(), 1, asyncio.CancelledError(), False),
        (Retry(), 1, SystemExit(), False),
    ],
)
def test_what_is_tried_again(retry: Retry, attempt: int, error: BaseException, again: bool) -> None:
    assert retry.again(attempt, error) is again


@pytest.mark.parametrize(
    "fields", [{"attempts": 0}, {"first_seconds": -1}, {"factor": 0.5}, {"jitter": 2}]
)
def test_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(fields))):
        Retry(**fields)
