"""Errors keep their type where it is known, and their text everywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fenbu.errors
from fenbu._core.failure import error_of, failure_of
from fenbu._core.model import Failure
from fenbu.errors import CallFailed


class OutOfStock(Exception):
    def __init__(self, sku: str, *, left: int) -> None:
        super().__init__(f"only {left} of {sku}")
        self.sku = sku
        self.left = left
        self.lock = object()


class Slotted(Exception):
    __slots__ = ("a",)

    def __init__(self, a: int) -> None:
        self.a = a
        super().__init__(a)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_type_text_and_attributes_survive() -> None:
    error: Any = error_of(failure_of(raised(OutOfStock("sku-1", left=3))))
    assert type(error) is OutOfStock
    assert (str(error), error.sku, error.left) == ("only 3 of sku-1", "sku-1", 3)
    assert "test_failure.py" in error.__notes__[0]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("k"),
        TimeoutError(),
        FileNotFoundError(2, "gone"),
        Slotted(1),
        ZeroDivisionError(),
    ],
    ids=repr,
)
def test_common_errors_survive(error: Exception) -> None:
    again = error_of(failure_of(raised(error)))
    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), asyncio.CancelledError()])
def test_what_would_steer_the_receiver_arrives_as_a_failed_call(error: BaseException) -> None:
    assert type(error_of(failure_of(raised(error)))) is CallFailed


def test_an_unknown_type_is_a_failed_call_and_is_not_imported() -> None:
    error = error_of(Failure("antigravity:Fly", "high", "traceback"))
    assert isinstance(error, CallFailed)
    assert (error.type, error.message, error.remote_traceback) == (
        "antigravity:Fly",
        "high",
        "traceback",
    )
    again = failure_of(error)
    assert (again.type, again.message) == ("antigravity:Fly", "high")


@pytest.mark.parametrize(
    "type_", ["os:system", "builtins:print", "builtins:BaseException", "x", "builtins:"]
)
def test_nothing_but_exceptions_is_made(type_: str) -> None:
    assert type(error_of(Failure(type_, "m", args='["true"]'))) is CallFailed


def test_groups_keep_their_members() -> None:
    group = ExceptionGroup("several", [ValueError("a"), OutOfStock("s", left=1)])
    again: Any = error_of(failure_of(raised(group)))
    assert isinstance(again, ExceptionGroup)
    assert [type(each) for each in again.exceptions] == [ValueError, OutOfStock]


def test_errors_that_misbehave_are_stored_all_the_same() -> None:
    assert failure_of(raised(Unprintable())).type.endswith("Unprintable")
    assert "\ud800" not in failure_of(raised(ValueError("\ud800\0"))).message
    assert len(failure_of(raised(ValueError("x" * 10**6))).message) < 10_000


@pytest.mark.parametrize(
    "name", [each for each in dir(fenbu.errors) if isinstance(getattr(fenbu.errors, each), type)]
)
def test_fenbus_own_errors_survive(name: str) -> None:
    cls = getattr(fenbu.errors, name)
    error = CallFailed("a:B", "m", "t") if cls is CallFailed else cls("text")
    again = error_of(failure_of(raised(error)))
    assert (type(again), str(again)) == (cls, str(error))
