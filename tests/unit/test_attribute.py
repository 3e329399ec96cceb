"""Search attributes as values, as JSON and as conditions."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenbu._core import limit
from fenbu._core.attribute import OPERATORS, condition, decoded, encoded, holds, merged
from fenbu.errors import UsageError

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

values = st.one_of(
    st.text("abü\U0001f600 ", max_size=9), st.booleans(), st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)),
)  # fmt: skip


@given(each=st.dictionaries(st.sampled_from("abcdef"), values, min_size=1))
def test_values_come_back_with_their_types(each: dict[str, Any]) -> None:
    found = decoded(encoded(each))
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in each.items()
    }
    for name, value in each.items():
        if isinstance(value, datetime):
            assert abs(found[name] - value) < timedelta(milliseconds=1)
        else:
            assert found[name] == value


def test_changes_are_merged_and_none_takes_away() -> None:
    first = encoded({"a": 1, "b": "x"})
    assert decoded(merged(first, encoded({"b": None, "c": True}) or "")) == {"a": 1, "c": True}
    assert merged(encoded({"a": 1}), encoded({"a": None}) or "") is None
    assert encoded({}) is None
    assert decoded(None) == {}


@given(own=values, wanted=values, operator=st.sampled_from(OPERATORS))
def test_conditions_compare_values_of_one_kind(own: Any, wanted: Any, operator: Any) -> None:
    def kind(value: object) -> type:
        return float if type(value) is int else type(value)

    found = holds(condition("a", operator, wanted), encoded({"a": own}))
    if kind(own) is not kind(wanted):
        assert not found
    elif not isinstance(own, datetime):
        expected = {
            "=": own == wanted, "<": own < wanted, "<=": own <= wanted, ">": own > wanted,
            ">=": own >= wanted,
        }  # fmt: skip
        assert found is expected[operator]


def test_a_call_without_the_attribute_fulfils_nothing() -> None:
    assert not holds(condition("a", ">=", -1), None)
    assert not holds(condition("a", ">=", -1), encoded({"b": 5}))
    assert holds(condition("at", "<", NOON), encoded({"at": NOON - timedelta(seconds=1)}))


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, 2**63, "x" * 1001, "ü" * 501, "a\0b", b"bytes", [1], datetime(2026, 1, 1)],
)
def test_what_is_no_attribute_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="attribute a:"):
        encoded({"a": value})


@pytest.mark.parametrize("name", ["", "a b", "a-b", "7a", "x" * 65, 5])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="an attribute's name"):
        encoded({name: 1})


def test_operators_and_their_number_are_limited() -> None:
    with pytest.raises(UsageError, match="is none of"):
        condition("a", "!=", 1)
    with pytest.raises(UsageError, match="may have 32"):
        encoded({f"a{number}": 1 for number in range(limit.ATTRIBUTES_MAX + 1)})
