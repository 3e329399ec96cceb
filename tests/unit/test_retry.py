from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenbu._core.retry import NO_RETRY, Retry
from fenbu.errors import EncodingError, TerminalError, UsageError


@given(
    attempt=st.integers(1, 10**6),
    random=st.floats(0, 1, exclude_max=True),
    first=st.floats(0, 1e6),
    factor=st.floats(1, 1e300) | st.integers(1, 10**9),
    most=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)
def test_a_delay_is_never_beyond_its_bounds(
    attempt: int, random: float, first: float, factor: float, most: float, jitter: float
) -> None:
    retry = Retry(first_seconds=first, factor=factor, max_seconds=most, jitter=jitter)
    whole = Retry(first_seconds=first, factor=factor, max_seconds=most, jitter=0)
    seconds = whole.delay(attempt, random)
    assert whole.delay(1, random) == min(first, most)
    assert seconds <= whole.delay(attempt + 1, random) <= most
    assert seconds * (1 - jitter) <= retry.delay(attempt, random) <= seconds


def test_delays_grow_by_the_factor() -> None:
    retry = Retry(first_seconds=1, factor=3, max_seconds=20, jitter=0)
    assert [retry.delay(each, 0.7) for each in (1, 2, 3, 4)] == [1, 3, 9, 20]


def test_jitter_takes_off_a_part_that_chance_decides() -> None:
    retry = Retry(first_seconds=10, jitter=0.5)
    assert [retry.delay(1, each) for each in (0, 0.5, 1)] == [10, 7.5, 5]


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
        (NO_RETRY, 1, ValueError(), False),
        (Retry(), 1, ExceptionGroup("", [ValueError(), OSError()]), True),
        (Retry(), 1, ExceptionGroup("", [ValueError(), TerminalError()]), False),
        (Retry(never=(OSError,)), 1, ExceptionGroup("", [TimeoutError()]), False),
        (Retry(never=(ExceptionGroup,)), 1, ExceptionGroup("", [ValueError()]), False),
        (Retry(only=(OSError,)), 1, ExceptionGroup("", [TimeoutError()]), True),
        (Retry(only=(OSError,)), 1, ExceptionGroup("", [TimeoutError(), ValueError()]), False),
        (Retry(only=(ExceptionGroup,)), 1, ExceptionGroup("", [ValueError()]), True),
        (Retry(), 1, BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()]), False),
        (Retry(only=()), 1, ValueError(), False),
    ],
    ids=repr,
)
def test_what_is_tried_again(retry: Retry, attempt: int, error: BaseException, again: bool) -> None:
    assert retry.again(attempt, error) is again


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0),
        ("attempts", 1.5),
        ("attempts", True),
        ("attempts", "3"),
        ("first_seconds", -1),
        ("first_seconds", math.inf),
        ("factor", 0.5),
        ("factor", math.inf),
        ("max_seconds", math.nan),
        ("max_seconds", None),
        ("jitter", 2),
        ("never", ValueError),
        ("never", (KeyboardInterrupt,)),
        ("only", [OSError]),
        ("only", (1,)),
    ],
)
def test_nonsense_is_refused_and_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"Retry\({field}=.*\): must be "):
        Retry(**{field: value})
