"""What is exported is of one moment; what is imported comes as a whole, or not at all."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from fenbu._core.message import Call, Cancel, Reply, Restore, Signal, Update
from fenbu._core.model import Address, Chunk, EntityState, Outcome, Status
from fenbu._core.tree import Look, Seen, Walk
from tests.fixture.row import call, entry, finished, full_call, full_entry, received, write

CANCEL = Cancel(1, "a", "why")


def once(look: Look) -> Walk[Seen]:
    return (yield look)


def ids_of(seen: Seen) -> list[str]:
    return sorted(each.invocation.id for each in seen.calls)


async def test_everything_is_seen_as_it_is(storage):
    whole = full_call()
    first, second = full_entry("full", 1), entry("full", 2, value="1")
    chunks = [
        Chunk("full", "said", 0, 1, 0, 5.0, "1"),
        Chunk("a", "said", 0, 1, 0, 5.0, "2"),
        Chunk("full", "other", 0, 2, 0, 6.0, b"\xff"),
        Chunk("full", "said", 0, 3, 0, 7.0, ends=True),
    ]
    state = EntityState("Stock", "ü", 5, b"\x01", 2, 7.0)
    mail = [Signal(1, "a", "go", "1"), Signal(3, "full", "go", b"\x80"), Cancel(1, "a", "why")]
    await write(
        storage,
        inserted=[whole, call("a")],
        entries=[first, second],
        chunks=chunks,
        entities=[state],
        inbox=mail,
    )
    look = Look(["full", "nobody"], entities=[("Stock", "ü"), ("Stock", "x")], messages=True)
    seen = await storage.snapshot(once(look))
    (found,) = seen.calls
    assert found.invocation == whole
    assert found.entries == [first, second]
    assert [replace(each, number=0) for each in seen.chunks] == [chunks[0], chunks[2], chunks[3]]
    assert [each.number for each in seen.chunks] == sorted(each.number for each in seen.chunks)
    assert seen.states == [state]
    assert seen.messages == mail
    assert not seen.children
    nothing = await storage.snapshot(once(Look([])))
    assert nothing == Seen([])


async def test_calls_are_found_by_who_waits_for_them(storage):
    rows = [
        call("a", 1, parent=Address(3, "p", 1)),
        call("b", 2, parent=Address(3, "p", 12, 2)),
        finished("c", 9.0, parent=Address(3, "p", 2)),
        call("d", 3, parent=Address(4, "p", 1)),
        call("e", 4, parent=Address(3, "p2", 1)),
        call("f", 5, parent=Address(30, "p", 1)),
        call("g", 6, parent=Address(3, 'q"ü', 1)),
        call("h", 7),
    ]
    await write(storage, inserted=rows)

    async def children(*parents: tuple[int, str]) -> list[str]:
        return sorted((await storage.snapshot(once(Look([], list(parents))))).children)

    assert await children((3, "p")) == ["a", "b", "c"]
    assert await children((4, "p"), (3, 'q"ü')) == ["d", "g"]
    assert await children((5, "p")) == []


@pytest.mark.guarantee("message-once-in-order")
async def test_a_message_is_with_its_receiver_or_on_its_way(storage, connect):
    """Every look of a walk is of the same moment, whatever is committed meanwhile."""
    client = await connect()
    count = 30
    await write(
        storage, inserted=[call("a")], inbox=[Signal(1, "a", "go", str(n)) for n in range(count)]
    )
    mail = await received(storage)

    def walk() -> Walk[list[tuple[int, int]]]:
        found: list[tuple[int, int]] = []
        for _ in range(8):
            seen = yield Look(["a"], messages=True)
            found.append((len(seen.messages), len(seen.calls[0].entries)))
        return found

    async def apply() -> None:
        for position, each in enumerate(mail, 1):
            await write(storage, entries=[entry("a", position)], inbox_deleted=[each.number])

    async def look() -> list[list[tuple[int, int]]]:
        return [await client.snapshot(walk()) for _ in range(10)]

    found, _ = await asyncio.gather(look(), apply())
    for looks in found:
        assert len(set(looks)) == 1
        assert sum(looks[0]) == count


async def test_calls_from_elsewhere_come_as_a_whole(storage, connect):
    client = await connect()
    chunk = Chunk("a", "said", 0, 1, 0, 5.0, b"\xff")
    coming = [
        Restore(call("a"), [entry("a", 1)], (chunk,)),
        Restore(finished("b", 5.0), []),
        Signal(1, "a", "go", "1"),
        Reply(Address(1, "a", 2), Outcome(Status.COMPLETED, "1")),
        Update(1, "a", call("a/@u")),
    ]
    assert await client.enqueue_new(coming) == []
    assert [each.message for each in await received(storage)] == coming
    # They exist from now on, as messages …
    assert await client.enqueue_new([Restore(call("c"), []), Restore(call("b"), []), CANCEL]) == [
        "b"
    ]
    assert await client.enqueue_new(coming) == ["a", "a/@u", "b"]
    assert await storage.inbox_count() == len(coming)
    # … and as rows.
    await write(storage, inserted=[call("d"), finished("e", 5.0)])
    assert await client.enqueue_new([Call(call("e")), Restore(call("d"), [])]) == ["d", "e"]
    assert await client.enqueue_new([Restore(call("f"), []), Signal(1, "d", "go", "1")]) == []
    assert await storage.inbox_count() == len(coming) + 2


async def test_of_two_imports_at_once_one_comes(storage, connect):
    clients = [await connect() for _ in range(4)]
    coming = [Restore(call("a"), []), Restore(call("b"), []), Signal(1, "a", "go", "1")]
    answers = await asyncio.gather(*(each.enqueue_new(coming) for each in clients))
    assert sorted(answers) == [[], *[["a", "b"]] * 3]
    assert len(await received(storage)) == len(coming)
