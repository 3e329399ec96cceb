"""Refuses, where something of `fenbu.contrib` is made, what would fail or do harm only when it is used."""

from __future__ import annotations

from math import isfinite
from typing import Any

import fenbu


def seconds(where: str, value: Any, *, zero: bool = False) -> None:
    """A duration: a finite number above 0, or from 0.

    Raises:
        UsageError: It is none.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not number or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "above 0"
        raise fenbu.UsageError(f"{where}={value!r}): must be a number of seconds, {least}")


def count(where: str, value: Any) -> None:
    """A whole number from 1.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise fenbu.UsageError(f"{where}={value!r}): must be a whole number from 1")


def secret(where: str, value: Any) -> None:
    """Bytes, and not empty. The error leaves the value out: it may be a secret all the same.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, bytes) or not value:
        what = "empty" if value == b"" else type(value).__name__
        raise fenbu.UsageError(f"{where}=…): must be bytes, and some; this is {what}")
