"""Errors keep their type where it is known, and their text everywhere."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import subprocess
import sys
import urllib.error
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fenbu.errors
from fenbu._core import failure as failure_module
from fenbu._core.failure import error_of, failure_of
from fenbu._core.model import Failure
from fenbu.errors import CallFailed, PayloadTooLarge, RetryLater


class OutOfStock(Exception):
    def __init__(self, sku: str, *, left: int) -> None:
        super().__init__(f"only {left} of {sku}")
        self.sku = sku
        self.left = left
        self.lock = object()


class Slotted(Exception):
    """Keeps beside its `args` what its text is made of."""

    __slots__ = ("a", "unset")

    def __init__(self, a: int) -> None:
        self.a = a

    def __str__(self) -> str:
        return f"slot {self.a}"


class Forgetful(Slotted):
    """Its text is made of what cannot be stored."""

    def __init__(self) -> None:
        super().__init__(object())  # type: ignore[arg-type]


class Choosy(Exception):
    def __new__(cls, *args: Any, must: int) -> Any:
        return super().__new__(cls, *args, must)

    def __init__(self, *, must: int) -> None: ...


class Impostor(Exception):
    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls, *args) if args else "no error at all"


@dataclass
class Refused(Exception):
    by: str
    code: int = 5


class Deny(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(13, "denied", path)
        self.add_note = "an attribute that hides a method"  # type: ignore[assignment]


class Batch(ExceptionGroup[Exception]):
    pass


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
        FileNotFoundError(2, "gone", "a.txt"),
        OSError(18, "cross-device", "a", None, "b"),
        Deny("/etc"),
        ModuleNotFoundError("no module", name="x"),
        SyntaxError("bad", ("a.py", 1, 2, "x =")),
        Slotted(1),
        Refused("bank"),
        ZeroDivisionError(),
        subprocess.CalledProcessError(1, ["false"]),
        json.JSONDecodeError("bad", "{", 1),
        asyncio.IncompleteReadError(b"", 5),
    ],
    ids=repr,
)
def test_common_errors_survive(error: Exception) -> None:
    again = error_of(failure_of(raised(error)))
    assert (type(again), str(again)) == (type(error), str(error))
    for name in (
        "errno",
        "filename",
        "filename2",
        "name",
        "lineno",
        "a",
        "by",
        "code",
        "returncode",
    ):
        assert getattr(again, name, None) == getattr(error, name, None)


@pytest.mark.parametrize(
    "error",
    [
        Forgetful(),
        Choosy(must=1),
        StopIteration(1),
        StopAsyncIteration(),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        urllib.error.HTTPError("http://x", 404, "gone", {}, None),  # type: ignore[arg-type]
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_built_again_is_a_failed_call(error: BaseException) -> None:
    failure = failure_of(raised(error))
    again = error_of(failure)
    assert isinstance(again, CallFailed)
    assert (again.type, again.message) == (failure.type, str(error))
    assert type(error).__name__ in again.remote_traceback
    assert failure_of(again) == failure_of(error_of(failure_of(again)))


def test_a_pydantic_error_is_a_failed_call() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("x")
    assert "valid integer" in str(error_of(failure_of(caught.value)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None)
@given(
    type_=st.sampled_from([Exception, ValueError, LookupError, fenbu.errors.TerminalError]),
    args=st.lists(json_values, max_size=3),
    attributes=st.dictionaries(st.text(max_size=3), json_values, max_size=2),
)
def test_any_error_of_plain_data_survives(
    type_: type[Exception], args: list[Any], attributes: dict[str, Any]
) -> None:
    error = type_(*args)
    error.__dict__.update(attributes)
    again = error_of(failure_of(error))
    assert type(again) is type_
    if _is_plain(args):
        assert again.args == error.args
    notes = again.__dict__.pop("__notes__", [])
    assert len(notes) == 1
    storable = {key: value for key, value in attributes.items() if _is_plain([key, value])}
    assert {key: again.__dict__.get(key) for key in storable} == storable


def _is_plain(values: Any) -> bool:
    """No text in it has surrogates or NUL."""
    try:
        text = json.dumps(values, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\\u0000" not in text


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
    "type_",
    ["os:system", "builtins:print", "builtins:BaseException", "x", "builtins:", "lazy:Later", ":"],
)
def test_nothing_but_exceptions_is_made(type_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise AssertionError

    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    assert type(error_of(Failure(type_, "m", args='["true"]'))) is CallFailed


@pytest.mark.parametrize(
    "failure",
    [
        Failure("builtins:ValueError", "m", args="{"),
        Failure("builtins:ValueError", "m", args='{"a":1}'),
        Failure("builtins:ValueError", "m", attributes="[]"),
        Failure("builtins:ExceptionGroup", "m", args="[]", attributes='{"__fenbu_members__":[]}'),
        Failure("builtins:ExceptionGroup", "m", attributes='{"__fenbu_members__":5}'),
        Failure("builtins:OSError", "m", args='[{"a":1},2]', attributes='{"errno":[]}'),
        Failure(f"{__name__}:Impostor", "m", args="[]"),
    ],
    ids=repr,
)
def test_whatever_stands_in_a_database_is_read(failure: Failure) -> None:
    assert isinstance(error_of(failure), Exception)


def test_a_failure_needs_no_more_than_type_and_message() -> None:
    error = error_of(Failure("builtins:ValueError", "no"))
    assert (type(error), error.args) == (ValueError, ("no",))
    assert not hasattr(error, "__notes__")


def test_groups_keep_their_members() -> None:
    inner = ExceptionGroup("inner", [KeyError("k")])
    group = Batch("several", [ValueError("a"), OutOfStock("s", left=1), inner])
    again: Any = error_of(failure_of(raised(group)))
    assert type(again) is Batch
    assert str(again) == str(group)
    assert [type(each) for each in again.exceptions] == [ValueError, OutOfStock, ExceptionGroup]
    assert again.exceptions[1].left == 1
    matching, _ = again.split(KeyError)
    assert matching.exceptions[0].exceptions[0].args == ("k",)


def test_a_cancelled_member_of_a_group_is_a_failed_call() -> None:
    group = BaseExceptionGroup("several", [asyncio.CancelledError(), ValueError("a")])
    again: Any = error_of(failure_of(raised(group)))
    assert type(again) is ExceptionGroup
    assert [type(each) for each in again.exceptions] == [CallFailed, ValueError]


def test_what_a_task_group_raises_survives() -> None:
    async def fail() -> None:
        raise OutOfStock("s", left=2)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    failure = failure_of(caught.value)
    again: Any = error_of(failure)
    assert again.exceptions[0].sku == "s"
    assert "/asyncio/" not in failure.traceback
    assert "in fail" in failure.traceback


def test_the_size_of_a_failure_is_bounded() -> None:
    many = ExceptionGroup("many", [ValueError("x" * 10_000, each) for each in range(500)])
    failure = failure_of(raised(many))
    assert len(failure.attributes or "") < 500_000
    assert len(error_of(failure).exceptions) == 500  # type: ignore[attr-defined]

    deep: Exception = ValueError("deep")
    for _ in range(2_000):
        deep = ExceptionGroup("d", [deep])
    assert isinstance(error_of(failure_of(deep)), ExceptionGroup)

    large = ValueError("x")
    large.data = "x" * 10**6  # type: ignore[attr-defined]
    large.small = 1  # type: ignore[attr-defined]
    assert failure_of(large).attributes == '{"small":1}'
    long = error_of(failure_of(raised(ValueError("x" * 10**6))))
    assert type(long) is ValueError
    assert len(str(long)) + len(long.__notes__[0]) < 20_000


def test_a_nan_is_left_out_and_never_null() -> None:
    error = ValueError(math.nan, None)
    error.ratio, error.none = math.inf, None  # type: ignore[attr-defined]
    again: Any = error_of(failure_of(error))
    assert again.args == ("(nan, None)",)
    assert again.__dict__.keys() - {"__notes__"} == {"none"}


# The traceback.


def test_causes_and_notes_are_in_the_traceback() -> None:
    def outer() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            error.add_note("a note")
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as caught:
        outer()
    text = failure_of(caught.value).traceback
    assert text.index("KeyError: 'first'") < text.index("a note") < text.index("ValueError: second")
    assert text.count("in outer") == 2
    assert 'raise KeyError("first")' in text


def test_frames_of_fenbu_are_left_out_unless_there_are_no_others() -> None:
    with pytest.raises(AttributeError) as caught:
        error_of(None)  # type: ignore[arg-type]
    text = failure_of(caught.value).traceback
    assert "test_failure.py" in text
    assert "_core" not in text
    caught.value.__traceback__ = caught.tb.tb_next
    assert failure_module.__file__ in failure_of(caught.value).traceback


def test_each_call_that_an_error_passes_adds_one_note() -> None:
    error: BaseException = ValueError("hop")
    for hops in range(1, 100):
        error = error_of(failure_of(raised(error)))
        assert len(error.__notes__) == 1
        if hops < 10:
            assert error.__notes__[0].count("in raised") == hops
    assert len(error.__notes__[0]) < 10_000


def test_errors_that_misbehave_are_stored_all_the_same() -> None:
    class Liar(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert failure_of(raised(Unprintable())).type.endswith("Unprintable")
    assert failure_of(raised(Liar("a"))).type.endswith("Liar")
    assert "\ud800" not in failure_of(raised(ValueError("\ud800\0"))).message


@pytest.mark.parametrize(
    "cls",
    [
        each
        for each in vars(fenbu.errors).values()
        if isinstance(each, type) and issubclass(each, fenbu.errors.FenbuError)
    ],
)
def test_fenbus_own_errors_survive(cls: Any) -> None:
    made = {
        CallFailed: lambda: cls("a:B", "m", "t"),
        RetryLater: lambda: cls("text", after=3),
        PayloadTooLarge: lambda: cls(9, 8, "an argument"),
    }
    error = made.get(cls, lambda: cls("text"))()
    again = error_of(failure_of(raised(error)))
    assert (type(again), str(again)) == (cls, str(error))
    assert vars(again).keys() >= vars(error).keys() - {"remote_traceback"}
    pickled = pickle.loads(pickle.dumps(error))
    assert (type(pickled), str(pickled)) == (cls, str(error))
    assert getattr(pickled, "after", None) == getattr(error, "after", None)
