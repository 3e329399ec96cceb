"""What goes in comes out, in both formats, or is refused where it goes in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Never, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenbu._core.codec import Codec
from fenbu.errors import EncodingError, PayloadTooLarge, UsageError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Rate(Enum):
    """Its values are of no one type."""

    LOW = 0.5
    HIGH = (1, 2)
    NONE = "none"


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
class Card:
    number: str
    expiry: str | None = None


@dataclass
class Iban:
    iban: str
    bic: str = ""


class Crypto(pydantic.BaseModel):
    address: str


class Voucher(TypedDict):
    code: str
    worth: NotRequired[Card | Iban]


@dataclass
class Tree:
    """msgspec would refuse it, because of the union, which it also contains in itself."""

    payment: Card | Iban | Crypto
    more: dict[str, list[Tree]] = field(default_factory=dict)
    voucher: Voucher | None = None


class Sku(str):
    __slots__ = ()


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
    by_day: dict[date, tuple[int, time]] = field(default_factory=dict)
    rate: Rate | None = None
    payments: tuple[Card | Iban | None, ...] = ()
    sku: Sku | None = None
    number: Annotated[int, msgspec.Meta(ge=0)] = 0
    kind: Literal["a", 1] | None = "a"
    anything: object = None


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
amounts = st.decimals(
    allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9
)
# msgspec writes offsets in whole minutes, so those that have seconds (before 1972) are not kept.
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
payments = st.builds(Card, texts, st.none() | texts) | st.builds(Iban, texts, texts)
money = st.builds(Money, amounts, texts)
users = st.builds(User, id=st.uuids(), born=st.dates(), tags=st.lists(texts, max_size=3))
orders = st.builds(
    Order,
    id=st.integers(-(2**63), 2**64 - 1),
    price=money,
    owner=st.none() | users,
    at=st.datetimes(timezones=st.none() | zones),
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
    by_day=st.dictionaries(st.dates(), st.tuples(st.integers(-9, 9), st.times()), max_size=2),
    rate=st.none() | st.sampled_from(Rate),
    payments=st.lists(st.none() | payments, max_size=3).map(tuple),
    sku=st.none() | texts.map(Sku),
    number=st.integers(0, 2**63),
    kind=st.sampled_from(["a", 1, None]),
    anything=st.none() | texts | st.lists(st.integers(-9, 9), max_size=2),
)
leaves = st.builds(Tree, payments | st.builds(Crypto, address=texts))
vouchers = st.fixed_dictionaries({"code": texts}, optional={"worth": payments})
children = st.dictionaries(texts, st.lists(leaves, max_size=2), max_size=2)
trees = st.builds(Tree, payments, children, st.none() | vouchers)


CODECS = {"json": Codec(), "msgpack": Codec(format="msgpack")}


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=60, deadline=None)
@given(order=orders)
def test_every_supported_type_comes_back_equal(name: str, order: Order) -> None:
    codec = CODECS[name].of(Order)
    payload = codec.encode(order)
    assert isinstance(payload, str) == (name == "json")
    assert codec.decode(payload) == order


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=25, deadline=None)
@given(tree=trees)
def test_unions_come_back_as_the_class_they_were(name: str, tree: Tree) -> None:
    codec = CODECS[name].of(list[Tree])
    assert codec.decode(codec.encode([tree])) == [tree]


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (Card | Iban | None, [Card("1"), Iban("2"), None]),
        (User | Crypto | list[int], [Crypto(address="a"), [1]]),
        (User | str | None, ["a", None]),
        (Money | User, [Money(Decimal("1.5")), User(id=UUID(int=1), born=date(2026, 1, 1))]),
        (date | datetime, [date(2020, 1, 1), datetime(2020, 1, 1)]),
        (UUID | int | date, [UUID(int=5), 5, date(2020, 1, 1)]),
        (list[int] | list[str], [[1], ["a"], []]),
        (Annotated[Card | Iban, "paid by"], [Iban("2")]),
        (Iterable[int], [[1, 2]]),
        (dict[str, object], [{"a": [None]}]),
        (Never, [None]),
        (Path, [Path("/a/b")]),
        (Annotated[int, ["no hash"]], [1]),
        (Any, [{"a": [1, None, "b", 2.5, True]}]),
    ],
)
def test_types_that_msgspec_refuses_or_does_not_know(type_: Any, values: list[Any]) -> None:
    for each in CODECS.values():
        codec = each.of(type_)
        for value in values:
            again = codec.decode(codec.check(value))
            assert (type(again), again) == (type(value), value)


def test_what_an_older_version_wrote_is_told_by_the_fields_it_knows() -> None:
    codec = Codec().of(Card | Iban)
    assert codec.decode('{"iban":"1","bic":"2","gone":3}') == Iban("1", "2")


def test_a_value_that_may_be_either_is_refused_where_it_is_passed() -> None:
    @dataclass
    class Twin:
        number: str

    codec = Codec().of(Card | Twin)
    assert codec.decode(codec.check(Card("1"))) == Card("1")
    with pytest.raises(EncodingError, match="give each a field that tells them apart"):
        codec.check(Twin("1"))


def test_an_error_within_a_union_has_its_path() -> None:
    with pytest.raises(EncodingError, match=r"got 5 .*payment.*more\[\.\.\.\]\[0\]"):
        Codec().of(Tree).decode('{"payment":{"iban":"1"},"more":{"a":[{"payment":5}]}}')
    with pytest.raises(EncodingError, match=r"required field `code` - at `….voucher`"):
        Codec().of(Tree).decode('{"payment":{"iban":"1"},"voucher":{}}')


@given(number=st.integers(-200, 200))
@settings(max_examples=60, deadline=None)
def test_each_format_reads_the_other(number: int) -> None:
    for codec in CODECS.values():
        for value in (number, str(number), [number], None, number % 2 == 0):
            payload = codec.of(Any).encode(value)
            for reader in CODECS.values():
                assert reader.of(Any).decode(payload) == value


def _nested(depth: int) -> list[Any]:
    """As deep as that; without an end for 0."""
    made: list[Any] = []
    if not depth:
        made.append(made)
    for _ in range(depth):
        made = [made]
    return made


@dataclass
class Line:
    photo: Any


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "object cannot be stored; use a dataclass"),
        (lambda: None, "function cannot be stored"),
        (open, "cannot be stored"),
        (1j, "complex cannot be stored"),
        ({"a": [Line(1), Line({1j})]}, r"at `\['a'\]\[1\].photo\[0\]`: complex"),
        (["\ud800"], r"'\\ud800' at `\[0\]`: .*pass it as bytes"),
        (_nested(0), "nested too deep, or in itself"),
        (_nested(10_000), "nested too deep, or in itself"),
        (10**5000, "a value of type int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_stored_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(EncodingError, match="cannot encode .*" + words):
        CODECS[name].of(Any).encode(value)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400])
def test_integers_beyond_64_bits_are_for_json(number: int) -> None:
    codec = CODECS["json"].of(int | None)
    assert codec.decode(codec.encode(number)) == number
    assert CODECS["json"].of(Any).encode([None, number])
    with pytest.raises(EncodingError, match="use the JSON format"):
        CODECS["msgpack"].of(int).encode(number)


floats = st.floats(allow_nan=True, allow_infinity=True)
plain = st.recursive(
    st.none() | floats | st.binary(max_size=9) | st.integers(2**63 - 99, 2**65) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner) | st.builds(Line, inner),
    max_leaves=6,
)


def _has_nonfinite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Line):
        return _has_nonfinite(value.photo)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_nonfinite, inner))


@settings(max_examples=150, deadline=None)
@given(value=plain)
def test_json_refuses_nan_and_infinity_wherever_they_are_and_nothing_else(value: Any) -> None:
    codec = CODECS["json"].of(Any)
    if _has_nonfinite(value):
        with pytest.raises(EncodingError, match="no NaN or infinity"):
            codec.encode(value)
    else:
        codec.encode(value)


@given(value=floats)
def test_messagepack_has_nan_and_infinity(value: float) -> None:
    codec = CODECS["msgpack"].of(float)
    assert repr(codec.decode(codec.encode(value))) == repr(value)


def test_keys_of_json_are_text_or_numbers() -> None:
    with pytest.raises(EncodingError, match="a key of a dict can only be text or a number"):
        Codec().of(Any).encode({(1, 2): 3})


def test_a_null_that_is_meant_is_no_nan() -> None:
    assert Codec().of(Any).encode({"a": None, "b": 1.5}) == '{"a":null,"b":1.5}'
    assert Codec().of(Any).encode([None, b"\xcb\x7f\xf8"]) == '[null,"y3/4"]'


def test_a_payload_has_a_limit() -> None:
    codec = Codec(bytes_max=13).of(str)
    assert codec.encode("x" * 11)
    with pytest.raises(
        PayloadTooLarge, match=r"a value has 14 bytes .* allows 13: store it elsewhere"
    ):
        codec.encode("x" * 12)


def test_subclasses_of_plain_types_are_stored_as_these() -> None:
    class Metres(float):
        def __str__(self) -> str:
            raise AssertionError

    stack = type("Stack", (list,), {})
    values = [Sku("a"), Metres(1.5), type("Count", (int,), {})(2), stack([3])]
    assert Codec().of(Any).encode(values) == '["a",1.5,2,[3]]'
    assert type(Codec().of(Metres).decode("1.5")) is Metres
    with pytest.raises(EncodingError, match="got 'x'"):
        Codec().of(Metres).decode('"x"')


@pytest.mark.parametrize(
    ("type_", "payload"),
    [(int, '"1"'), (Order, "{}"), (User, '{"id":1}'), (int, "{"), (Rate, "7"), (Card | Iban, "5")],
)
def test_a_payload_that_does_not_fit_is_refused(type_: Any, payload: str) -> None:
    with pytest.raises(EncodingError):
        Codec().of(type_).decode(payload)
    with pytest.raises(EncodingError):
        Codec().of(type_).check(object())


def test_what_a_types_own_code_raises_is_an_encoding_error_with_its_cause() -> None:
    @dataclass
    class Picky:
        x: int

        def __post_init__(self) -> None:
            raise KeyError("never")

    with pytest.raises(EncodingError, match="KeyError: 'never'") as caught:
        Codec().of(Picky).decode('{"x":1}')
    assert isinstance(caught.value.__cause__, KeyError)

    class Mute(pydantic.BaseModel):
        @pydantic.model_serializer
        def mute(self) -> str:
            raise LookupError("no words")

    with pytest.raises(EncodingError, match="no words"):
        Codec().of(Mute).encode(Mute())


@dataclass
class Unresolved:
    x: Unknown  # noqa: F821


class Plain:
    pass


class First(msgspec.Struct, tag=True):
    x: list[Plain]


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (Plain, "Plain cannot be stored; use a dataclass"),
        (dict[str, list[Plain | None]], "Plain cannot be stored"),
        (First, "Plain cannot be stored"),
        (Callable[[int], int], "Callable cannot be stored"),
        (str | date, "str and what is also written as text"),
        (bytes | str | None, "str and what is also written as text"),
        (Path | str, "str and what is also written as text"),
        (Unresolved, "'Unknown'.*TYPE_CHECKING"),
        (Literal[1.5], "Literal may only contain"),  # type: ignore[valid-type]
    ],
    ids=str,
)
def test_a_type_that_cannot_be_decoded_is_refused_when_it_is_first_used(
    type_: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Codec().of(type_)


class Account(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    since: date = pydantic.Field(alias="openedOn")
    owner: str = pydantic.Field(validation_alias="from", serialization_alias="to")
    scores: dict[UUID, tuple[Decimal, ...]] = {}

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def age(self) -> int:
        return 5


class Loose(pydantic.BaseModel):
    anything: Any = None
    ratio: float | None = None


class Secret(pydantic.BaseModel):
    words: list[pydantic.SecretStr]


class Revealed(pydantic.BaseModel):
    word: pydantic.SecretStr

    @pydantic.field_serializer("word")
    def reveal(self, word: pydantic.SecretStr) -> str:
        return word.get_secret_value()


@pytest.mark.parametrize(
    "model",
    [
        Account.model_validate(
            {"openedOn": date(2020, 1, 1), "from": "x", "scores": {UUID(int=1): (Decimal(1),)}}
        ),
        Loose(),
        Revealed(word=pydantic.SecretStr("**********")),
        pydantic.RootModel[list[int]]([1]),
    ],
    ids=repr,
)
def test_pydantic_models_come_back_equal(model: pydantic.BaseModel) -> None:
    for each in CODECS.values():
        codec = each.of(dict[str, type(model)] | None)  # type: ignore[misc]
        assert codec.decode(codec.encode({"a": model})) == {"a": model}


@pytest.mark.parametrize("name", CODECS)
def test_what_pydantic_would_lose_is_refused(name: str) -> None:
    with pytest.raises(EncodingError, match="a secret would be stored masked"):
        CODECS[name].of(Secret).encode(Secret(words=[pydantic.SecretStr("hunter2")]))
    for lost in (math.nan, [1, {"a": math.inf}]):
        with pytest.raises(EncodingError, match="would be stored as null"):
            CODECS[name].of(Loose).encode(Loose(anything=lost))


def test_a_nan_of_a_pydantic_model_is_refused_by_json_only() -> None:
    with pytest.raises(EncodingError, match="no NaN or infinity"):
        Codec().of(Loose).encode(Loose(ratio=math.nan))
    codec = CODECS["msgpack"].of(Loose)
    assert math.isnan(codec.decode(codec.encode(Loose(ratio=math.nan))).ratio)
