"""Arguments by name, bound as Python binds them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, NotRequired, ParamSpec, TypedDict, TypeVar, Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenbu._core.codec import Codec
from fenbu._core.signature import Signature
from fenbu.errors import EncodingError, UsageError

if TYPE_CHECKING:
    from fractions import Fraction

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Card:
    number: str


@dataclass
class Iban:
    iban: str


@dataclass
class Line:
    sku: str
    photo: Any = None


@dataclass
class Order:
    lines: list[Line] = field(default_factory=list)
    paid_by: Card | Iban | None = None


class Extras(TypedDict):
    gift: NotRequired[bool]


def no_wraps(function: Callable[P, R]) -> Callable[P, R]:
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return inner


def with_wraps(function: Callable[P, R]) -> Callable[P, R]:
    return functools.wraps(function)(no_wraps(function))


def nothing() -> None: ...
def plain(a: int, b: int = 2) -> None: ...
def optional(a: int = 1, b: int = 2, c: int = 3) -> None: ...
def positional(a: int, /, b: int, c: int = 3) -> None: ...
def positional_optional(a: int = 1, b: int = 2, /, c: int = 3, *d: int) -> None: ...
def named(a: int, *, b: int, c: int = 3) -> None: ...
def anything(a: int, *more: int, b: int = 2, **rest: int) -> None: ...
def shadowed(a: int, /, **rest: int) -> None: ...
def untyped(a, b=None): ...  # type: ignore[no-untyped-def]
def clashes(self: int, __init__: int, from_: int, encode: int = 1) -> None: ...


FUNCTIONS = [
    nothing,
    plain,
    optional,
    positional,
    positional_optional,
    named,
    anything,
    shadowed,
    untyped,
    clashes,
    with_wraps(plain),
    functools.partial(named, b=1),
]
SIGNATURES = {each: Signature(each, Codec()) for each in FUNCTIONS}


@settings(max_examples=300, deadline=None)
@given(
    function=st.sampled_from(FUNCTIONS),
    args=st.lists(st.integers(0, 9), max_size=5).map(tuple),
    kwargs=st.dictionaries(
        st.sampled_from(["a", "b", "c", "d", "self", "encode", "from_"]),
        st.integers(0, 9),
        max_size=3,
    ),
)
def test_arguments_come_back_as_python_would_bind_them(
    function: Any, args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    signature = SIGNATURES[function]
    try:
        function(*args, **kwargs)
    except TypeError:
        with pytest.raises(UsageError, match=rf"^{signature.name}\(.*\).*: .*"):
            signature.encode(args, kwargs)
        return
    expected = inspect.signature(function).bind(*args, **kwargs)
    found, keywords = signature.decode(signature.check(args, kwargs))
    assert inspect.signature(function).bind(*found, **keywords) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"a": 2}, "multiple values for argument 'a'"),
        ((1,), {"z": 2}, "got an unexpected keyword argument 'z'"),
    ],
)
def test_what_does_not_bind_is_told_in_pythons_words(
    args: tuple[int, ...], kwargs: dict[str, int], words: str
) -> None:
    with pytest.raises(UsageError, match=rf"^plain\(a: 'int', b: 'int' = 2\).*: {words}$"):
        Signature(plain, Codec()).encode(args, kwargs)


@given(
    given=st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)),
    more=st.lists(st.integers(0, 9), max_size=2),
)
def test_a_payload_may_leave_out_any_default(given: dict[str, int], more: list[int]) -> None:
    def found(a: int = 1, b: int = 2, /, c: int = 3, *d: int) -> list[int]:
        return [a, b, c, *d]

    signature = Signature(found, Codec())
    args, kwargs = signature.decode(Codec().of(Any).encode({**given, "d": more}))
    expected = {"a": 1, "b": 2, "c": 3, **given}
    assert found(*args, **kwargs) == [*expected.values(), *more]


def test_defaults_that_are_not_passed_are_not_stored() -> None:
    assert Signature(plain, Codec()).encode((1,), {}) == '{"a":1}'
    assert Signature(plain, Codec()).encode((), {"b": 3, "a": 1}) == '{"b":3,"a":1}'


def test_an_older_caller_may_pass_what_is_no_longer_a_parameter() -> None:
    assert Signature(plain, Codec()).decode('{"a":1,"gone":2}') == ((1,), {})


def checkout(order: Order, *codes: int, **notes: str) -> Order: ...


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_arguments_have_their_types_again(format: Any) -> None:
    signature = Signature(checkout, Codec(format=format))
    order = Order([Line("a", None)], Iban("b"))
    payload = signature.check((order, 1, 2), {"why": "because"})
    assert signature.decode(payload) == ((order, 1, 2), {"why": "because"})
    assert signature.result.decode(signature.result.encode(order)) == order


@pytest.mark.parametrize(
    ("args", "notes", "words"),
    [
        ((object(),), {}, r"^checkout\(order=…\): cannot encode <object"),
        ((Order([Line("a", 1j)]),), {}, r"\(order=…\): cannot encode 1j at `.lines\[0\].photo`"),
        ((Order(), 1j), {}, r"checkout\(codes=…\): cannot encode 1j at `\[0\]`"),
        ((Order(), float("nan")), {}, r"checkout\(codes=…\): .*no NaN"),
        (("x",), {}, "^checkout: Expected `object`, got `str` at `order`$"),
        ((Order([Line(1)]),), {}, r"got `int` at `order.lines\[0\].sku`$"),
        ((Order([], 1),), {}, r"Expected `.*Card \| .*Iban \| None`, got 1 at `order.paid_by`$"),
        ((Order(), 1, "x"), {}, r"got `str` at `codes\[1\]`$"),
        ((Order(),), {"why": 1}, r"got `int` at `notes\[\.\.\.\]`$"),
    ],
)
def test_a_wrong_argument_is_named(args: tuple[Any, ...], notes: Any, words: str) -> None:
    with pytest.raises(EncodingError, match=words):
        Signature(checkout, Codec()).check(args, notes)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("{}", "^plain: missing a required argument: `a`$"),
        ("[]", "^plain: Expected `object`, got `array`$"),
        ('{"a":1,"b":"2"}', "^plain: Expected `int`, got `str` at `b`$"),
        ("{", "^plain: "),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(payload: str, words: str) -> None:
    with pytest.raises(EncodingError, match=words):
        Signature(plain, Codec()).decode(payload)


def test_an_operations_self_is_left_out() -> None:
    signature = Signature(plain, Codec(), skip_first=True)
    assert signature.encode((3,), {}) == '{"b":3}'
    with pytest.raises(UsageError, match="too many positional arguments"):
        signature.encode((3, 4), {})


def broken(a: Missing, b: Fraction) -> int: ...  # type: ignore[name-defined]  # noqa: F821
def wrong(c: date.nowhere) -> Missing: ...  # type: ignore  # noqa: F821, PGH003
def callback(then: Callable[[], None]) -> Callable[[], None]: ...


def test_an_annotation_that_cannot_be_found_is_named() -> None:
    signature = Signature(broken, Codec())
    words = r"^broken: the annotation of 'a' names 'Missing'.*TYPE_CHECKING"
    with pytest.raises(UsageError, match=words):
        signature.encode((1, 2), {})
    # A step's arguments are not stored: only its result must be known.
    assert signature.result.encode(5) == "5"
    with pytest.raises(
        UsageError, match=r"^wrong: the annotation of 'c' cannot be read: .*nowhere"
    ):
        Signature(wrong, Codec()).encode((1,), {})
    with pytest.raises(UsageError, match="the annotation of 'return' names 'Missing'"):
        _ = Signature(wrong, Codec()).result


def test_a_type_that_cannot_be_stored_is_named_with_its_parameter() -> None:
    with pytest.raises(UsageError, match=r"^callback\(then\): type .*Callable cannot be stored"):
        Signature(callback, Codec()).encode((1,), {})
    with pytest.raises(UsageError, match=r"^callback, result: type .*Callable cannot be stored"):
        _ = Signature(callback, Codec()).result


def uses_later(a: Later) -> None: ...


def test_annotations_may_name_what_is_defined_later() -> None:
    signature = Signature(uses_later, Codec())
    assert signature.decode(signature.check((Later(1),), {})) == ((Later(1),), {})


@dataclass
class Later:
    x: int


class Greeter:
    def __init__(self, name: str = "") -> None: ...
    def __call__(self, day: date) -> Awaitable[date]: ...
    def greet(self, day: date) -> date: ...


def extras(**rest: Unpack[Extras]) -> None: ...


@pytest.mark.parametrize(
    ("function", "name", "args", "kwargs", "result"),
    [
        (Greeter().greet, "Greeter.greet", (date(2020, 1, 1),), {}, date(2020, 1, 1)),
        (Greeter(), "Greeter", (date(2020, 1, 1),), {}, date(2020, 1, 1)),
        (Card, "Card", ("1",), {}, Card("1")),
        (int, "int", ("5",), {}, 5),
        (len, "len", ([1],), {}, 1),
        (with_wraps(checkout), "checkout", (Order(),), {"a": "b"}, Order()),
        (no_wraps(plain), "inner", (1,), {}, None),
        (functools.partial(checkout, Order()), "checkout", (1,), {}, Order()),
        (extras, "extras", (), {"gift": True}, None),
        (lambda a: a, "<lambda>", ([1],), {}, "x"),
    ],
    ids=str,
)
def test_whatever_can_be_called_has_a_signature(
    function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    signature = Signature(function, Codec())
    assert signature.name == name
    assert signature.decode(signature.check(args, kwargs)) == (args, kwargs)
    assert signature.result.decode(signature.result.encode(result)) == result


def book(
    day: date, name: str, rooms: int | None = None, *more: int, extra: Any = None, **tags: bool
) -> None: ...


DAY = "2020-01-01"


@pytest.mark.parametrize(
    ("values", "named", "expected"),
    [
        ([DAY, "5"], {}, {"day": DAY, "name": "5"}),
        ([DAY, "null", "null"], {}, {"day": DAY, "name": "null", "rooms": None}),
        ([], {"day": f'"{DAY}"', "name": '"a b"'}, {"day": DAY, "name": "a b"}),
        ([DAY, "x"], {"extra": "hello"}, {"day": DAY, "name": "x", "extra": "hello"}),
        (
            [DAY, "x", "1", "2", "3"],
            {"extra": '{"a":[1]}', "vip": "true"},
            {
                "day": DAY,
                "name": "x",
                "rooms": 1,
                "more": [2, 3],
                "extra": {"a": [1]},
                "tags": {"vip": True},
            },
        ),
    ],
)
def test_arguments_from_a_command_line(
    values: list[str], named: dict[str, str], expected: dict[str, Any]
) -> None:
    payload = Signature(book, Codec()).from_json(values, named)
    assert payload == Codec().of(Any).encode(expected)


@pytest.mark.parametrize(
    ("values", "named", "words"),
    [
        ([], {}, "missing a required argument: 'day'"),
        (["2020-13-01", "x"], {}, r"day=2020-13-01 is no datetime\.date: Invalid RFC3339"),
        ([DAY, "x", "five"], {}, r"rooms=five is no int \| None: Expected `int \| null`"),
        ([DAY, "x", "5", "y"], {}, "more=y is no int"),
        ([DAY, "x"], {"vip": "2"}, "vip=2 is no bool: Expected `bool`, got `int`"),
    ],
)
def test_a_wrong_argument_on_a_command_line_is_named(
    values: list[str], named: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=r"^book.*" + words):
        Signature(book, Codec()).from_json(values, named)


def test_parameters_can_be_listed() -> None:
    assert Signature(book, Codec()).parameters() == [
        ("day", "datetime.date", True),
        ("name", "str", True),
        ("rooms", "int | None", False),
        ("more", "int", False),
        ("extra", "Any", False),
        ("tags", "bool", False),
    ]
