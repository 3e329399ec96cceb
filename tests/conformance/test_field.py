"""Lazy fields of entities: rows that are written and deleted with a batch, and read by their names."""

from __future__ import annotations

from fenbu._core.model import EntityField, EntityState
from tests.fixture.row import write

CART = EntityState("Cart", "a ü", 1, "{}", 1, 1.0, None, None, '["log","note"]')


async def test_they_are_written_read_and_deleted_by_entity_key_and_name(storage):
    log, note = (
        EntityField("Cart", "a ü", "log", "[1]"),
        EntityField("Cart", "a ü", "note", b"\x91\x01"),
    )
    other = EntityField("Cart", "b", "log", "[2]")
    await write(storage, entities=[CART], fields=[log, note, other])
    assert await storage.load_entities([("Cart", "a ü")]) == [CART]
    wanted = [
        ("Cart", "a ü", "log"),
        ("Cart", "a ü", "note"),
        ("Cart", "a ü", "log"),
        ("Cart", "c", "log"),
    ]
    found = await storage.load_fields(wanted)
    assert sorted(found, key=lambda each: each.name) == [log, note]
    assert await storage.load_fields([]) == []
    later = EntityField("Cart", "a ü", "log", b"\x00")
    again = EntityField("Cart", "a ü", "note", "text")
    await write(storage, fields=[later, again], fields_deleted=[("Cart", "b", "log")])
    assert await storage.scan_fields(("", "", ""), limit=9) == [later, again]
    await write(
        storage,
        entities_deleted=[("Cart", "a ü")],
        fields_deleted=[("Cart", "a ü", "log"), ("Cart", "a ü", "note"), ("Cart", "gone", "log")],
    )
    assert await storage.scan_fields(("", "", ""), limit=9) == []
    assert await storage.load_entities([("Cart", "a ü")]) == []


async def test_their_sizes_are_told_in_bytes(storage):
    await write(
        storage,
        fields=[
            EntityField("Cart", "a", "note", '"é"'),
            EntityField("Cart", "a", "log", b"\x00\x01\x02"),
            EntityField("Cart", "b", "log", "[]"),
        ],
    )
    assert await storage.list_fields("Cart", "a") == [("log", 3), ("note", 4)]
    assert await storage.list_fields("Cart", "c") == []


async def test_the_names_go_from_a_state_that_is_written_without_them(storage):
    await write(storage, entities=[CART])
    plain = EntityState("Cart", "a ü", 1, "{}", 1, 2.0)
    await write(storage, entities=[plain])
    assert await storage.load_entities([("Cart", "a ü")]) == [plain]
    assert await storage.scan_entities(("", ""), limit=9) == [plain]
    assert await storage.list_entities("Cart", limit=9) == [plain]
