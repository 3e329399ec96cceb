"""Read-only operations: side by side between the writes, and never behind them in what they see."""

from __future__ import annotations

import asyncio

import pytest

from fenbu._api.step import step
from fenbu._core.event import EntityLoaded
from fenbu._core.handler import HandlerSpec
from fenbu._core.message import Retry
from fenbu._core.model import Status
from tests.unit.drive import Drive, bodies


async def act(n: int) -> int:
    return n


class Book:
    lines: list[int] = []
    key: str

    async def write(self, n: int) -> int:
        self.lines.append(await step(act, n))
        return len(self.lines)

    async def read(self) -> list[int]:
        await step(act, 0)
        return self.lines

    async def cheat(self) -> int:
        self.lines.append(99)
        return await step(act, 0)


@pytest.fixture
def books(drive: Drive) -> Drive:
    drive.register_entity(Book)
    for name in ("read", "cheat"):
        spec = drive.registry.latest(f"Book.{name}")
        assert isinstance(spec, HandlerSpec)
        spec.read_only = True
    (body,) = bodies([*drive.call("Book.write", 1, id="w0", key="k"), *load(drive)])
    drive.completed(body, 1)
    return drive


def load(drive: Drive) -> list[object]:
    return list(drive.event(EntityLoaded(0, "Book", "k", drive.states.get(("Book", "k")))))


@pytest.mark.guarantee("entity-linear")
def test_reads_run_side_by_side_and_a_write_waits_for_them(books: Drive) -> None:
    (a,) = bodies(books.call("Book.read", id="a", key="k"))
    (b,) = bodies(books.call("Book.read", id="b", key="k"))
    assert not bodies(books.call("Book.write", 2, id="w", key="k"))
    assert not bodies(books.completed(b, 0))
    assert books.rows["b"].result == "[1]"
    (write,) = bodies(books.completed(a, 0))
    assert write.id == "w"


@pytest.mark.guarantee("entity-linear")
def test_a_read_behind_a_write_sees_it(books: Drive) -> None:
    (a,) = bodies(books.call("Book.read", id="a", key="k"))
    books.call("Book.write", 2, id="w", key="k")
    assert not bodies(books.call("Book.read", id="b", key="k"))
    assert not bodies(books.call("Book.read", id="c", key="k"))
    (write,) = bodies(books.completed(a, 0))
    readers = bodies(books.completed(write, 2))
    assert [each.id for each in readers] == ["b", "c"]
    for each in readers:
        books.completed(each, 0)
    assert [books.rows[each].result for each in "abc"] == ["[1]", "[1,2]", "[1,2]"]


@pytest.mark.guarantee("entity-linear")
def test_what_a_read_does_to_the_state_nobody_else_sees(books: Drive) -> None:
    (cheat,) = bodies(books.call("Book.cheat", id="x", key="k"))
    (honest,) = bodies(books.call("Book.read", id="a", key="k"))
    books.completed(honest, 0)
    books.completed(cheat, 0)
    assert (books.rows["a"].result, books.rows["x"].status) == ("[1]", Status.FAILED)
    (after,) = bodies(books.call("Book.read", id="b", key="k"))
    books.completed(after, 0)
    assert books.rows["b"].result == "[1]"


@pytest.mark.guarantee("entity-linear")
def test_reads_that_ran_at_a_crash_run_side_by_side_again(books: Drive) -> None:
    books.call("Book.read", id="a", key="k")
    books.call("Book.read", id="b", key="k")
    books.call("Book.write", 2, id="w", key="k")
    books.call("Book.read", id="c", key="k")
    books.start()
    books.load_ready("a", "b", "w", "c")
    readers = bodies(load(books))
    assert [each.id for each in readers] == ["a", "b"]
    books.completed(readers[1], 0)
    (write,) = bodies(books.completed(readers[0], 0))
    (last,) = bodies(books.completed(write, 2))
    books.completed(last, 0)
    assert [books.rows[each].result for each in "abc"] == ["[1]", "[1]", "[1,2]"]


@pytest.mark.guarantee("entity-linear")
def test_what_a_stuck_operation_did_to_the_state_is_void_when_it_is_tried_again(
    books: Drive,
) -> None:
    fixed: list[bool] = []

    class Cart:
        n: int = 0
        key: str

        async def add(self) -> int:
            self.n += 1
            if not fixed:
                await asyncio.get_running_loop().create_future()
            return self.n

    books.register_entity(Cart)
    books.call("Cart.add", id="s", key="k")
    books.event(EntityLoaded(0, "Cart", "k", None))
    assert books.rows["s"].status is Status.STUCK
    fixed.append(True)
    books.message(Retry(0, "s"))
    ((number, retry),) = books.inbox.items()
    books.message(retry, number)
    books.load_ready("s")
    assert books.rows["s"].result == "1"
