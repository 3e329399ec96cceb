"""What goes in comes out, in both formats, or is refused where it goes in."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenbu._core.codec import Codec
from fenbu.errors import EncodingError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: float


class Options(TypedDict, total=False):
    name: str
    level: int


class Money(msgspec.Struct, frozen=True):
    amount: Decimal
    currency: str = "EUR"


class User(pydantic.BaseModel):
    id: UUID
    born: date
    tags: list[str] = []


@dataclass
class Order:
    id: int
    price: Money
    owner: User | None
    at: datetime
    took: timedelta
    colour: Colour
    where: Point
    options: Options
    blob: bytes
    path: PurePosixPath
    lines: dict[str, list[Money]] = field(default_factory=dict)
    keys: frozenset[int] = frozenset()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
amounts = st.decimals(
    allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9
)
money = st.builds(Money, amounts, texts)
users = st.builds(User, id=st.uuids(), born=st.dates(), tags=st.lists(texts, max_size=3))
orders = st.builds(
    Order,
    id=st.integers(-(2**63), 2**63 - 1),
    price=money,
    owner=st.none() | users,
    at=st.datetimes(timezones=st.just(UTC)),
    took=st.timedeltas(timedelta(-1000), timedelta(1000)),
    colour=st.sampled_from(Colour),
    where=st.builds(
        Point, st.integers(-1000, 1000), st.floats(allow_nan=False, allow_infinity=False)
    ),
    options=st.fixed_dictionaries({}, optional={"name": texts, "level": st.integers(0, 9)}),
    blob=st.binary(max_size=8),
    path=st.just(PurePosixPath("/a/b")),
    lines=st.dictionaries(texts, st.lists(money, max_size=2), max_size=2),
    keys=st.frozensets(st.integers(0, 99), max_size=3),
)


class Squeeze:
    def encode(self, data: bytes) -> bytes:
        return zlib.compress(data)

    def decode(self, data: bytes) -> bytes:
        return zlib.decompress(data)


CODECS = {
    "json": Codec(),
    "msgpack": Codec(format="msgpack"),
    "hook": Codec(hook=Squeeze()),
    "msgpack hook": Codec(format="msgpack", hook=Squeeze()),
}


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=60, deadline=None)
@given(order=orders)
def test_every_supported_type_comes_back_equal(name: str, order: Order) -> None:
    codec = CODECS[name].of(Order)
    payload = codec.encode(order)
    assert isinstance(payload, str) == (name == "json")
    assert codec.decode(payload) == order


@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )
)
def test_plain_data_needs_no_annotation(value: Any) -> None:
    codec = Codec().of(Any)
    assert codec.decode(codec.encode(value)) == value


def test_a_codec_reads_what_the_other_format_wrote() -> None:
    for writer in ("json", "msgpack"):
        payload = CODECS[writer].of(list[int]).encode([1, 2])
        assert [CODECS[each].of(list[int]).decode(payload) for each in ("json", "msgpack")] == [
            [1, 2],
            [1, 2],
        ]


def _cycle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), [{"a": float("-inf")}], "\ud800", _cycle(), lambda: None, open],
    ids=["object", "nan", "inf", "surrogate", "cycle", "lambda", "function"],
)
def test_what_cannot_be_stored_is_refused(value: Any) -> None:
    with pytest.raises(EncodingError, match="cannot encode"):
        Codec().of(Any).encode(value)


def test_a_null_that_is_meant_is_no_nan() -> None:
    assert Codec().of(Any).encode({"a": None, "b": 1.5}) == '{"a":null,"b":1.5}'


@pytest.mark.parametrize(
    ("type_", "payload"), [(int, '"1"'), (Order, "{}"), (User, '{"id":1}'), (int, "{")]
)
def test_a_payload_that_does_not_fit_is_refused(type_: Any, payload: str) -> None:
    with pytest.raises(EncodingError):
        Codec().of(type_).decode(payload)


def test_a_union_of_classes_comes_back_as_the_class_it_was() -> None:
    codec = Codec().of(Money | User)
    for value in (Money(Decimal("1.5")), User(id=UUID(int=1), born=date(2026, 1, 1))):
        assert codec.decode(codec.encode(value)) == value
