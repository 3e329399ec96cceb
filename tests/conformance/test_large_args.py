"""Arguments of any size. A storage may keep large ones apart: nothing shows it, nothing is left of them."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from fenbu._core.message import Call
from fenbu._core.model import Status
from fenbu._storage.observer import CallFilter
from fenbu._storage.protocol import CommitBatch
from fenbu._storage.sqlite.rows import ARGS_IN_ROW_MAX
from fenbu.errors import InternalError
from tests.fixture.row import call, entry, finished, names, received, stored, write
from tests.fixture.storage import SQLiteDisk, calls_with_large_args

MIB = 1024 * 1024
SMALL = "[1]"
LARGE = "x" * (2 * ARGS_IN_ROW_MAX)
OTHER = os.urandom(3 * ARGS_IN_ROW_MAX)

SIZES = [0, 1, ARGS_IN_ROW_MAX - 1, ARGS_IN_ROW_MAX, ARGS_IN_ROW_MAX + 1, 64 * 1024, MIB]
VALUES = {
    **{f"text {size}": "x" * size for size in SIZES},
    **{f"bytes {size}": os.urandom(size) for size in SIZES},
    "not ASCII": "語\U0001f600" * ARGS_IN_ROW_MAX,
    "digits": "7" * (ARGS_IN_ROW_MAX + 1),
}


def apart(disk) -> set[str]:
    return calls_with_large_args(disk.path) if isinstance(disk, SQLiteDisk) else set()


def only_sqlite(disk, *ids: str) -> set[str]:
    return set(ids) if isinstance(disk, SQLiteDisk) else set()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("status", [Status.PENDING, Status.COMPLETED])
async def test_every_value_comes_back_as_it_was(storage, disk, value, status):
    made = finished("a", 9.0, status) if status is Status.COMPLETED else call("a")
    made = replace(made, args=value)
    await write(storage, inserted=[call("before"), made, call("behind")])
    assert (await stored(storage, "a")).invocation == made
    large = len(value) > ARGS_IN_ROW_MAX and status is Status.PENDING
    assert apart(disk) == only_sqlite(disk, *(["a"] if large else []))
    later = replace(made, status=Status.FAILED, result=value, finished_at=10.0)
    await write(storage, updated=[later])
    assert (await stored(storage, "a")).invocation == later
    assert await storage.delete_finished("checkout", 11.0, limit=9) == 1
    assert names(await storage.load_calls(["before", "a", "behind"])) == ["before", "behind"]
    assert apart(disk) == set()


async def test_every_read_has_them(storage):
    operation = {"entity": "Stock", "key": "a", "handler": "Stock.reserve"}
    made = [
        call("ready", 1, args=LARGE),
        call("due", 2, args=OTHER, status=Status.SUSPENDED, wake_at=5.0),
        call("first", 3, args=LARGE, **operation),
        call("second", 4, args=SMALL, **operation),
        call("due/1", 5, args=OTHER, status=Status.SUSPENDED),
    ]
    await write(storage, inserted=made, entries=[entry("ready", 0)])
    ready, due, first, second, child = made
    found = [each.invocation for each in await storage.load_ready({1: 0}, limit=9)]
    assert found == [ready, first, second]
    assert [each.invocation for each in await storage.load_due([1], 6.0, limit=9)] == [due]
    operations = await storage.load_operations("Stock", "a", after=0, limit=9)
    assert [each.invocation for each in operations] == [first, second]
    assert await storage.list_calls(CallFilter(limit=9)) == made[::-1]
    assert await storage.find_calls("f", limit=9) == [first]
    assert await storage.operations_before(second, limit=9) == [first]
    assert await storage.children("due", limit=9) == [child]
    assert (await stored(storage, "ready")).entries == [entry("ready", 0)]


async def test_an_update_leaves_them_where_they_are(storage, disk):
    made = call("a", args=OTHER)
    await write(storage, inserted=[made])
    for number in range(1, 4):
        made = replace(made, attempt=number, started_at=float(number), commands="[]" * number)
        # What an update says of arguments is not written: they do not change.
        await write(storage, updated=[replace(made, args=SMALL)])
        assert (await stored(storage, "a")).invocation == made
    assert apart(disk) == only_sqlite(disk, "a")


@pytest.mark.parametrize("after", [SMALL, LARGE, OTHER], ids=["small", "large", "other"])
@pytest.mark.parametrize("before", [SMALL, LARGE], ids=["small", "large"])
async def test_a_call_that_begins_anew_has_those_of_its_new_run(storage, disk, before, after):
    await write(storage, inserted=[call("a", args=before), call("b", args=LARGE)])
    again = call("a", 2, args=after, attempt=1)
    await write(storage, rewritten=[again], entries=[entry("a")])
    assert (await stored(storage, "a")).invocation == again
    assert (await stored(storage, "b")).invocation == call("b", args=LARGE)
    large = [] if after is SMALL else ["a"]
    assert apart(disk) == only_sqlite(disk, "b", *large)
    await write(storage, rewritten=[replace(again, finished_at=3.0, status=Status.CANCELLED)])
    assert (await stored(storage, "a")).invocation.args == after
    assert apart(disk) == only_sqlite(disk, "b")


async def test_nothing_is_left_of_calls_that_are_deleted(storage, disk):
    made = [call(f"{number}", number, args=LARGE) for number in range(6)]
    await write(storage, inserted=made)
    await write(storage, deleted=["0", "unknown"], updated=[made[0]])
    await write(storage, deleted=["1"], inserted=[call("6", args=OTHER)])
    await write(storage, inserted=[call("7", args=OTHER)], deleted=["7"])
    assert apart(disk) == only_sqlite(disk, "2", "3", "4", "5", "6")
    ended = [replace(each, status=Status.COMPLETED, finished_at=1.0) for each in made[2:4]]
    await write(storage, updated=ended)
    assert await storage.delete_finished("checkout", 2.0, limit=1) == 1
    assert await storage.delete_finished("checkout", 2.0, limit=9) == 1
    assert apart(disk) == only_sqlite(disk, "4", "5", "6")
    await write(storage, deleted=["4", "5", "6"])
    assert apart(disk) == set()
    # The same id may come again.
    await write(storage, inserted=[call("4", args=OTHER)])
    assert (await stored(storage, "4")).invocation.args == OTHER


async def test_a_batch_that_fails_leaves_nothing(storage, disk):
    await write(storage, inserted=[call("a", args=LARGE), call("b")])
    for id_ in ("a", "b"):
        with pytest.raises(InternalError):
            await storage.commit(
                CommitBatch(inserted=[call("new", args=LARGE), call(id_, args=OTHER)])
            )
    assert names(await storage.load_calls(["a", "b", "new"])) == ["a", "b"]
    assert (await stored(storage, "a")).invocation == call("a", args=LARGE)
    assert apart(disk) == only_sqlite(disk, "a")


async def test_many_at_once(storage, disk):
    made = [
        call(f"{number:04}", number, args=f"{number}" * 3_000 if number % 3 else SMALL)
        for number in range(1, 1800)
    ]
    await write(storage, inserted=made)
    found = await storage.load_calls([each.id for each in made])
    assert sorted((each.invocation for each in found), key=lambda each: each.id) == made
    large = [each.id for each in made if len(each.args) > ARGS_IN_ROW_MAX]
    assert len(large) > 1_024
    assert apart(disk) == only_sqlite(disk, *large)


@pytest.mark.parametrize("after", [SMALL, LARGE, OTHER], ids=["small", "large", "other"])
@pytest.mark.parametrize("before", [SMALL, LARGE, OTHER], ids=["small", "large", "other"])
async def test_payloads_are_replaced_wherever_they_are(storage, disk, before, after):
    for made in (call("open", args=before), finished("ended", 2.0, args=before)):
        await write(storage, inserted=[made])
        changed = replace(made, args=after, result="sealed")
        assert await storage.rewrite([(replace(made, args="?"), changed)]) == 0
        assert await storage.rewrite([(made, changed)]) == 1
        assert (await stored(storage, made.id)).invocation == changed
        # Another payload of the row alone.
        again = replace(changed, result=b"sealed again")
        assert await storage.rewrite([(changed, again)]) == 1
        assert (await stored(storage, made.id)).invocation == again
    assert apart(disk) == only_sqlite(disk, *(["open"] if after is not SMALL else []))


async def test_messages_carry_them(storage, connect):
    client = await connect()
    made = call("a", args=OTHER)
    await client.enqueue([Call(made)])
    (message,) = await received(storage)
    assert message.message == Call(made)
    assert await storage.find_calls("a", limit=9) == [made]
    await write(storage, inserted=[made], inbox_deleted=[message.number])
    assert await client.find_calls("a", limit=9) == [made]
