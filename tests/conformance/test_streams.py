"""Chunks of streams: numbered in order, there once, read in bounded pages, gone with their call."""

from __future__ import annotations

import pytest

from fenbu._core import limit
from fenbu._core.message import Call
from fenbu._core.model import Chunk, Status
from fenbu._storage.stream import StreamCursor, StreamInfo, StreamPage
from tests.fixture.row import call, finished, write


def chunk(position: int, value: str | bytes | None = None, **fields) -> Chunk:
    payload = f'"{position}"' if value is None else value
    return Chunk(**{
        "id": "a", "stream": "log", "run": 0, "command": 0, "position": position, "at": 5.5,
        "value": payload, **fields,
    })  # fmt: skip


async def page(storage, id="a", stream="log", after=0, most=100) -> StreamPage:
    (found,) = await storage.load_chunks([StreamCursor(id, stream, after)], limit=most)
    return found


async def values(storage, **where) -> list[str | bytes | None]:
    return [each.value for each in (await page(storage, **where)).chunks]


async def test_every_field_comes_back_as_it_was(storage):
    written = [
        chunk(0, "text"),
        chunk(1, b"\x00\xff", run=3, command=7, at=1_700_000_000.123_457),
        chunk(2, b""),
        Chunk("a", "log", 0, 0, 3, 1.5, None, ends=True),
        chunk(0, "x" * 300_000, stream="ü 2"),
    ]
    await write(storage, inserted=[call("a")], chunks=written)
    found = [*(await page(storage)).chunks, *(await page(storage, stream="ü 2")).chunks]
    numbers = [each.number for each in found]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0
    assert [(each.value, each.ends, each.run, each.command, each.at) for each in found] == [
        (each.value, each.ends, each.run, each.command, each.at) for each in written
    ]
    assert [each.position for each in found] == [0, 1, 2, 3, 0]
    assert {type(each.ends) for each in found} == {bool}


@pytest.mark.guarantee("stream-once")
async def test_what_is_there_already_stays(storage):
    await write(storage, inserted=[call("a")], chunks=[chunk(0), chunk(1)])
    before = (await page(storage)).chunks
    again = [chunk(0, "again"), chunk(1, "again"), chunk(2), chunk(2, "twice in one batch")]
    await write(storage, chunks=again)
    after = (await page(storage)).chunks
    assert after[:2] == before
    assert [each.value for each in after[2:]] == ['"2"']
    others = [chunk(0, "run", run=1), chunk(0, "command", command=1), chunk(0, "s", stream="s")]
    await write(storage, chunks=others)
    assert (await values(storage))[3:] == ["run", "command"]
    assert await values(storage, stream="s") == ["s"]


async def test_in_pages_and_for_many_readers(storage):
    await write(
        storage,
        inserted=[call(each, number) for number, each in enumerate(("a", "b"), 1)],
        chunks=[chunk(number, id=each) for number in range(10) for each in ("a", "b")],
    )
    first = await page(storage, most=4)
    assert [each.value for each in first.chunks] == ['"0"', '"1"', '"2"', '"3"']
    assert not first.complete
    last = first.chunks[-1].number
    cursors = [
        StreamCursor("b", "log", 0),
        StreamCursor("a", "log", last),
        StreamCursor("a", "another", 0),
        StreamCursor("a", "log", 2**60),
        StreamCursor("unknown", "log", 0),
    ]
    found = await storage.load_chunks(cursors, limit=8)
    assert [len(each.chunks) for each in found] == [8, 6, 0, 0, 0]
    assert [each.complete for each in found] == [False, True, True, True, True]
    assert [each.status for each in found] == [*[Status.PENDING] * 4, None]
    assert [each.partition for each in found] == [1, 1, 1, 1, -1]
    assert found[1].chunks[0].value == '"4"'
    assert await storage.load_chunks([], limit=8) == []


async def test_what_is_known_of_the_call(storage):
    await write(storage, inserted=[finished("done", 9.0), call("open", status=Status.RUNNING)])
    await storage.enqueue([Call(call("sent", partition=7))])
    assert (await page(storage, "done")).status is Status.COMPLETED
    assert (await page(storage, "open")).status is Status.RUNNING
    sent = await page(storage, "sent")
    assert (sent.status, sent.partition) == (Status.PENDING, 7)


async def test_chunks_go_with_their_call_a_bounded_number_at_a_time(storage, monkeypatch):
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"fenbu._storage.{module}.retention.CHUNK_DELETE_ROWS_MAX", 10)
    assert limit.CHUNK_DELETE_ROWS_MAX > 10
    await write(
        storage,
        inserted=[finished("a", 1.0), finished("b", 2.0), finished("young", 50.0)],
        chunks=[
            *(chunk(number) for number in range(25)),
            chunk(0, id="b"),
            chunk(0, id="young"),
        ],
    )
    gone = 0
    while (deleted := await storage.delete_finished("checkout", 40.0, limit=100)) == 100:
        gone += 1
    assert gone <= 4
    assert deleted in (0, 1, 2)
    assert [each.invocation.id for each in await storage.load_calls(["a", "b", "young"])] == [
        "young"
    ]
    assert await values(storage) == await values(storage, id="b") == []
    assert await values(storage, id="young") == ['"0"']
    # Another call with this id begins anew, and its numbers are above the old ones.
    await write(storage, inserted=[call("a", 9)], chunks=[chunk(0, "new")])
    assert await values(storage) == ["new"]


async def test_streams_of_a_call_for_people(storage):
    await write(
        storage,
        inserted=[call("a")],
        chunks=[
            chunk(0, at=1.0),
            chunk(1, at=2.0),
            chunk(0, stream="closed", at=3.0),
            Chunk("a", "closed", 0, 0, 1, 4.0, None, ends=True),
        ],
    )
    assert await storage.list_streams("a") == [
        StreamInfo("closed", 1, True, 4.0),
        StreamInfo("log", 2, False, 2.0),
    ]
    assert await storage.list_streams("b") == []


async def test_the_end_of_a_log_now_and_at_an_instant(storage):
    assert await storage.last_chunk("a", "log") == 0
    await write(storage, chunks=[chunk(each, at=100.0 + each) for each in range(5)])
    await write(storage, chunks=[chunk(0, stream="other"), chunk(0, id="b")])
    numbers = [each.number for each in (await page(storage)).chunks]
    assert await storage.last_chunk("a", "log") == numbers[-1]
    assert await storage.last_chunk("a", "log", 102.0) == numbers[1]
    assert await storage.last_chunk("a", "log", 102.5) == numbers[2]
    assert await storage.last_chunk("a", "log", 100.0) == 0
    assert await values(storage, after=await storage.last_chunk("a", "log", 103.0)) == [
        '"3"',
        '"4"',
    ]


async def test_the_beginning_of_a_log_is_forgotten_a_bounded_number_at_a_time(storage):
    await write(storage, chunks=[chunk(each, at=100.0 + each) for each in range(6)])
    await write(storage, chunks=[chunk(0, stream="other", at=1.0), chunk(0, id="b", at=1.0)])
    assert await storage.delete_chunks("a", "log", 104.0, limit=3) == 3
    assert await values(storage) == ['"3"', '"4"', '"5"']
    assert await storage.delete_chunks("a", "log", 104.0, limit=3) == 1
    assert await storage.delete_chunks("a", "log", 104.0, limit=3) == 0
    assert await values(storage) == ['"4"', '"5"']
    # What was written before is not there again when it is written twice, which it never is; the rest is.
    await write(storage, chunks=[chunk(5), chunk(6)])
    assert await values(storage) == ['"4"', '"5"', '"6"']
    assert len(await values(storage, stream="other")) == len(await values(storage, id="b")) == 1
