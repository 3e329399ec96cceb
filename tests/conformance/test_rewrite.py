"""Rows get other payloads that mean the same, unless they have changed."""

from __future__ import annotations

from msgspec.structs import replace

from fenbu._core.model import Chunk, EntityField, EntityState, Failure, Heartbeat
from tests.fixture.row import entry, full_call, full_entry, stored, write

SEALED = Failure("shop:OutOfStock", "sealed:abc")


async def test_every_payload_and_text_is_replaced(storage):
    call, full, small = full_call(), full_entry("full", 1), entry("full", 2, value='"a"')
    state = EntityState("Stock", "a", 7, '{"n":1}', 1, 2.5)
    await write(storage, inserted=[call], entries=[full, small], entities=[state])
    changes = [
        (
            call,
            replace(call, args='"x"', result=b"y", failure=SEALED, waiting="w", cancel_reason=None),
        ),
        (full, replace(full, name="n", value='"v"', failure=SEALED)),
        (small, replace(small, value=b"\xc1")),
        (state, replace(state, state=b"\xc1s")),
    ]
    assert await storage.rewrite(changes) == 4
    loaded = await stored(storage, "full")
    assert [loaded.invocation, *loaded.entries] == [after for _, after in changes[:3]]
    assert await storage.load_entities([("Stock", "a")]) == [changes[3][1]]
    # They are not as they were any more.
    assert await storage.rewrite(changes) == 0


async def test_lazy_fields_are_scanned_in_order_and_rewritten(storage):
    places = sorted(
        [("Cart", "ü", "a"), ("Cart", "a", "é"), ("Cart", "a", "a"), ("Stock", "", "z")]
    )
    written = [EntityField(*place, '"v"') for place in places]
    await write(storage, fields=written[::-1])
    after, seen = ("", "", ""), []
    while page := await storage.scan_fields(after, limit=3):
        assert len(page) <= 3
        seen += page
        after = (page[-1].entity, page[-1].key, page[-1].name)
    assert seen == written
    changes = [
        (seen[0], replace(seen[0], value=b"\xc1")),
        (replace(seen[1], value='"other"'), replace(seen[1], value='"w"')),
        (replace(seen[2], name="gone"), seen[2]),
        (seen[3], replace(seen[3], value='"x"')),
    ]
    assert await storage.rewrite(changes) == 2
    found = await storage.scan_fields(("", "", ""), limit=9)
    assert found == [changes[0][1], *seen[1:3], changes[3][1]]


async def test_chunks_are_scanned_by_their_numbers_and_rewritten(storage):
    texts = [Chunk(call, "s", 0, 0, place, 1.0, '"a"') for call in "ba" for place in (0, 1)]
    written = [
        *texts,
        Chunk("b", "t", 0, 1, 0, 2.0, b"\x01"),
        Chunk("b", "s", 0, 2, 0, 3.0, ends=True),
    ]
    await write(storage, chunks=written)
    after, seen = 0, []
    while page := await storage.scan_chunks(after, limit=4):
        assert len(page) <= 4
        seen += page
        after = page[-1].number
    assert [replace(each, number=0) for each in seen] == written
    changes = [
        (seen[0], replace(seen[0], value=b"\xc1")),
        (seen[4], replace(seen[4], value='"b"')),
        (replace(seen[1], value='"other"'), replace(seen[1], value='"c"')),
        (replace(seen[2], number=after + 1), seen[2]),
    ]
    assert await storage.rewrite(changes) == 2
    found = await storage.scan_chunks(0, limit=10)
    assert found == [changes[0][1], *seen[1:4], changes[1][1], seen[5]]


async def test_heartbeats_are_replaced_unless_there_is_a_newer_one(storage):
    call = replace(full_call(), heartbeats=(Heartbeat(0, 1.0, '"a"'), Heartbeat(2, 2.5, data=b"b")))
    await write(storage, inserted=[call])
    sealed = replace(call, heartbeats=(Heartbeat(0, 1.0, data=b"\xc1"), Heartbeat(2, 2.5, "c")))
    newer = replace(call, heartbeats=(Heartbeat(0, 9.0, '"a"'),))
    assert await storage.rewrite([(newer, sealed)]) == 0
    assert await storage.rewrite([(call, sealed)]) == 1
    assert (await stored(storage, "full")).invocation == sealed


async def test_a_row_that_has_changed_is_left_alone(storage):
    call, state = full_call(), EntityState("Stock", "a", 7, '{"n":1}', 1, 2.5)
    await write(storage, inserted=[call], entities=[state])
    newer = replace(call, result='"newer"')
    await write(storage, updated=[newer], entities=[replace(state, state='{"n":2}')])
    rewritten = await storage.rewrite(
        [
            (call, replace(call, args="[2]")),
            (replace(call, id="gone"), call),
            (state, replace(state, state="{}")),
            (replace(state, key="gone"), state),
            (entry("gone"), entry("gone", value="1")),
        ]
    )
    assert rewritten == 0
    assert (await stored(storage, "full")).invocation == newer
    (found,) = await storage.load_entities([("Stock", "a")])
    assert found.state == '{"n":2}'


async def test_entities_are_scanned_page_by_page_in_order(storage):
    names = sorted([("Cart", "ü"), ("Cart", "a"), ("Stock", ""), ("Stock", "b"), ("a", "z")])
    states = [EntityState(*name, 1, "{}", 1, 0.0) for name in names]
    await write(storage, entities=states[::-1])
    after, seen = ("", ""), []
    while page := await storage.scan_entities(after, limit=2):
        assert len(page) <= 2
        seen += page
        after = (page[-1].entity, page[-1].key)
    assert seen == states
