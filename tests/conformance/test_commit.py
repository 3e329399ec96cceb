from __future__ import annotations

import asyncio

import pytest

from fenbu._core.message import Cancel
from fenbu._core.model import Address, EntityState, Failure, Status
from fenbu._storage.protocol import CommitBatch, CommitOutcome
from fenbu.errors import InternalError
from tests.fixture.row import call, entry, full_call, full_entry, received, stored, write


async def test_every_field_comes_back_as_it_was(storage):
    await write(storage, inserted=[full_call()], entries=[full_entry("full", 0)])
    loaded = await stored(storage, "full")
    assert loaded.invocation == full_call()
    assert loaded.entries == [full_entry("full", 0)]


async def test_absent_fields_stay_absent(storage):
    await write(storage, inserted=[call("a")], entries=[entry("a")])
    loaded = await stored(storage, "a")
    assert loaded.invocation == call("a")
    assert loaded.entries == [entry("a")]


@pytest.mark.parametrize(
    "payload", ["", "12", '"é\U0001f600"', "x" * 300_000, b"", b"12", b"\x00\xff"]
)
async def test_a_payload_keeps_its_type(storage, payload):
    await write(
        storage,
        inserted=[call("a", args=payload, result=payload)],
        entries=[entry("a", value=payload)],
        entities=[EntityState("Stock", "1", 1, payload)],
    )
    loaded = await stored(storage, "a")
    (entity,) = await storage.load_entities([("Stock", "1")])
    found = [
        loaded.invocation.args,
        loaded.invocation.result,
        loaded.entries[0].value,
        entity.state,
    ]
    assert [(type(each), each) for each in found] == [(type(payload), payload)] * 4


async def test_an_update_writes_what_can_change_and_nothing_else(storage):
    await write(storage, inserted=[call("full", partition=2)])
    await write(storage, updated=[full_call()])
    found = (await stored(storage, "full")).invocation
    wanted, old = full_call(), call("full", partition=2)
    for kept in (
        "handler", "version", "entity", "key", "args", "created_at", "parent", "chain",
        "context",
    ):  # fmt: skip
        setattr(wanted, kept, getattr(old, kept))
    assert found == wanted


async def test_an_update_can_clear_fields(storage):
    await write(storage, inserted=[full_call()])
    changed = full_call()
    changed.started_at = changed.finished_at = changed.wake_at = changed.waiting = None
    changed.cancel_reason = changed.commands = changed.result = changed.failure = None
    changed.deadline_at, changed.waiters, changed.status = None, (), Status.PENDING
    await write(storage, updated=[changed])
    assert (await stored(storage, "full")).invocation == changed


async def test_of_two_updates_in_a_batch_the_last_counts(storage):
    await write(storage, inserted=[call("a"), call("b")])
    await write(storage, updated=[call("a", attempt=1), call("b", attempt=5), call("a", attempt=2)])
    assert (await stored(storage, "a")).invocation.attempt == 2
    assert (await stored(storage, "b")).invocation.attempt == 5


async def test_a_call_inserted_and_updated_in_one_batch_has_the_update(storage):
    await write(storage, inserted=[call("a")], updated=[call("a", attempt=3)])
    assert (await stored(storage, "a")).invocation.attempt == 3


async def test_an_update_of_no_row_is_passed_over(storage):
    await write(storage, updated=[call("gone")], entries=[])
    assert await storage.load_calls(["gone"]) == []


async def test_deleted_calls_go_with_what_the_same_batch_writes_of_them(storage):
    await write(storage, inserted=[call("a"), call("b")], entries=[entry("a", 0), entry("b", 0)])
    await write(storage, updated=[call("a")], entries=[entry("a", 1)], deleted=["a", "unknown"])
    assert await storage.load_calls(["a"]) == []
    await write(storage, inserted=[call("a")])
    assert (await stored(storage, "a")).entries == []
    assert (await stored(storage, "b")).entries == [entry("b", 0)]


async def test_a_call_begins_anew_in_the_same_batch(storage):
    await write(storage, inserted=[call("a"), call("b")], entries=[entry("a", 0), entry("a", 1)])
    new = call("a", args='{"n": 2}', version=2, attempt=1)
    changed = call("a", attempt=7)
    await write(storage, rewritten=[new], updated=[changed], entries=[entry("a", 0, name="new")])
    found = await stored(storage, "a")
    assert (found.invocation, found.entries) == (new, [entry("a", 0, name="new")])
    assert (await stored(storage, "b")).invocation == call("b")


async def test_a_call_that_begins_anew_and_is_deleted_is_gone(storage):
    await write(storage, inserted=[call("a")], entries=[entry("a", 0)])
    await write(storage, rewritten=[call("a", version=2)], deleted=["a"])
    assert await storage.load_calls(["a"]) == []


async def test_entities_are_written_replaced_and_deleted(storage):
    keys = [("Stock", "1"), ("Stock", "2"), ("Cart", '["1"]')]
    first = [EntityState(entity, key, 3, "{}", 1, 10.5) for entity, key in keys]
    await write(storage, entities=first)
    changed = EntityState("Stock", "1", 3, b"\x81", 2, 11.5)
    await write(storage, entities=[changed], entities_deleted=[("Stock", "2"), ("Stock", "none")])
    found = await storage.load_entities([*keys, ("Stock", "none")])
    assert sorted(found, key=lambda each: each.entity) == [first[2], changed]


@pytest.mark.guarantee("message-once-in-order")
async def test_messages_are_added_and_deleted_with_the_batch(storage):
    await write(storage, inbox=[Cancel(1, "a", "first"), Cancel(2, "b", "second")])
    first, second = await received(storage)
    assert (first.message, second.message) == (Cancel(1, "a", "first"), Cancel(2, "b", "second"))
    await write(storage, inbox=[Cancel(3, "c", "third")], inbox_deleted=[first.number])
    left = await received(storage)
    assert [each.message.id for each in left] == ["b", "c"]


async def test_an_empty_batch_is_committed(storage):
    await write(storage)


@pytest.mark.parametrize("count", [1, 2, 5, 100, 1025, 3000])
async def test_batches_of_any_size_are_written_whole(storage, count):
    ids = [f"call-{number:05}" for number in range(count)]
    calls = [call(each, number) for number, each in enumerate(ids)]
    await write(
        storage,
        inserted=calls,
        entries=[entry(each, position) for each in ids for position in range(2)],
        entities=[EntityState("Stock", each, 1, "{}") for each in ids],
        inbox=[Cancel(1, each, "why") for each in ids],
    )
    for each in calls:
        each.attempt = 7
    await write(storage, updated=calls)
    loaded = await storage.load_calls(ids)
    assert sorted(each.invocation.id for each in loaded) == ids
    assert all(each.invocation.attempt == 7 and len(each.entries) == 2 for each in loaded)
    arrived = await received(storage)
    assert [each.message.id for each in arrived] == ids
    assert len(await storage.load_entities([("Stock", each) for each in ids])) == count
    await write(
        storage,
        deleted=ids,
        entities_deleted=[("Stock", each) for each in ids],
        inbox_deleted=[each.number for each in arrived],
    )
    assert await storage.load_calls(ids) == []
    assert await storage.inbox_count() == 0


@pytest.mark.guarantee("one-outcome")
async def test_an_id_is_inserted_once(storage):
    await write(storage, inserted=[call("a")])
    with pytest.raises(InternalError):
        await storage.commit(
            CommitBatch(inserted=[call("b"), call("a", attempt=9)], entries=[entry("b")])
        )
    assert [each.invocation for each in await storage.load_calls(["a", "b"])] == [call("a")]


@pytest.mark.guarantee("step-once")
async def test_a_journal_entry_is_written_once(storage):
    await write(storage, inserted=[call("a")], entries=[entry("a")])
    with pytest.raises(InternalError):
        await storage.commit(CommitBatch(inserted=[call("b")], entries=[entry("a", name="other")]))
    assert (await stored(storage, "a")).entries == [entry("a")]
    assert await storage.load_calls(["b"]) == []


async def test_the_batch_is_copied_before_the_first_suspension(storage):
    mine, its = call("a"), entry("a")
    batch = CommitBatch(inserted=[mine], entries=[its])
    commit = storage.commit(batch)
    task = asyncio.create_task(commit)
    await asyncio.sleep(0)
    mine.attempt, its.name, mine.waiters = 9, "changed", (Address(1, "x", 1),)
    mine.failure = Failure("a:B", "changed")
    batch.entries.append(entry("a", 1))
    assert (await task).outcome is CommitOutcome.COMMITTED
    loaded = await stored(storage, "a")
    assert loaded.invocation == call("a")
    assert loaded.entries == [entry("a")]


async def test_what_is_loaded_belongs_to_the_caller(storage):
    await write(storage, inserted=[call("a")], entries=[entry("a")])
    loaded = await stored(storage, "a")
    loaded.invocation.attempt = 9
    loaded.entries[0].name = "changed"
    loaded.entries.clear()
    again = await stored(storage, "a")
    assert again.invocation == call("a")
    assert again.entries == [entry("a")]


async def test_a_cancelled_caller_does_not_stop_what_follows(storage):
    task = asyncio.create_task(storage.commit(CommitBatch(inserted=[call("a")])))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await write(storage, inserted=[call("b")])
    assert (await stored(storage, "b")).invocation == call("b")


async def test_commits_that_wait_for_each_other_keep_their_order(storage):
    await write(storage, inserted=[call("a")])
    batches = [CommitBatch(updated=[call("a", attempt=number)]) for number in range(20)]
    await asyncio.gather(*(storage.commit(each) for each in batches))
    assert (await stored(storage, "a")).invocation.attempt == 19
