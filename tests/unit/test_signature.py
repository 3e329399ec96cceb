"""Arguments by name, bound as Python binds them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fenbu._core.codec import Codec
from fenbu._core.signature import Signature
from fenbu.errors import EncodingError, UsageError


def plain(a: int, b: str = "b") -> None: ...
def positional(a: int, /, b: int, c: int = 3) -> None: ...
def named(a: int, *, b: int, c: int = 3) -> None: ...
def anything(a: int, *more: int, b: int = 2, **rest: int) -> None: ...
def untyped(a, b=None): ...  # type: ignore[no-untyped-def]


def clashes(self: int, __init__: int, from_: int, encode: int = 1) -> None: ...


FUNCTIONS = [plain, positional, named, anything, untyped, clashes]


@settings(max_examples=200, deadline=None)
@given(
    function=st.sampled_from(FUNCTIONS),
    args=st.lists(st.integers(0, 9), max_size=5),
    kwargs=st.dictionaries(
        st.sampled_from(["a", "b", "c", "d", "self", "encode", "from_"]),
        st.integers(0, 9),
        max_size=3,
    ),
)
def test_arguments_come_back_as_python_would_bind_them(
    function: Any, args: list[int], kwargs: dict[str, int]
) -> None:
    if function is plain:
        kwargs = {key: str(value) if key == "b" else value for key, value in kwargs.items()}
        args = args[:1] + [str(each) for each in args[1:]]  # type: ignore[misc]
    signature = Signature(function, Codec())
    try:
        expected = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(UsageError, match=function.__name__):
            signature.encode(tuple(args), kwargs)
        return
    found, keywords = signature.decode(signature.encode(tuple(args), kwargs))
    assert inspect.signature(function).bind(*found, **keywords) == expected


def test_defaults_that_are_not_passed_are_not_stored() -> None:
    assert Signature(plain, Codec()).encode((1,), {}) == '{"a":1}'


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((object(),), r"plain\(a=…\): cannot encode"),
        (("x",), "plain: Expected `int`, got `str` at `a`"),
    ],
)
def test_a_wrong_argument_is_named(args: tuple[Any, ...], words: str) -> None:
    with pytest.raises(EncodingError, match=words):
        Signature(plain, Codec()).check(args, {})


def test_an_operations_self_is_left_out() -> None:
    signature = Signature(plain, Codec(), skip_first=True)
    assert signature.encode(("x",), {}) == '{"b":"x"}'


def test_an_annotation_that_cannot_be_found_is_named() -> None:
    def broken(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(UsageError, match="'Missing'"):
        Signature(broken, Codec()).encode((1,), {})


def test_arguments_from_a_command_line() -> None:
    signature = Signature(plain, Codec())
    assert signature.from_json(["5"], {"b": "7"}) == '{"a":5,"b":"7"}'
    with pytest.raises(UsageError, match="a=five is no int"):
        signature.from_json(["five"], {})
    with pytest.raises(UsageError, match="missing a required argument"):
        signature.from_json([], {})
