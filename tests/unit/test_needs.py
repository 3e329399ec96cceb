"""Parameters that the node fills in are no arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest

from fenbu import INJECTED, Resource
from fenbu._core.codec import Codec
from fenbu._core.signature import Signature
from fenbu.errors import EncodingError, UsageError


def open_db() -> str:
    return "db"


Db = Annotated[str, Resource(open_db)]


async def last(n: int, db: Db = INJECTED) -> None: ...
async def first(db: Db, n: int, m: int = 2) -> None: ...
async def named(n: int, *, db: Db, m: int = 2) -> None: ...
async def only_by_place(db: Db, /) -> None: ...
async def unmarked(n: int, db: str = INJECTED) -> None: ...
async def annotated(n: Annotated[int, "just a note"] = 3) -> None: ...


def of(function: Callable[..., Any], **options: Any) -> Signature:
    return Signature(function, Codec(), **options)


def test_callers_leave_them_out() -> None:
    assert of(last).encode((1,), {}) == '{"n":1}'
    assert of(last).decode('{"n":1,"db":"x"}') == ((1,), {})
    assert [(each.name, each.place) for each in of(last).needs] == [("db", 1)]
    with pytest.raises(UsageError, match="too many positional"):
        of(last).encode((1, "db"), {})
    with pytest.raises(UsageError, match="unexpected keyword"):
        of(last).encode((1,), {"db": "db"})


def test_what_comes_behind_one_goes_by_name() -> None:
    assert of(first).encode((), {"n": 1}) == '{"n":1}'
    assert of(first).decode('{"n":1}') == ((), {"n": 1})
    with pytest.raises(UsageError):
        of(first).encode((1,), {})
    assert of(named).decode('{"n":1,"m":3}') == ((1,), {"m": 3})
    assert of(annotated).needs == ()
    assert of(annotated).encode((4,), {}) == '{"n":4}'


def test_errors_name_the_parameter() -> None:
    with pytest.raises(EncodingError, match=r"only_by_place\(db\)"):
        _ = of(only_by_place).needs
    with pytest.raises(EncodingError, match=r"unmarked\(db\): INJECTED is the default"):
        of(unmarked).encode((1,), {})
    with pytest.raises(EncodingError, match="has no resources"):
        of(last, is_code=True).encode((1,), {})
